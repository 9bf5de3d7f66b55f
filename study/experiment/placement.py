"""Which hosts have room for a trial, and on which device it trains there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from study.data.arrays import StudyArrays
from study.experiment.limits import check_gpu_share
from study.spec import ResourcesSpec


def room_for_trials(resources: ResourcesSpec, hosts: Iterable[Mapping[str, float]]) -> int:
    """How many trials run at once.

    Args:
        resources: What one trial reserves: on one host, and its share of one GPU.
        hosts: Resources (`CPU`, `GPU`) of each host.
    """
    return sum(_room_on(resources, host) for host in hosts)


def _room_on(resources: ResourcesSpec, host: Mapping[str, float]) -> int:
    room = int(host.get("CPU", 0) / resources.cpus)
    if resources.gpus:
        room = min(room, int(host.get("GPU", 0)) * int(1 / resources.gpus))
    return room


def no_room(resources: ResourcesSpec, hosts: Iterable[Mapping[str, float]]) -> str:
    """Why no trial can run, as a part of a sentence."""
    sizes = [f"{host.get('CPU', 0):g} CPUs and {host.get('GPU', 0):g} GPUs" for host in hosts]
    there = "; ".join(dict.fromkeys(sizes)) or "none"
    return (
        f"one trial reserves {resources.cpus:g} CPUs and {resources.gpus:g} GPUs (resources), but "
        f"no host has as much (hosts: {there})"
    )


def use_threads(resources: ResourcesSpec) -> None:
    """Give torch's own operations the threads that they may use in this process.

    Where `study.native` computes the recurrence, that is one: torch's would wait for their next
    operation, at full speed, on the cores on which the recurrence's threads compute.
    """
    import torch  # takes a second or two, which the driver's way to the first trial need not spend

    from study import native

    compiled = resources.kernel == "auto" and native.library() is not None
    torch.set_num_threads(1 if compiled else resources.threads)


def device_for(resources: ResourcesSpec, arrays: StudyArrays) -> str:
    """Where to train in this process: on the GPU that was reserved, if torch finds one.

    Raises:
        InputError: Trials share a GPU whose memory does not hold their data.
    """
    import torch

    if not (resources.gpus and torch.cuda.is_available()):
        return "cpu"
    if resources.gpus < 1:  # a share of a GPU is a share of its memory, too
        _, total = torch.cuda.mem_get_info()
        check_gpu_share(resources.gpus, total=total, needed=arrays.num_bytes)
        torch.cuda.set_per_process_memory_fraction(resources.gpus)
    return "cuda"
