"""The connection to Ray begins beside imports, and ends without taking the process with it."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

# Objects of Ray in garbage, as Tune leaves them, and a thread that collects it while Ray shuts
# down, as the tracking thread may. With a bare `ray.shutdown()` Ray ends the process for some of
# the delays below. Automatic collection is off, so that nobody finds the garbage earlier.
PROGRAM = """
import gc, sys, threading, time

gc.disable()

from study.experiment.cluster import connected

class Cycle:
    pass

def collect():
    time.sleep(float(sys.argv[1]))
    gc.collect()

with connected(None, num_cpus=1):
    import ray

    for _ in range(3000):
        cycle = Cycle()
        cycle.itself, cycle.reference = cycle, ray.put(1)
    del cycle
    threading.Thread(target=collect).start()
print("alive")
"""


def lives(seconds: float) -> bool:
    """Whether the program comes to its last line."""
    command = [sys.executable, "-c", PROGRAM, str(seconds)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240)
    return ended.returncode == 0 and "alive" in ended.stdout


@pytest.mark.slow
def test_garbage_found_while_ray_shuts_down_does_not_end_the_process() -> None:
    with ThreadPoolExecutor() as pool:  # each has a Ray of its own, which takes its time to start
        assert all(pool.map(lives, (0.05, 0.1, 0.2)))


IMPORTED = """
import sys
from study.experiment import cluster, starting

cluster.load(None)
before = set(sys.modules)
{block}
print(*sorted(name for name in set(sys.modules) - before if name.partition(".")[0] == "ray"))
"""


def imported(block: str) -> set[str]:
    """Ray's modules that are imported meanwhile, once Ray is loaded."""
    command = [sys.executable, "-c", IMPORTED.format(block=block)]
    return set(subprocess.check_output(command, text=True, timeout=120).split())


def test_ray_starts_while_tune_is_imported_and_neither_imports_what_the_other_does() -> None:
    """Two threads that import parts of each other's packages may get them half made."""
    of_start = imported("with cluster.connected(None, num_cpus=1): pass")
    of_tune = imported("starting._load_tune()")
    assert "ray.tune.tuner" in of_tune and of_start
    assert not of_start & of_tune
