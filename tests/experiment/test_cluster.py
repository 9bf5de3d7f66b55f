"""The connection to Ray ends without taking the process with it."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

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


def test_garbage_found_while_ray_shuts_down_does_not_end_the_process() -> None:
    with ThreadPoolExecutor() as pool:  # each has a Ray of its own, which takes its time to start
        assert all(pool.map(lives, (0.05, 0.1, 0.2)))
