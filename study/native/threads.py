"""Threads that share out work among themselves, rather than inside torch's operations."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import TypeVar

import torch

T = TypeVar("T")
Result = TypeVar("Result")


def pool(threads: int) -> ThreadPoolExecutor:
    """Threads in each of which torch computes with one."""
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


@contextmanager
def subnormals_are_zero() -> Iterator[None]:
    """Let numbers below 1e-38 count as zero in this thread.

    A gradient that fades over the warm-up ends among them, and processors are slow there: without
    this a training step of an LSTM that forgets (`forget_bias: 0`) takes three times as long.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def equal_parts(length: int, threads: int) -> list[slice]:
    """So many parts of nearly the same length; fewer, if the length is less."""
    number = max(1, min(threads, length))
    return [slice(a, b) for a, b in pairwise(length * i // number for i in range(number + 1))]


def shared_out(function: Callable[[T], Result], tasks: Sequence[T]) -> list[Result]:
    """Results of all tasks, the last one done in this thread and the others beside it.

    They are steps of a training inside `subnormals_are_zero`: the others do the same, and record
    nothing for a gradient. The less a task does in Python, the more of it is done at once.
    """
    others = [_workers().submit(function, task) for task in tasks[:-1]]
    try:
        last = function(tasks[-1])
    finally:
        wait(others)  # whoever goes on may give their memory to someone else
    return [*(other.result() for other in others), last]


@cache
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), initializer=_prepare_worker)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_workers.cache_clear)  # a child has no threads


def _prepare_worker() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.set_grad_enabled(False)
