"""Export of a finished study: an arm's replicates as a bundle."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from study.data.licences import Origin
from study.data.scaling import Scaler
from study.errors import InputError, StudyError
from study.experiment.arms import Arm
from study.experiment.confirm import BASINS
from study.experiment.jobs import Job, checkpoint_key, identity
from study.experiment.ledger import Ledger
from study.experiment.progress import is_finished
from study.experiment.storage import Storage, read_result
from study.export.build import build_bundle
from study.export.manifest import (
    FORMAT,
    SCALE,
    InputEntry,
    Licence,
    Manifest,
    Simulation,
    input_entries,
)
from study.report import figures
from study.report.evidence import Evidence, gather, summary
from study.report.statistics import arm_interval
from study.seeding import derive
from study.spec import PLACEBO, TrainingSpec
from study.training.checkpoint import weights


def export_arm(
    book: Ledger,
    storage: Storage,
    arm_name: str,
    out: str | Path,
    *,
    members: int | None = None,
    key: Path | None = None,
    evidence: Evidence | None = None,
) -> Manifest:
    """Write the bundle of an arm's replicates.

    Args:
        book: The study.
        storage: Its results.
        arm_name: The arm.
        out: New folder, new `.tar`, or `s3://bucket/key`.
        members: The first so many replicates; all if None.
        key: Private key that signs the bundle.
        evidence: What the replicates say; read from the results if None.

    Raises:
        InputError: The study has no such arm, or fewer replicates.
        StudyError: The study is not finished, or the arm could not be trained.
        BundleError: The place is taken or cannot be written.
    """
    jobs = _replicates(book, arm_name, members)
    spec, arm = book.spec, book.arms[arm_name]
    if placebo := next((n for n in arm.inputs.daily if PLACEBO.fullmatch(n)), None):
        raise InputError(
            f"arm {arm_name} is a control: it is fed with {placebo}, values of other years, which "
            "no forecaster has; export another arm (--arm)"
        )
    config = arm.training(spec.training, jobs[0].hyperparameters)
    index = json.loads(read_result(storage, BASINS))
    evidence = gather(book, storage) if evidence is None else evidence
    places = [checkpoint_key(identity(spec, j.key, config), spec.training.epochs) for j in jobs]
    manifest = _manifest(book, arm, jobs, config, index, evidence)
    told = index["attributes"] | {SCALE: index.get("basin_scale")}
    attributes = pd.DataFrame(
        {name: told[name] for name in manifest.attributes}, index=index["basins"]
    )
    return build_bundle(
        out,
        manifest,
        [weights(read_result(storage, place)) for place in places],
        attributes,
        figure=_figure(evidence, arm_name),
        key=key,
    )


def _manifest(
    book: Ledger,
    arm: Arm,
    jobs: list[Job],
    config: TrainingSpec,
    index: dict[str, Any],
    evidence: Evidence,
) -> Manifest:
    """All that is known of an arm's replicates, before their files have checksums."""
    spec = book.spec
    training = config.model_dump(mode="json") | {
        "seeds": [job.key.seed for job in jobs],
        "trial": jobs[0].key.trial,
    }
    return Manifest(
        format=FORMAT,
        name=f"{spec.name}: {arm.name}",
        study=spec.name,
        arm=arm.name,
        factors=dict(arm.levels),
        model=arm.model,
        hidden_size=config.hidden_size,
        output=config.output,
        discharge_scale=config.discharge_scale,
        members=len(jobs),
        simulation=Simulation(
            mode=config.simulation,
            warmup=config.warmup,
            targets_per_window=config.targets_per_window,
        ),
        training=training,
        attributes_source=spec.data.attributes_source,
        **_input_facts(index, arm),
        periods={name: str(period) for name, period in spec.data.periods if period is not None},
        basins=tuple(index["basins"]),
        held_out=tuple(spec.data.held_out),
        metrics={name: _scores(book, evidence, arm.name, name) for name in evidence.periods},
        licences=_licences(book, index),
        digests=book.header["digests"],
        provenance=book.header["provenance"] | {"spec_digest": spec.digest()},
        checksums={},
    )


def _licences(book: Ledger, index: dict[str, Any]) -> tuple[Licence, ...]:
    """Terms of the data, as the store said when replicates were scored; version 0.1.0 did not
    write them down."""
    stated = index.get("licences")
    if stated is None:
        sources = index.get("sources", {})
        origin = Origin(
            source=sources.get("qobs"),
            product=index.get("product"),
            snow_column=sources.get("swe"),
        )
        stated = [vars(origin.licence(group)) for group in book.header["digests"]]
    return tuple(Licence(**one) for one in stated)


def _replicates(book: Ledger, arm_name: str, members: int | None) -> list[Job]:
    if arm_name not in book.arms:
        raise InputError(
            f"study {book.spec.name} has no arm `{arm_name}`; its arms are {', '.join(book.arms)}"
        )
    if not is_finished(book):
        raise StudyError(f"study {book.spec.name} is not finished; go on with `study run`")
    jobs = [job for job in book.replicates(arm_name) if job.key in book.evaluations]
    if not jobs:
        raise StudyError(f"arm {arm_name} could not be trained; see `study report`")
    if members is not None and not 1 <= members <= len(jobs):
        raise InputError(
            f"--members {members}: arm {arm_name} has {len(jobs)} replicates; give 1 to {len(jobs)}"
        )
    return jobs[:members]


def _input_facts(index: dict[str, Any], arm: Arm) -> dict[str, Any]:
    """The manifest's entries of everything that goes in and comes out."""
    scaler = Scaler(**index["scaler"])
    sources, ranges = index.get("sources", {}), index.get("ranges", {})

    def discharge(name: str) -> InputEntry:
        return InputEntry(
            name=name,
            units="mm/d",
            source=sources.get(name),
            mean=scaler.qobs_mean,
            std=scaler.qobs_std,
        )

    baseline = arm.inputs.baseline
    told = {"sources": sources, "ranges": ranges, "units": index.get("units", {})}
    return {
        "dynamic_inputs": input_entries(arm.inputs.dynamic, scaler, **told),
        "static_inputs": input_entries(arm.inputs.static, scaler, **told),
        "baseline": None if baseline is None else discharge(baseline),
        "target": discharge("qobs"),
    }


def _scores(book: Ledger, evidence: Evidence, arm_name: str, period_name: str) -> dict[str, Any]:
    """An arm's scores as the report tells them."""
    period, spec = evidence.periods[period_name], book.spec
    interval = arm_interval(
        period.nse(arm_name),
        regions=evidence.regions,
        repetitions=spec.evidence.repetitions,
        seed=derive("bootstrap", spec.search.seed, arm_name, period_name),
    )
    scores = summary(period, arm_name) | {
        "nse_median_low": interval.low,
        "nse_median_high": interval.high,
    }
    return {n: None if isinstance(v, float) and math.isnan(v) else v for n, v in scores.items()}


def _figure(evidence: Evidence, arm_name: str) -> bytes:
    period = evidence.periods[evidence.verdict_period]
    figure = figures.nse_cdf({arm_name: period.nse(arm_name)}, period=evidence.verdict_period)
    return figures.png(figure)
