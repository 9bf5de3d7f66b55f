"""A study's connection to Ray, made when it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType

Hosts = tuple[Mapping[str, float], ...]


class Connection:
    """Where to train. Ray is let go when this is left (`with`)."""

    def __init__(
        self, *, address: str | None, num_cpus: int | None = None, num_gpus: int | None = None
    ):
        """
        Args:
            address: Of a Ray cluster; None for an own one on this machine.
            num_cpus: Size of an own one; the machine's if None.
            num_gpus: Likewise; they need not be there.
        """
        self.address = address
        self._size = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        self._open = ExitStack()
        self._hosts: Hosts | None = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def load(self) -> None:
        """Import Ray, which `hosts` would do."""
        from study.experiment.cluster import load

        load(self.address)

    def hosts(self) -> Hosts:
        """The resources (`CPU`, `GPU`, ...) of each host when Ray was met."""
        if self._hosts is None:
            from study.experiment.cluster import connected

            self._hosts = self._open.enter_context(connected(self.address, **self._size))
        return self._hosts

    def close(self) -> None:
        """Let Ray go; again, nothing happens."""
        self._open.close()
        self._hosts = None
