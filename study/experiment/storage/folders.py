"""Folders among the results: reports and bundles, which are made of files that belong together."""

from __future__ import annotations

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
    if isinstance(storage, LocalStorage):
        yield storage.folder / name
        return
    with TemporaryDirectory(prefix="study-") as aside:
        folder = Path(aside, Path(name).name)
        yield folder
        files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
        files.sort(key=lambda path: path.name == last)
        written = {f"{name}/{p.relative_to(folder).as_posix()}": p for p in files}
        for key, path in written.items():
            storage.write(key, path.read_bytes())
        for key in storage.keys(f"{name}/"):
            if key not in written:
                storage.delete(key)
