"""Trials that ask for GPUs run where there are some, on the ones that Ray gave them.

The GPUs are logical: Ray counts them and hands out their numbers. That none is there shows what a
trial does without.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hosts import Hosts, cluster
from place import Place
from small import small_content

from study import native
from study.errors import SpecError
from study.experiment.placement import no_room, room_for_trials, use_threads
from study.spec import ResourcesSpec, parse_spec

CONTENT = small_content(
    training__epochs=2,
    search__rungs=[],
    search__cohorts=1,
    search__cohort_size=4,
    confirmation={"candidates": 1, "candidate_seeds": 1, "seeds": 2},
)
CPU_HOST, GPU_HOST = {"CPU": 4.0}, {"CPU": 8.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("gpus", "cpus", "room"),
    [
        (0, 1, 12),
        (0, 3, 3),  # no trial lies on two hosts
        (1, 1, 2),
        (0.5, 1, 4),
        (0.4, 1, 4),  # no trial lies on two GPUs
        (0.1, 1, 8),  # processors are what is short
        (1, 9, 0),
    ],
)
def test_room_is_counted_by_host_and_gpu(gpus: float, cpus: float, room: int) -> None:
    resources = ResourcesSpec(gpus=gpus, cpus=cpus)
    assert room_for_trials(resources, [CPU_HOST, GPU_HOST]) == room


def test_no_room_says_what_there_is() -> None:
    told = no_room(ResourcesSpec(gpus=0.5), [CPU_HOST, CPU_HOST])
    assert "reserves 1 CPUs and 0.5 GPUs" in told and "(hosts: 4 CPUs and 0 GPUs)" in told


def test_a_trial_trains_on_one_gpu() -> None:
    content = small_content(resources={"gpus": 2})
    with pytest.raises(SpecError, match=r"resources\.gpus.*at most 1"):
        parse_spec(content, "the spec")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """One host of two processors, one of two processors and two GPUs."""
    with cluster(tmp_path_factory.mktemp("hosts") / "log") as hosts:
        hosts.add(cpus=2)
        hosts.add(cpus=2, gpus=2)
        yield hosts


def finished(folder: Path, store: Path, hosts: Hosts, gpus: float) -> tuple[Place, str]:
    """A study on the cluster, and what it told."""
    spec = folder / "small.yaml"
    spec.write_text(yaml.safe_dump(CONTENT | {"resources": {"gpus": gpus}}))
    place = Place(results=folder / "results", spec=spec, store=store, address=hosts.address)
    _, told = (driver := place.start()).communicate(timeout=600)
    assert driver.returncode == 0, told
    return place, " ".join(told.split())


def workers(place: Place) -> list[dict[str, Any]]:
    """Where each job was trained."""
    return [e["worker"] for e in place.events("reported") if e["epoch"] == 1]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_gpu_trials_run_on_gpus_only(synthetic_store: Path, tmp_path: Path, hosts: Hosts) -> None:
    """Never on the other host; on either GPU, one at a time; and it is said once that there is
    none in truth."""
    place, told = finished(tmp_path, synthetic_store, hosts, 1)
    (with_gpus,) = [node for node, has in hosts.resources().items() if has.get("GPU")]
    assert {worker["node"] for worker in workers(place)} == {with_gpus}
    assert {worker["gpu"] for worker in workers(place)} == {"0", "1"}
    assert {worker["device"] for worker in workers(place)} == {"cpu"}
    assert told.count("torch finds no GPU") == 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_halves_are_of_one_gpu(synthetic_store: Path, tmp_path: Path, hosts: Hosts) -> None:
    """Ray fills a GPU before it opens the next: two workers at once, one number."""
    place, _ = finished(tmp_path, synthetic_store, hosts, 0.5)
    assert {worker["gpu"] for worker in workers(place)} == {"0"}
    assert takes_turns(place)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_trials_without_gpus_see_none(synthetic_store: Path, tmp_path: Path, hosts: Hosts) -> None:
    place, told = finished(tmp_path, synthetic_store, hosts, 0)
    assert len({worker["node"] for worker in workers(place)}) == 2
    assert {worker["gpu"] for worker in workers(place)} == {None}
    assert "GPU" not in told


def takes_turns(place: Place) -> bool:
    """Whether a job began while another one was between two epochs."""
    begun = [e["epoch"] == 1 for e in place.events("reported")]
    return any(first and second for first, second in itertools.pairwise(begun))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_check_against_a_cluster_says_whether_it_has_room(tmp_path: Path, hosts: Hosts) -> None:
    spec = tmp_path / "small.yaml"
    spec.write_text(yaml.safe_dump(CONTENT))
    command = [*(sys.executable, "-m", "study", "check", str(spec), "--address", hosts.address)]
    told = {}
    for setting in ("gpus=0.5", "gpus=1", "cpus=3"):
        ended = subprocess.run(
            [*command, "--set", f"resources.{setting}"],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        told[setting] = " ".join(ended.stdout.split())
    assert "room for 2 trials at once" in told["gpus=0.5"]
    assert "room for 2 trials at once" in told["gpus=1"]
    assert "no host has as much" in told["cpus=3"] and "would wait" in told["cpus=3"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_host_without_a_kernel_is_named_once(
    synthetic_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its compiler fails: torch trains there, and the log and a warning say why."""
    monkeypatch.setenv("CC", "false")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = tmp_path / "small.yaml"
    spec.write_text(yaml.safe_dump(CONTENT))
    place = Place(results=tmp_path / "results", spec=spec, store=synthetic_store)
    ended = place.run()
    assert ended.returncode == 0, ended.stderr
    assert " ".join(ended.stderr.split()).count("the C compiler false fails") == 1
    assert len(workers(place)) > 2
    for worker in workers(place):
        assert worker["kernel"]["name"] == "torch"
        assert "false fails" in worker["kernel"]["failure"]


def test_torch_leaves_the_cores_to_the_recurrence() -> None:
    before = torch.get_num_threads()
    try:
        use_threads(ResourcesSpec(threads=2, kernel="torch"))
        assert torch.get_num_threads() == 2
        use_threads(ResourcesSpec(threads=2))
        assert torch.get_num_threads() == (2 if native.library() is None else 1)
    finally:
        torch.set_num_threads(before)
