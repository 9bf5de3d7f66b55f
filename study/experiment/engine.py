"""A study from its spec to its scores: start it or go on with it, wherever it stopped."""

from __future__ import annotations

import difflib
import json
import logging
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from study.data.arrays import StudyArrays, assemble
from study.data.simulated import account_of
from study.data.store import open_store, variables_of, verify
from study.errors import DataError, InputError, SpecError, StudyError
from study.experiment import provenance
from study.experiment.arms import Arm, all_inputs, expand
from study.experiment.book import Book
from study.experiment.confirm import confirm
from study.experiment.contrasts import declared_contrasts, in_the_log
from study.experiment.eventlog import EventLog
from study.experiment.interruption import Interruption
from study.experiment.jobs import CLOSED, checkpoint_key, identity
from study.experiment.ledger import Ledger
from study.experiment.placement import no_room, room_for_trials
from study.experiment.storage import Storage, only_driver, open_storage
from study.spec import StudySpec, nearest, parse_spec

Progress = Callable[[Book], None]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A study that has passed every check and can be started."""

    spec: StudySpec
    arms: tuple[Arm, ...]
    store: xr.Dataset
    arrays: StudyArrays


def prepare(spec: StudySpec, store_path: Path | str) -> Prepared:
    """Check all that can be checked before anything starts.

    Raises:
        InputError: The spec and the store do not make a study; says why.
    """
    arms = expand(spec)
    declared_contrasts(spec, arms)
    store = open_store(store_path)
    verify(store, store_path)
    _check_split(store, spec)
    arrays = assemble(store, spec, all_inputs(arms))
    return Prepared(spec=spec, arms=arms, store=store, arrays=arrays)


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


def study_storage(name: str, results: str) -> Storage:
    """Where the study of this name keeps its results.

    Raises:
        InputError: The place cannot be used.
    """
    return open_storage(f"{results.rstrip('/')}/{name}", check=True)


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
    return Ledger(spec, expand(spec), events)


def run(
    prepared: Prepared,
    storage: Storage,
    *,
    address: str | None,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    tracking_uri: str | None,
    progress: Progress = lambda book: None,
    finish: Progress = lambda book: None,
    interruption: Interruption | None = None,
) -> Book:
    """Start a study or go on with it, until its replicates are scored.

    Args:
        prepared: The study.
        storage: Its results.
        address: Of a Ray cluster; None for an own one on this machine.
        num_cpus: Size of an own one; the machine's if None.
        num_gpus: Likewise; they need not be there.
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
        log = EventLog(storage)
        _begin(log, prepared)
        book = Book(spec, prepared.arms, log)
        with _tracked(book, tracking_uri, interruption):
            progress(book)
            if not book.trained():
                cluster = Cluster(address=address, num_cpus=num_cpus, num_gpus=num_gpus)
                _train(book, prepared.arrays, storage, cluster, progress, interruption)
            _delete_spent_checkpoints(book, storage)
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


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where to train; see `connected`."""

    address: str | None
    num_cpus: int | None
    num_gpus: int | None


def _train(
    book: Book,
    arrays: StudyArrays,
    storage: Storage,
    cluster: Cluster,
    progress: Progress,
    interruption: Interruption,
) -> None:
    from study.experiment.cluster import connected  # loads Ray only when there is work for it

    size = {"num_cpus": cluster.num_cpus, "num_gpus": cluster.num_gpus}
    with connected(cluster.address, **size) as hosts:
        from study.experiment.sweep import sweep

        workers = room_for_trials(book.spec.resources, hosts)
        if workers == 0:
            if cluster.address is None:
                raise InputError(
                    f"{no_room(book.spec.resources, hosts)}; reserve less, or give --address of a "
                    "cluster that has them"
                )
            logger.warning(
                "%s: training waits until a host joins that has them",
                no_room(book.spec.resources, hosts),
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
    from study.experiment.tracking.tracker import Tracker  # loads MLflow

    return Tracker(book, uri, interruption)


def _begin(log: EventLog, prepared: Prepared) -> None:
    """Write what the study is, or compare it with what was begun."""
    spec, digests = prepared.spec, _digests(prepared)
    begun = [e for e in log.events if e["event"] == "study"]
    if begun:
        earlier = parse_spec(begun[-1]["spec"], "the study begun earlier")
        if earlier.fixed() != spec.fixed():
            raise SpecError(
                f"study {spec.name} was begun with another spec; give the changed one another "
                f"name. What differs: {_difference(earlier.fixed(), spec.fixed())}"
            )
        _refuse_shrinking(earlier, spec)
        if any(e["event"] == "test_read" for e in log.events):
            _refuse_late_split(earlier, spec)
        if begun[-1]["digests"] != digests:
            differing = [g for g in digests if begun[-1]["digests"].get(g) != digests[g]]
            raise SpecError(
                f"study {spec.name} was begun with other data (group {', '.join(differing)}); "
                "give --data the store it was begun with, or the study another name"
            )
    if not begun or begun[-1]["spec"] != spec.model_dump(mode="json"):
        uid = begun[0]["uid"] if begun else uuid.uuid4().hex
        log.append(event="study", uid=uid, spec=spec.model_dump(mode="json"), digests=digests,
                   accounts=accounts(prepared), contrasts=in_the_log(spec, prepared.arms),
                   provenance=provenance.collect())  # fmt: skip
    log.append(event="launch", **provenance.host(), provenance=provenance.collect())
    log.flush()


def _refuse_late_split(earlier: StudySpec, spec: StudySpec) -> None:
    """Parts of the basins that are chosen with the test scores in sight prove nothing."""
    if earlier.evidence.split != spec.evidence.split:
        raise SpecError(
            f"study {spec.name}: evidence.split was {earlier.evidence.split} when the test period "
            f"was read, and cannot become {spec.evidence.split}; set it as it was, or give the "
            "study another name"
        )


def _refuse_shrinking(earlier: StudySpec, spec: StudySpec) -> None:
    for key, old, new in (
        ("search.cohorts", earlier.search.cohorts, spec.search.cohorts),
        ("confirmation.seeds", earlier.confirmation.seeds, spec.confirmation.seeds),
    ):
        if new < old:
            raise SpecError(
                f"study {spec.name} was begun with {key} {old}, which may grow but not shrink to "
                f"{new}; set it to {old} or more, or give the study another name"
            )


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


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    a, b = (json.dumps(spec, indent=1, sort_keys=True).splitlines() for spec in (old, new))
    lines = difflib.unified_diff(a, b, lineterm="", n=0)
    changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return " ".join(" ".join(line.split()) for line in changed)


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
