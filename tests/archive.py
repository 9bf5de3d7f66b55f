"""A finished study in one small file, to be opened by later versions.

    python tests/archive.py FOLDER OUT.tar.xz

packs a folder that holds `store.zarr` and `results`. Pictures and pages stay out: they may look
different tomorrow. MLflow's database names its artifacts by absolute path; in the archive these
begin with a mark, which `unpack` replaces by where they are then.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tarfile
import tempfile
from pathlib import Path

MARK = "@FOLDER@"
PICTURES = {".png", ".svg", ".html"}


def pack(folder: Path, out: Path) -> None:
    """Write the archive of a folder's store and results."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary, "study")
        shutil.copytree(folder / "store.zarr", copy / "store.zarr")
        shutil.copytree(folder / "results", copy / "results", ignore=_pictures)
        _replace(copy / "results" / "mlflow.db", str(folder.resolve()), MARK)
        with tarfile.open(out, "w:xz", preset=9) as archive:
            for part in sorted(copy.iterdir()):
                archive.add(part, part.name, filter=_nobodys)


def unpack(archive: Path, folder: Path) -> Path:
    """Lay an archive's files into a new folder; returns it."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    _replace(folder / "results" / "mlflow.db", MARK, str(folder.resolve()))
    return folder


def _pictures(folder: str, names: list[str]) -> set[str]:
    """Names of pictures, but for those of bundles, which have checksums of all their files."""
    bundle = (Path(folder) / "manifest.json").is_file()
    return {n for n in names if Path(n).suffix in PICTURES and not bundle}


def _nobodys(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _replace(database: Path, old: str, new: str) -> None:
    """Replace a text in every column of text of a database."""
    with sqlite3.connect(database) as db:
        tables = [
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        for table in tables:
            for _, column, kind, *_ in db.execute(f'PRAGMA table_info("{table}")').fetchall():
                if "CHAR" in kind.upper() or "TEXT" in kind.upper():
                    db.execute(f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) '
                               f'WHERE instr("{column}", ?)', (old, new, old))  # fmt: skip
    db.execute("VACUUM")
    db.close()


if __name__ == "__main__":
    pack(Path(sys.argv[1]), Path(sys.argv[2]))
