"""Where a study keeps its results: small named objects, written whole or not at all.

`Storage` says what every place promises; `LocalStorage` is a folder, `S3Storage` a prefix of a
bucket (only `open_storage` loads it, and boto3, when there is one).
"""

from study.experiment.storage.driver import only_driver
from study.experiment.storage.folders import put_folder, replacing, results_folder, working_folder
from study.experiment.storage.local import LocalStorage
from study.experiment.storage.opening import is_s3, open_storage, study_storage
from study.experiment.storage.protocol import Storage
from study.experiment.storage.reading import read_result

__all__ = [
    "LocalStorage",
    "Storage",
    "is_s3",
    "only_driver",
    "open_storage",
    "put_folder",
    "read_result",
    "replacing",
    "results_folder",
    "study_storage",
    "working_folder",
]
