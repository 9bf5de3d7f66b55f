"""Expected GPU throughput, calculated; `gpu.md` beside it explains it and shows what this prints.

python infra/gpu_throughput.py
"""

from __future__ import annotations

from dataclasses import dataclass

WARMUP, TARGETS = 365, 365  # days of a window
DAILY, STATIC = 5, 27  # inputs
BASINS, TRAINING_DAYS = 531, 3652
SIZES, BATCHES = (64, 128, 256), (16, 64, 256)
EFFICIENCY = 0.12  # of the peak, in matrices as small as these
PERSISTENT_SECONDS, STANDARD_SECONDS = 2.5e-6, 25e-6  # a day at least, forward and backward
OTHER_SECONDS = 150 * 6e-6  # of an optimiser step: launches of kernels beside the LSTM
CONTEXT_BYTES = 0.5e9  # CUDA and its libraries, in every process


@dataclass(frozen=True, kw_only=True)
class Gpu:
    flops: float  # peak a second, float32, no tensor cores
    bandwidth: float  # bytes a second
    memory: float  # bytes


GPUS = {
    "T4": Gpu(flops=8.1e12, bandwidth=320e9, memory=16e9),
    "A10G": Gpu(flops=31.5e12, bandwidth=600e9, memory=24e9),
    "A100": Gpu(flops=19.5e12, bandwidth=1555e9, memory=40e9),
    "H100": Gpu(flops=67e12, bandwidth=3350e9, memory=80e9),
}


def flops(hidden: int, batch: int) -> float:
    """Of an optimiser step: 8 H (I + H) a day and window forward, twice that backward."""
    return 3 * 8 * hidden * (DAILY + STATIC + hidden) * (WARMUP + TARGETS) * batch


def traffic(hidden: int, batch: int) -> float:
    """Bytes of an optimiser step: inputs, four gates, cell and output, written and read again."""
    return 4 * 2 * (DAILY + STATIC + 6 * hidden) * (WARMUP + TARGETS) * batch


def step_seconds(gpu: Gpu, hidden: int, batch: int) -> float:
    """The longest of waiting, arithmetic and memory, and the launches."""
    a_day = PERSISTENT_SECONDS if hidden <= 128 else STANDARD_SECONDS
    arithmetic = flops(hidden, batch) / (EFFICIENCY * gpu.flops)
    memory = traffic(hidden, batch) / gpu.bandwidth
    return max(a_day * (WARMUP + TARGETS), arithmetic, memory) + OTHER_SECONDS


def trial_bytes(hidden: int, batch: int) -> float:
    """On the GPU: context, data of all basins, weights with gradients and Adam, activations."""
    data = 4 * BASINS * ((WARMUP + TRAINING_DAYS) * (DAILY + 2) + STATIC)
    weights = 4 * hidden * (DAILY + STATIC + hidden + 2) + hidden + 1
    activations = traffic(hidden, batch)  # each once, and its gradient
    return CONTEXT_BYTES + data + 4 * 4 * weights + activations


def main() -> None:
    names = " | ".join(GPUS)
    print(f"| hidden | batch | GFLOP a step | MB a trial | {names} |")
    print("|" + 8 * "---|")
    for hidden in SIZES:
        for batch in BATCHES:
            rates = [batch * TARGETS / step_seconds(g, hidden, batch) / 1e6 for g in GPUS.values()]
            told = " | ".join(f"{rate:.2f}" for rate in rates)
            work, held = flops(hidden, batch) / 1e9, trial_bytes(hidden, batch) / 1e6
            print(f"| {hidden} | {batch} | {work:.1f} | {held:.0f} | {told} |")


if __name__ == "__main__":
    main()
