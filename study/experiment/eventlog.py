"""The event log: the one truth of a study, numbered immutable segments of JSON lines.

A segment is created, never changed; whoever would write number n and finds it there has been
overtaken by another driver and must leave. All else (samplers, halving, tracking) is rebuilt from
the events.
"""

from __future__ import annotations

import json
import time
from typing import Any

from study.errors import FencedError, StudyError
from study.experiment.storage import Storage

Event = dict[str, Any]
PREFIX = "events/"


class EventLog:
    """Opens a study's log and appends to it.

    Events are buffered until `flush`; a crash loses the buffer only, and since every decision is a
    function of the spec and of scores, what is lost is done again with the same outcome.
    """

    def __init__(self, storage: Storage):
        self.events: list[Event] = []
        """All events, also those not yet flushed."""
        self.flushed = 0
        """Number of events that are safe in storage."""
        self._storage = storage
        self._segments = 0
        self.catch_up()
        self._last_flush = time.monotonic()

    def catch_up(self) -> None:
        """Read what others have appended since this was last read; of events of one's own that are
        not yet safe there are none."""
        assert self.flushed == len(self.events), "events would be taken for safe that are not"
        new = self._storage.keys(PREFIX)[self._segments :]
        for key in new:
            self._segments += 1
            if key != self._key(self._segments):
                raise StudyError(
                    f"{self._storage.uri}: the event log lacks segment {self._segments}; "
                    "restore it from a copy, the study cannot go on without it"
                )
        for content in self._storage.read_all(new):
            self.events += [json.loads(line) for line in content.splitlines()]
        self.flushed = len(self.events)

    def append(self, **event: Any) -> Event:
        """Add an event, with the time of day in seconds."""
        event["time"] = round(time.time(), 3)
        self.events.append(event)
        return event

    def flush(self, *, older_than: float = 0.0) -> None:
        """Make all events safe; skipped if the last flush is not `older_than` seconds ago.

        Raises:
            FencedError: Another driver has written to the log.
        """
        now = time.monotonic()
        if self.flushed == len(self.events) or now - self._last_flush < older_than:
            return
        lines = "".join(f"{json.dumps(e)}\n" for e in self.events[self.flushed :])
        try:
            self._storage.create(self._key(self._segments + 1), lines.encode())
        except FileExistsError:
            raise FencedError(
                f"{self._storage.uri}: another driver has taken this study over; this one leaves"
            ) from None
        self._segments += 1
        self.flushed = len(self.events)
        self._last_flush = now

    @staticmethod
    def _key(number: int) -> str:
        return f"{PREFIX}{number:08d}.jsonl"
