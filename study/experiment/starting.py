"""The start of a study: Ray takes seconds for its own, in which the data are read and checked.

Nothing heavy is imported here, so that Ray starts at once.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from study.experiment.arms import expand
from study.experiment.changes import refuse_changes
from study.experiment.connection import Connection
from study.experiment.contrasts import declared_contrasts
from study.experiment.eventlog import EventLog
from study.experiment.storage import Storage
from study.spec import StudySpec

if TYPE_CHECKING:
    from study.experiment.engine import Prepared


def look(spec: StudySpec, storage: Storage) -> EventLog:
    """The log of a study, new or begun, after all checks of its spec that need no data.

    Raises:
        InputError: The spec makes no study, or another one than was begun.
    """
    declared_contrasts(spec, expand(spec))
    log = EventLog(storage)
    refuse_changes(spec, log.events)
    return log


def begin(
    spec: StudySpec, store: Path, log: EventLog, connection: Connection, *, server: str | None
) -> Prepared:
    """Read a study's data and check them, while Ray starts.

    Ray does not start for a store that is not there, or a study that was scored: it may have
    nothing left to train.

    Args:
        spec: The study, after `look`.
        store: Folder of the data.
        log: Of the study.
        connection: Where to train.
        server: Tracking server or database that must let the user in.

    Raises:
        InputError: See `prepare` and `check_access`.
    """
    scored = any(event["event"] in ("test_read", "evaluated") for event in log.events)
    if scored or not store.is_dir():
        return _prepared(spec, store, server)
    connection.load()  # before the other thread imports anything
    with ThreadPoolExecutor(1, thread_name_prefix="checks") as beside:
        checks = beside.submit(_prepared, spec, store, server)
        beside.submit(_load_tune)
        connection.hosts()
        return checks.result()


def _prepared(spec: StudySpec, store: Path, server: str | None) -> Prepared:
    from study.experiment.engine import prepare

    prepared = prepare(spec, store)
    if server is not None:
        from study.experiment.tracking.access import check_access  # loads MLflow

        check_access(server)
    return prepared


def _load_tune() -> None:
    import study.experiment.sweep  # noqa: F401
