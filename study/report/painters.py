"""Processes that draw figures: matplotlib is most of a report's time, and uses one core.

A process is a fresh interpreter that imports what draws, and answers what it reads from its
standard input until that ends, as it does with this process, however it ends. One that were forked
from a program in which Ray and MLflow have threads could wait for a lock for ever.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import IO, Any, Protocol, TypeVar

from study.platform import cores

A = TypeVar("A")
B = TypeVar("B")

MOST = 4
"""Each takes a second to start, and the memory of matplotlib."""


class Each(Protocol):
    """As the built-in `map`: what a function makes of each item, in their order."""

    def __call__(self, function: Callable[[A], B], items: Iterable[A], /) -> Iterator[B]: ...


class Painters:
    """Processes that draw while they are entered (`with`); with one core, there are none."""

    def __init__(self, number: int | None = None):
        """
        Args:
            number: Of processes; one a core if None.
        """
        number = min(cores(), MOST) if number is None else number
        self._number = number if number > 1 else 0
        self._threads = ThreadPoolExecutor(max(1, number), thread_name_prefix="painter")
        """Each waits for a process."""
        self._processes: list[subprocess.Popen[bytes]] = []
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()

    def __enter__(self) -> Painters:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            with suppress(BrokenPipeError), process:  # closes its pipes and waits for it
                pass
        self._processes.clear()

    def start(self) -> None:
        """Let the processes import what draws, meanwhile; again, nothing happens."""
        while len(self._processes) < self._number:
            try:
                process = _process()
            except OSError:  # the system gives no more; with none at all, this one draws
                self._number = len(self._processes)
                return
            self._processes.append(process)
            self._idle.put(process)

    def each(self, function: Callable[[A], B], items: Iterable[A], /) -> Iterator[B]:
        """As the built-in `map`, which does the work item by item, when it is asked for; processes
        begin with all of it at once."""
        self.start()
        if not self._processes:
            return map(function, items)
        begun = [(item, self._threads.submit(self._ask, function, item)) for item in items]
        return (_result(function, item, future) for item, future in begun)

    def _ask(self, function: Callable[[A], B], item: A) -> B:
        """What a process makes of an item.

        Raises:
            _GoneError: The process was killed.
        """
        process = self._idle.get()
        try:
            assert process.stdin is not None and process.stdout is not None
            pickle.dump((function, item), process.stdin)
            process.stdin.flush()
            error, result = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            raise _GoneError from None
        finally:
            self._idle.put(process)
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]


def _process() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,  # Ctrl-C is its parent's
    )


class _GoneError(Exception):
    """A process was killed."""


def _result(function: Callable[[A], B], item: A, future: Future[B]) -> B:
    """A process's; this one's, if that was killed, as by a system short of memory."""
    try:
        return future.result()
    except _GoneError:
        return function(item)


def serve(tasks: IO[bytes], results: IO[bytes]) -> None:
    """Answer tasks until there are no more."""
    import study.report.sketches  # noqa: F401

    while True:
        try:
            function, item = pickle.load(tasks)
        except EOFError:
            return
        answer: tuple[Exception | None, Any] = None, None
        try:
            answer = None, function(item)
        except Exception as error:
            answer = error, None
        try:
            results.write(pickle.dumps(answer))
            results.flush()
        except BrokenPipeError:  # nobody waits any more
            os._exit(0)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whoever prints does not disturb
    serve(sys.stdin.buffer, answers)
