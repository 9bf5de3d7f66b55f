"""Export of a finished study: an arm's replicates as a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from study.data.scaling import Scaler
from study.errors import InputError, StudyError
from study.experiment.confirm import BASINS
from study.experiment.jobs import checkpoint_key, identity
from study.experiment.ledger import Ledger
from study.experiment.progress import is_finished, mean_scores
from study.experiment.storage import Storage
from study.export.bundle import FORMAT, InputEntry, Manifest, input_entries, write_bundle
from study.training.checkpoint import weights


def export_arm(book: Ledger, storage: Storage, arm_name: str, out: Path) -> None:
    """Write the bundle of an arm's replicates.

    Raises:
        InputError: The study has no such arm.
        StudyError: The study is not finished, or the arm could not be trained.
        BundleError: The folder exists or cannot be written.
    """
    if arm_name not in book.arms:
        raise InputError(
            f"study {book.spec.name} has no arm `{arm_name}`; its arms are {', '.join(book.arms)}"
        )
    if not is_finished(book):
        raise StudyError(f"study {book.spec.name} is not finished; go on with `study run`")
    spec, arm = book.spec, book.arms[arm_name]
    jobs = [job for job in book.replicates(arm_name) if job.key in book.evaluations]
    if not jobs:
        raise StudyError(f"arm {arm_name} could not be trained; see `study report`")
    config = arm.training(spec.training, jobs[0].hyperparameters)
    index = json.loads(storage.read(BASINS))
    scaler = Scaler(**index["scaler"])
    manifest = Manifest(
        format=FORMAT,
        study=spec.name,
        arm=arm.name,
        factors=dict(arm.levels),
        model=arm.model,
        training=config,
        attributes_source=spec.data.attributes_source,
        dynamic_inputs=input_entries(arm.inputs.dynamic, scaler),
        static_inputs=input_entries(arm.inputs.static, scaler),
        baseline=None if arm.inputs.baseline is None else _discharge(arm.inputs.baseline, scaler),
        target=_discharge("qobs", scaler),
        periods={name: str(period) for name, period in spec.data.periods if period is not None},
        basins=tuple(index["basins"]),
        metrics=mean_scores(book, arm_name),
        digests=book.header["digests"],
        provenance=book.header["provenance"],
        checksums={},
    )
    keys = [checkpoint_key(identity(spec, j.key, config), spec.training.epochs) for j in jobs]
    attributes = pd.DataFrame(
        {name: index["attributes"][name] for name in arm.inputs.static}, index=index["basins"]
    )
    write_bundle(out, manifest, [weights(storage.read(key)) for key in keys], attributes)


def _discharge(name: str, scaler: Scaler) -> InputEntry:
    return InputEntry(name=name, units="mm/d", mean=scaler.qobs_mean, std=scaler.qobs_std)
