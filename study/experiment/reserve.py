"""Workers that wait for others to come to a rung are kept.

Tune ends the process of a worker for which no trial waits. A new one takes seconds to start, and if
another worker takes its trial meanwhile it is ended before it has begun.
"""

from __future__ import annotations

import time
from typing import Any

PATIENCE_SECONDS = 60.0
"""Without a job handed out, after which hosts without work may go."""


class Reserve:
    """How many idle workers Tune keeps."""

    def __init__(self) -> None:
        self._kept = 0
        self._until = 0.0

    def renew(self) -> None:
        """Keep idle workers: a job was handed out."""
        self._until = time.monotonic() + PATIENCE_SECONDS

    def dissolve(self) -> None:
        """Keep none: one of them was lost, perhaps with a host that had others, and a job is not
        to try them all."""
        self._until = 0.0

    def hold(self, tune_controller: Any, resources: Any, jobs_left: int) -> None:
        """Tell Tune.

        Args:
            tune_controller: Tune's; its cache of workers is private, held by `ray<2.61`.
            resources: Of a worker, as a trial names them.
            jobs_left: That are yet to be handed out; more workers have nothing to wait for.
        """
        kept = max(0, jobs_left) if time.monotonic() < self._until else 0
        if kept != self._kept:
            tune_controller._actor_cache.increase_max(resources, by=kept - self._kept)
            self._kept = kept
