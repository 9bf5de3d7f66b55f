"""A study on a simulated cluster: the same study as on one worker, and most GPUs busy."""

from __future__ import annotations

from pathlib import Path

from clock import Cluster, Simulation
from simulator import drive, open_book, outcome, sometimes
from small import small_spec

from study.experiment.storage import LocalStorage

SPEC = small_spec(
    factors={"model": ["lstm", "ealstm"], "snow": ["off", "observed"]},
    search__cohorts=2,
    search__cohort_size=25,
    search__rungs=[1, 3],
    search__reduction=3,
    training__epochs=9,
)
"""200 trials in four arms."""
RESTLESS = Cluster(gpus=16, lifetime=1200, replacement=600)


def test_a_cluster_that_loses_nodes_finds_what_one_worker_finds(tmp_path: Path) -> None:
    expected = outcome(drive(SPEC, LocalStorage(tmp_path / "one"), failure=sometimes))
    simulation = Simulation(SPEC, LocalStorage(tmp_path / "many"), RESTLESS, failure=sometimes)
    measured = simulation.run()
    assert outcome(simulation.book) == expected
    assert outcome(open_book(SPEC, LocalStorage(tmp_path / "many"))) == expected
    lost = [event for event in simulation.book.log.events if event["event"] == "lost"]
    assert len(lost) > 8 and measured.repeated > 0, "no node was lost: proves nothing"


def test_most_gpus_are_busy(tmp_path: Path) -> None:
    """100 trials in work for 16 GPUs; the last ones to come to a rung keep the others waiting."""
    measured = Simulation(SPEC, LocalStorage(tmp_path), Cluster(gpus=16)).run()
    assert measured.asking.share > 0.8
    assert measured.search.share > 0.6


def test_gpu_time_is_all_accounted_for(tmp_path: Path) -> None:
    """Without losses GPUs are busy for just as long as the epochs last that were reported."""
    simulation = Simulation(SPEC, LocalStorage(tmp_path), Cluster(gpus=16, arrival=0))
    measured = simulation.run()
    trained = sum(job.seconds for job in simulation.book.jobs.values())
    assert abs(measured.study.busy / trained - 1) < 1e-9
    assert abs(measured.study.there / (16 * 3600 * measured.hours) - 1) < 1e-9


def test_a_seed_gives_the_same_study(tmp_path: Path) -> None:
    """Also its times: the log of a simulation is written on the simulation's clock."""
    logs = []
    for name in ("a", "b"):
        simulation = Simulation(SPEC, LocalStorage(tmp_path / name), RESTLESS, failure=sometimes)
        simulation.run()
        logs.append(simulation.book.log.events)
    assert logs[0] == logs[1]
    assert logs[0][-1]["time"] < 20 * 3600
