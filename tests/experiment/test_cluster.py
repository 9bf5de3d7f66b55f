"""The connection to Ray ends without taking the process with it."""

from __future__ import annotations

import subprocess
import sys

# Objects of Ray in garbage, as Tune leaves them, and a thread that makes the collector run while
# Ray shuts down, as the tracking thread may: with a bare `ray.shutdown()` Ray ends the process.
PROGRAM = """
import gc, sys, threading, time

gc.disable()  # the garbage below is to be found by the thread, not before

class Cycle:
    pass

def make_garbage(ray):
    for _ in range(3000):
        cycle = Cycle()
        cycle.itself, cycle.reference = cycle, ray.put(1)

def collect_once():
    time.sleep(float(sys.argv[2]))
    if gc.isenabled():
        gc.collect()

if sys.argv[1] == "bare":
    import ray
    ray.init("local", _node_ip_address="127.0.0.1", num_cpus=1, include_dashboard=False)
    make_garbage(ray)
    gc.enable()
    threading.Thread(target=collect_once).start()
    ray.shutdown()
else:
    from study.experiment.cluster import connected
    with connected(None, num_cpus=1):
        import ray
        make_garbage(ray)
        gc.enable()
        threading.Thread(target=collect_once).start()
print("alive")
"""


def lives(how: str, seconds: float) -> bool:
    """Whether the program comes to its last line."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, how, str(seconds)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return ended.returncode == 0 and "alive" in ended.stdout


def test_garbage_found_while_ray_shuts_down_does_not_end_the_process() -> None:
    assert all(lives("connected", seconds) for seconds in (0.05, 0.1, 0.2))
