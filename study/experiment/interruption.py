"""The first SIGTERM or Ctrl-C ends a study in good order, in twenty seconds; the second, at once.

Spot hosts, Kubernetes and batch systems send SIGTERM half a minute and more before they take the
host away.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from study.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT)
WORKERS_SECONDS = 10.0
"""From the signal on, how long workers have for the rest of their epoch and for saving it."""
RECORDS_SECONDS = 15.0
"""From the signal on, how long the tracking server has for what it lacks."""
LIMIT_SECONDS = 18.0
"""From the signal on, when the process ends, whatever it may be waiting for."""


class Interruption:
    """Whether the process was told to end; only an instance of `interruptible` receives signals."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._since: float | None = None
        self._postponed = False

    @property
    def received(self) -> bool:
        return self._number is not None

    def seconds_left(self, seconds: float) -> float | None:
        """What is left of so many seconds from the signal on; None while there was none."""
        if self._since is None:
            return None
        return max(0.0, self._since + seconds - time.monotonic())

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """Within, a signal interrupts nothing: the block looks at `received`, and ends by `leave`
        when it is ready."""
        self._postponed = True
        try:
            yield
        finally:
            self._postponed = False

    def leave(self) -> None:
        """
        Raises:
            Interrupted: There was a signal.
        """
        if self._number is not None:
            raise Interrupted(self._number)

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal, in the main thread between two of its instructions.

        Raises:
            Interrupted: Unless that is postponed.
        """
        self._number = self._number or number
        self._since = self._since or time.monotonic()
        if not self._postponed:
            self.leave()

    def _watch(self, pipe: int) -> None:
        """End the process at the second signal, or when its time is over.

        A thread does that: the main thread may be inside of a long call, which no handler
        interrupts.
        """
        first = None
        with os.fdopen(pipe, "rb", buffering=0) as signals:
            while True:
                told, _, _ = select.select([signals], [], [], self.seconds_left(LIMIT_SECONDS))
                number = int.from_bytes(signals.read(1)) if told else None
                if number == 0:  # the other end is closed
                    return
                if first is not None and (number is None or number in SIGNALS):
                    os._exit(128 + first)
                if number in SIGNALS:
                    first, self._since = number, time.monotonic()


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Within, the first signal raises `Interrupted`, and a second one ends the process; so does
    the end of `LIMIT_SECONDS`. In a thread that is not the main one, signals do what they did."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    threading.Thread(
        target=interruption._watch, args=(reading,), name="signals", daemon=True
    ).start()
    earlier = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, interruption.receive) for number in SIGNALS}
    try:
        yield interruption
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(earlier)
        os.close(writing)
