"""The event log: immutable numbered segments, buffering, and the fence between two drivers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from study.errors import FencedError, StudyError
from study.experiment import eventlog
from study.experiment.eventlog import EventLog
from study.experiment.storage import LocalStorage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def numbers(log: EventLog) -> list[int]:
    return [event["n"] for event in log.events]


def test_events_come_back_in_order_with_their_time(storage: LocalStorage) -> None:
    log = EventLog(storage)
    for n in range(3):
        log.append(event="x", n=n, text="a\nb", score=float("nan"), nested={"k": [1.5]})
        log.flush()
    again = EventLog(storage)
    assert numbers(again) == [0, 1, 2]
    assert again.events[1]["text"] == "a\nb"
    assert again.events[1]["score"] != again.events[1]["score"]  # a NaN survives
    assert again.events[1]["time"] == log.events[1]["time"]
    assert again.flushed == 3


def test_a_segment_is_never_touched_again(storage: LocalStorage) -> None:
    log = EventLog(storage)
    for n in range(3):
        log.append(event="x", n=n)
        before = {key: storage.read(key) for key in storage.keys("events/")}
        log.flush()
        assert before.items() <= {k: storage.read(k) for k in storage.keys("events/")}.items()
    assert storage.keys("events/") == [f"events/{i:08d}.jsonl" for i in (1, 2, 3)]
    assert len(storage.read("events/00000002.jsonl").splitlines()) == 1


def test_what_was_not_flushed_is_lost_with_the_driver_and_nothing_else(
    storage: LocalStorage,
) -> None:
    log = EventLog(storage)
    log.append(event="x", n=1)
    log.flush()
    log.append(event="x", n=2)
    assert numbers(log) == [1, 2]
    assert log.flushed == 1
    assert numbers(EventLog(storage)) == [1]


def test_flush_gathers_events_of_a_while(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment for every event would be thousands of small objects."""
    clock = [100.0]
    monkeypatch.setattr(eventlog.time, "monotonic", lambda: clock[0])
    log = EventLog(storage)
    for n in range(30):  # one event every 0.1 s
        log.append(event="x", n=n)
        log.flush(older_than=1.0)
        clock[0] += 0.1
    assert len(storage.keys("events/")) == 2
    log.flush()
    log.flush()  # nothing new: no segment
    assert len(storage.keys("events/")) == 3
    assert numbers(EventLog(storage)) == list(range(30))


def test_of_two_drivers_the_first_to_write_shuts_the_other_out(storage: LocalStorage) -> None:
    first = EventLog(storage)
    first.append(event="x", n=1)
    first.flush()
    second = EventLog(storage)
    second.append(event="launch", n=2)
    second.flush()
    for n in (3, 4):  # also when it tries again
        first.append(event="x", n=n)
        with pytest.raises(FencedError, match="another driver has taken this study over"):
            first.flush()
    second.append(event="x", n=5)
    second.flush()
    assert numbers(EventLog(storage)) == [1, 2, 5]


@pytest.mark.parametrize("absent", [1, 2, 3])
def test_a_missing_segment_stops_the_study(storage: LocalStorage, absent: int) -> None:
    """Going on without it would decide otherwise than before."""
    log = EventLog(storage)
    for n in range(4):
        log.append(event="x", n=n)
        log.flush()
    storage.delete(f"events/{absent:08d}.jsonl")
    with pytest.raises(StudyError, match=f"lacks segment {absent}"):
        EventLog(storage)


def test_segments_are_json_lines_that_other_tools_can_read(storage: LocalStorage) -> None:
    log = EventLog(storage)
    log.append(event="x", n=1)
    log.append(event="y", n=2)
    log.flush()
    lines = storage.read("events/00000001.jsonl").decode().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["x", "y"]
