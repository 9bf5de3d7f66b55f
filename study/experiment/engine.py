"""A study from its spec to its scores: start it or go on with it, wherever it stopped."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from study import plugins
from study.data.arrays import StudyArrays, assemble
from study.data.levels import resolve
from study.data.licences import licences_of_store
from study.data.placebo import with_placebos
from study.data.simulated import account_of
from study.data.store import open_store, variables_of, verify
from study.errors import DataError, InputError, SpecError, StudyError
from study.experiment import provenance
from study.experiment.arms import Arm, all_inputs, expand
from study.experiment.book import Book
from study.experiment.changes import refuse_changes
from study.experiment.connection import Connection
from study.experiment.contrasts import declared_contrasts, in_the_log
from study.experiment.eventlog import EventLog
from study.experiment.interruption import Interruption
from study.experiment.jobs import CLOSED, checkpoint_key, identity
from study.experiment.ledger import Ledger
from study.experiment.placement import no_room, room_for_trials
from study.experiment.storage import Storage, only_driver
from study.spec import LevelSpec, OwnLevels, StudySpec, nearest, parse_spec

Progress = Callable[[Book], None]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A study that has passed every check and can be started."""

    spec: StudySpec
    levels: OwnLevels
    """What levels of one's own change, by names that the store has."""
    arms: tuple[Arm, ...]
    store: xr.Dataset
    """With the placebos that arms are fed with."""
    arrays: StudyArrays


def prepare(spec: StudySpec, store_path: Path | str) -> Prepared:
    """Check all that can be checked before anything starts.

    Raises:
        InputError: The spec and the store do not make a study; says why.
    """
    declared_contrasts(spec, expand(spec))
    store = open_store(store_path)
    verify(store, store_path)
    levels = resolve(spec, store)
    arms = expand(spec, levels)
    _check_baselines(arms)
    for arm in arms:
        if arm.model in plugins.names(plugins.MODELS):
            plugins.load(plugins.MODELS, arm.model)
    store = with_placebos(store, all_inputs(arms).daily, spec.search.seed)
    _check_split(store, spec)
    licences_of_store(store, store.attrs["digests"])  # what bundles will say
    arrays = assemble(store, spec, all_inputs(arms))
    return Prepared(spec=spec, levels=levels, arms=arms, store=store, arrays=arrays)


def _check_baselines(arms: tuple[Arm, ...]) -> None:
    """Arrays hold one."""
    found = sorted({arm.inputs.baseline for arm in arms if arm.inputs.baseline})
    if len(found) > 1:
        raise SpecError(
            f"levels have the baselines {' and '.join(found)}, but a study may have one; make a "
            "study of each"
        )


def _check_split(store: xr.Dataset, spec: StudySpec) -> None:
    """The report needs an attribute that no arm may see."""
    if spec.evidence.split is None:
        return
    name = spec.evidence.split.attribute
    known = [n for n in variables_of(store, "attributes") if store[n].dtype.kind == "f"]
    if name not in known:
        raise DataError(
            f"the store has no numeric attribute `{name}`{nearest(name, known)}, by which "
            "evidence.split tells the basins apart; name another, or remove evidence.split"
        )


def open_ledger(storage: Storage) -> Ledger:
    """A study as it is now, to read.

    Raises:
        InputError: There is no study.
    """
    events = EventLog(storage).events
    begun = [e for e in events if e["event"] == "study"]
    if not begun:
        raise InputError(f"{storage.uri}: holds no study; start one with `study run SPEC`")
    spec = parse_spec(begun[-1]["spec"], storage.uri)
    levels = {
        factor: {name: LevelSpec.model_validate(level) for name, level in named.items()}
        for factor, named in begun[-1].get("levels", {}).items()
    }
    return Ledger(spec, expand(spec, levels or None), events)


def run(
    prepared: Prepared,
    storage: Storage,
    *,
    log: EventLog,
    connection: Connection,
    tracking_uri: str | None,
    progress: Progress = lambda book: None,
    finish: Progress = lambda book: None,
    interruption: Interruption | None = None,
) -> Book:
    """Start a study or go on with it, until its replicates are scored.

    Args:
        prepared: The study.
        storage: Its results.
        log: Its log; read again where others have written.
        connection: Where to train; made if there is something to train, and let go before
            replicates are scored.
        tracking_uri: Of the MLflow server or database; None: no tracking.
        progress: Called whenever the book has changed.
        finish: Called once the replicates are scored, while no other driver may begin.
        interruption: Of `interruptible`; None: signals do what they do.

    Raises:
        Interrupted: There was a signal.
        SpecError: The study was begun with another spec or other data.
        StudyError: It cannot be carried out.
    """
    spec, interruption = prepared.spec, interruption or Interruption()
    with only_driver(storage):
        log.catch_up()
        _begin(log, prepared)
        book = Book(spec, prepared.arms, log)
        with _tracked(book, tracking_uri, interruption):
            progress(book)
            if not book.trained():
                _train(book, prepared.arrays, storage, connection, progress, interruption)
            connection.close()
            _delete_spent_checkpoints(book, storage)
            from study.experiment.confirm import confirm  # loads torch

            confirm(book, prepared.store, storage)
            progress(book)
        if all(book.arm_failed(arm) for arm in book.arms):
            raise_failure(book)
        finish(book)
        return book


