"""Folders among the results: reports and bundles, which are made of files that belong together."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from study.experiment.storage.local import LocalStorage
from study.experiment.storage.protocol import Storage


@contextmanager
def results_folder(storage: Storage, name: str, *, last: str) -> Iterator[Path]:
    """A folder to write `name` of the results into.

    Of local results it is that folder. Of others it is an empty one on this host, whose files go up
    when the block has ended well, in place of those that are there.

    Args:
        storage: The study's results.
        name: The folder's place in them, such as `report`.
        last: The file that names or sums up the others: where it is, they are.
    """
    with working_folder(storage, name) as folder:
        yield folder
        put_folder(storage, name, folder, last=last)


@contextmanager
def working_folder(storage: Storage, name: str) -> Iterator[Path]:
    """Where `name` of the results is written on this host; see `put_folder`."""
    if isinstance(storage, LocalStorage):
        yield storage.folder / name
        return
    with TemporaryDirectory(prefix="study-") as aside:
        yield Path(aside, Path(name).name)


def put_folder(storage: Storage, name: str, folder: Path, *, last: str) -> None:
    """Put a written folder among the results, in place of what is there; local ones have it."""
    if isinstance(storage, LocalStorage):
        return
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    files.sort(key=lambda path: path.name == last)
    written = {f"{name}/{p.relative_to(folder).as_posix()}": p for p in files}
    storage.delete(f"{name}/{last}")  # of an older one, which it sums up no longer
    for key, path in written.items():
        storage.write(key, path.read_bytes())
    for key in storage.keys(f"{name}/"):
        if key not in written:
            storage.delete(key)


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A folder beside `out`, to be made and filled, that takes its place when the block has ended
    well; whatever happens, `out` is the old or the new one, whole."""
    aside, older = (out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}") for _ in range(2))
    aside.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield aside
        if out.exists():
            out.rename(older)
        aside.rename(out)
    finally:
        if older.exists() and not out.exists():
            older.rename(out)
        shutil.rmtree(older, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)
