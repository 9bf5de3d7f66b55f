"""The model registry: bundles as versions of a registered model, the best under an alias.

A registered model has the study's name. A version is logged as MLflow's flavour `python_function`
with a loader module in the place of a pickle: its data is the bundle, file by file.
"""

from __future__ import annotations

import importlib.metadata
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import yaml
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, Schema

from study.errors import InputError, StudyError
from study.experiment.ledger import Ledger
from study.experiment.tracking.tracker import UID

CHAMPION, CHALLENGER = "champion", "challenger"
REGISTERED = re.compile(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))")
REQUIREMENTS = (
    "onnxruntime",
    "numpy",
    "pandas",
    "xarray",
    "safetensors",
    "pydantic",
    "cryptography",
)
"""What a server needs beside this package, which is not named: another one has its name in the
public index."""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a registered model."""

    name: str
    number: int
    tags: Mapping[str, str]


class Registry:
    """The registered models of a tracking server or database.

    Every method raises StudyError if the server does not answer.
    """

    def __init__(self, uri: str):
        self.uri = uri
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def by_alias(self, name: str, alias: str) -> Version | None:
        """The version that has an alias, if one has."""
        try:
            found = self._client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise self._failed(error) from None
        return Version(name=name, number=int(found.version), tags=dict(found.tags))

    def with_tags(self, name: str, tags: Mapping[str, str]) -> Version | None:
        """The latest version that has all these tags."""
        try:
            found = self._client.search_model_versions(f"name = '{name}'")
        except MlflowException as error:
            raise self._failed(error) from None
        fitting = [v for v in found if tags.items() <= dict(v.tags).items()]
        if not fitting:
            return None
        last = max(fitting, key=lambda v: int(v.version))
        return Version(name=name, number=int(last.version), tags=dict(last.tags))

    def register(
        self,
        name: str,
        bundle: Path,
        *,
        loader: str,
        example: pd.DataFrame,
        optional: frozenset[str],
        outputs: tuple[str, ...],
        tags: Mapping[str, str],
        description: str,
        runs: Sequence[str],
    ) -> Version:
        """Log a bundle as a model and register it as a new version, without any alias.

        Args:
            name: Of the registered model.
            bundle: Folder.
            loader: Module whose `_load_pyfunc` reads the bundle.
            example: A request; its columns are the signature's.
            optional: Those of them that a request may leave out.
            outputs: Columns of an answer beside `gauge_id` and `date`.
            tags: Of the version.
            description: Markdown.
            runs: Those that show the model; it comes from the first.
        """
        texts = ("gauge_id", "date")
        columns = {str(c): DataType.string if c in texts else DataType.double for c in example}
        inputs = [ColSpec(t, c, required=c not in optional) for c, t in columns.items()]
        answer = [ColSpec(DataType.string, c) for c in texts]
        answer += [ColSpec(DataType.double, c) for c in outputs]
        signature = ModelSignature(inputs=Schema(inputs), outputs=Schema(answer))
        try:
            logged = self._log(name, bundle, loader, signature, example, tags, runs)
            with suppress(MlflowException):  # it is there already
                self._client.create_registered_model(name)
            made = self._client.create_model_version(
                name,
                # not models:/ID, which a database looks up at the process's tracking server
                source=logged.artifact_location,
                run_id=runs[0],
                tags=dict(tags),
                description=description,
                model_id=logged.model_id,
            )
        except MlflowException as error:
            raise self._failed(error) from None
        return Version(name=name, number=int(made.version), tags=dict(tags))

    def _log(
        self,
        name: str,
        bundle: Path,
        loader: str,
        signature: ModelSignature,
        example: pd.DataFrame,
        tags: Mapping[str, str],
        runs: Sequence[str],
    ) -> LoggedModel:
        experiment = self._client.get_run(runs[0]).info.experiment_id
        logged = self._client.create_logged_model(
            experiment, name=name, source_run_id=runs[0], tags=dict(tags), model_type="runoff"
        )
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            # MLflow warns of its own type hints and of its own use of pandas.
            warnings.simplefilter("ignore")
            import mlflow.pyfunc

            mlflow.pyfunc.save_model(
                Path(folder, "model"),
                loader_module=loader,
                data_path=str(bundle),
                mlflow_model=Model(model_id=logged.model_id),
                signature=signature,
                input_example=example,
                pip_requirements=[f"{p}=={importlib.metadata.version(p)}" for p in REQUIREMENTS],
            )
            self._client.log_model_artifacts(logged.model_id, str(Path(folder, "model")))
        self._client.finalize_logged_model(logged.model_id, "READY")
        for run in runs:
            self._client.log_outputs(run, [LoggedModelOutput(logged.model_id, step=0)])
        return logged

    def set_alias(self, version: Version, alias: str) -> None:
        """Give a version an alias, and take it from the one that has it."""
        try:
            self._client.set_registered_model_alias(version.name, alias, str(version.number))
        except MlflowException as error:
            raise self._failed(error) from None

    def delete_alias(self, name: str, alias: str) -> None:
        try:
            self._client.delete_registered_model_alias(name, alias)
        except MlflowException as error:
            raise self._failed(error) from None

    def fetch(self, model: str, folder: Path) -> Path:
        """Download the bundle of a registered model.

        Args:
            model: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
            folder: Where to.

        Returns:
            The bundle's folder.

        Raises:
            InputError: There is no such model, or it is none of this platform.
        """
        named = REGISTERED.fullmatch(model)
        if named is None:
            raise InputError(f"{model}: give models:/NAME@champion or models:/NAME/VERSION")
        name, alias, number = named.groups()
        client = self._client
        try:
            # Not by the model's name: MLflow would look that up at the process's own server.
            if alias is not None:
                number = client.get_model_version_by_alias(name, alias).version
            source = client.get_model_version_download_uri(name, number)
            place = Path(download_artifacts(source, dst_path=str(folder), tracking_uri=self.uri))
            facts = yaml.safe_load((place / "MLmodel").read_text())
            data = Path(place, facts["flavors"]["python_function"]["data"]).resolve()
            if not data.is_relative_to(folder.resolve()):
                raise KeyError("data")
        except MlflowException as error:
            raise InputError(
                f"{model}: cannot be fetched from {self.uri} ({_first_line(error)}); "
                "give models:/NAME@champion or models:/NAME/VERSION, and its --tracking-uri"
            ) from None
        except (OSError, KeyError, TypeError, yaml.YAMLError):
            raise InputError(f"{model}: is no model that `study` registered") from None
        return data

    def _failed(self, error: Exception) -> StudyError:
        return StudyError(f"{self.uri}: the model registry refused ({_first_line(error)})")


def runs_of_arm(book: Ledger, uri: str, arm: str) -> tuple[str, ...]:
    """The runs of an arm and of its replicates on a server that has followed the study.

    Raises:
        StudyError: The server does not answer, or does not know this study.
    """
    client = MlflowClient(tracking_uri=uri)
    name, uid = book.spec.name, book.header.get("uid", "")
    found = []
    try:
        experiment = client.get_experiment_by_name(name)
        for stage in ("arm", "replicate") if experiment is not None else ():
            facts = {"study.stage": stage, "study.arm": arm, UID: uid}
            query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in facts.items())
            found += client.search_runs([experiment.experiment_id], query)
    except (MlflowException, OSError) as error:
        raise StudyError(f"{uri}: MLflow does not answer ({error})") from None
    if not found:
        raise StudyError(f"{uri}: does not know study {name}; give the --tracking-uri it ran with")
    return tuple(run.info.run_id for run in found)


def _first_line(error: Any) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0][:300]