def raise_failure(book: Ledger) -> None:
    """Complain of the first arm that could not be trained, if there is one.

    Raises:
        StudyError: With the reason of the arm's first failed trial.
    """
    for arm in book.arms:
        if book.arm_failed(arm):
            reasons = [j.failure for j in book.stage(arm, "search") if j.failure]
            reasons += [j.failure for j in book.stage(arm, "candidate") if j.failure]
            last_line = reasons[0].strip().splitlines()[-1]
            raise StudyError(f"arm {arm} could not be trained; its first failure: {last_line}")


def _train(
    book: Book,
    arrays: StudyArrays,
    storage: Storage,
    connection: Connection,
    progress: Progress,
    interruption: Interruption,
) -> None:
    resources, hosts = book.spec.resources, connection.hosts()
    from study.experiment.sweep import sweep  # loads Tune, after Ray

    workers = room_for_trials(resources, hosts)
    if workers == 0:
        if connection.address is None:
            raise InputError(
                f"{no_room(resources, hosts)}; reserve less, or give --address of a cluster that "
                "has them"
            )
        logger.warning(
            "%s: training waits until a host joins that has them", no_room(resources, hosts)
        )
    sweep(
        book,
        arrays,
        storage,
        num_workers=max(1, workers),
        progress=progress,
        interruption=interruption,
    )


def _tracked(book: Book, uri: str | None, interruption: Interruption) -> Any:
    if uri is None:
        return nullcontext()
    from study.experiment.tracking.following import Tracker

    return Tracker(book, uri, interruption)


def _begin(log: EventLog, prepared: Prepared) -> None:
    """Write what the study is, or compare it with what was begun."""
    spec, digests = prepared.spec, _digests(prepared)
    begun = refuse_changes(spec, log.events)
    if begun and begun[-1]["digests"] != digests:
        differing = [g for g in digests if begun[-1]["digests"].get(g) != digests[g]]
        raise SpecError(
            f"study {spec.name} was begun with other data (group {', '.join(differing)}); "
            "give --data the store it was begun with, or the study another name"
        )
    levels = {f: {n: level.model_dump(mode="json") for n, level in named.items()}
              for f, named in prepared.levels.items()}  # fmt: skip
    if begun and begun[-1].get("levels", {}) != levels:
        raise SpecError(
            f"study {spec.name} was begun with data that gave its levels another meaning; give "
            "--data the store it was begun with, or the study another name"
        )
    facts = provenance.collect()
    if not begun or begun[-1]["spec"] != spec.model_dump(mode="json"):
        uid = begun[0]["uid"] if begun else uuid.uuid4().hex
        log.append(event="study", uid=uid, spec=spec.model_dump(mode="json"), digests=digests,
                   accounts=accounts(prepared), contrasts=in_the_log(spec, prepared.arms),
                   provenance=facts, **({"levels": levels} if levels else {}))  # fmt: skip
    log.append(event="launch", **provenance.host(), provenance=facts)
    log.flush()


def _digests(prepared: Prepared) -> dict[str, str]:
    """Digests of the data groups that the study reads."""
    inputs = all_inputs(prepared.arms)
    names = {*inputs.daily, *inputs.static, "qobs"}
    groups = {str(prepared.store[name].attrs["group"]) for name in names}
    return {g: d for g, d in prepared.store.attrs["digests"].items() if g in groups}


def accounts(prepared: Prepared) -> dict[str, dict[str, Any]]:
    """Where the groups that were added to the store come from, of those that the study reads."""
    found = {group: account_of(prepared.store, group) for group in _digests(prepared)}
    return {group: account for group, account in found.items() if account}


def _delete_spent_checkpoints(book: Book, storage: Storage) -> None:
    """Only replicates' last checkpoints are needed once all is trained."""
    keep = set()
    for key, job in book.jobs.items():
        if key.stage == "replicate" and book.status(key) in CLOSED:
            config = book.arms[key.arm].training(book.spec.training, job.hyperparameters)
            keep.add(checkpoint_key(identity(book.spec, key, config), book.spec.training.epochs))
    for stored in storage.keys("trials/"):
        if stored not in keep:
            storage.delete(stored)
