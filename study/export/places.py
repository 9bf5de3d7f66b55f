"""Where a bundle lies: a folder, a `.tar`, or an object store; written whole or not at all.

Files are read by name into memory, never unpacked: a tar member cannot leave its folder because it
is not put into one. Reading follows no link and opens nothing but plain files.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import stat
import tarfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from study.errors import BundleError
from study.export.manifest import FILE_NAME, MANIFEST, SIGNATURE

if TYPE_CHECKING:
    from study.experiment.storage import Storage

MOST_BYTES = 2 * 2**30
"""Of one file; what is larger is no network of this platform."""


class Place(Protocol):
    """Files by name."""

    uri: str

    def read(self, name: str) -> bytes:
        """Content of a file.

        Raises:
            FileNotFoundError: There is none of this name.
            BundleError: It is no plain file, or too large.
        """


class _Folder:
    def __init__(self, folder: Path):
        self.folder, self.uri = folder, str(folder)

    def read(self, name: str) -> bytes:
        path = self.folder / name
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode):
            raise BundleError(
                f"{path}: is no plain file; a bundle holds no links, put a copy in its place"
            )
        _refuse_large(str(path), facts.st_size)
        return path.read_bytes()


class _Tar:
    """An uncompressed tar of one folder of plain files."""

    def __init__(self, path: Path):
        self.uri = str(path)
        self._contents: dict[str, bytes] = {}
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    self._take(archive, member)
        except tarfile.TarError as error:
            raise BundleError(
                f"{path}: is not an uncompressed tar ({error}); fetch or export the bundle again"
            ) from None

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        folder, _, name = member.name.rpartition("/")
        if member.isdir() and FILE_NAME.fullmatch(member.name):
            return
        if not member.isreg() or member.issparse():
            raise BundleError(
                f"{self.uri}: member {member.name!r} is no plain file; a bundle holds no links or "
                "devices, do not unpack it and fetch it from a source you trust"
            )
        if not (FILE_NAME.fullmatch(name) and FILE_NAME.fullmatch(folder)):
            raise BundleError(
                f"{self.uri}: member {member.name!r} would be unpacked elsewhere than in the "
                "bundle's folder; do not unpack it and fetch it from a source you trust"
            )
        if name in self._contents:
            raise BundleError(f"{self.uri}: holds {name} twice; export the bundle again")
        _refuse_large(f"{self.uri}: {name}", member.size)
        file = archive.extractfile(member)
        assert file is not None  # a plain file has content
        self._contents[name] = file.read()

    def read(self, name: str) -> bytes:
        if name not in self._contents:
            raise FileNotFoundError(f"no member {name}")
        return self._contents[name]


class _Stored:
    """Objects below a key of an object store."""

    def __init__(self, uri: str):
        self.uri = uri.rstrip("/")
        self._storage = _storage(self.uri)

    def read(self, name: str) -> bytes:
        return self._storage.read(name)


def open_place(uri: str | Path) -> Place:
    """A bundle's files, wherever they lie.

    Args:
        uri: A folder, a `.tar` file, or `s3://bucket/key`.

    Raises:
        BundleError: The tar holds what no bundle holds, or the object store is out of reach.
    """
    if "://" in str(uri):
        return _Stored(str(uri))
    path = Path(uri)
    return _Tar(path) if path.is_file() else _Folder(path)


def write_files(out: str | Path, files: Mapping[str, bytes]) -> None:
    """Write a bundle: into a folder or a tar aside and renamed, or object by object, the manifest
    last, so that nobody ever reads half a bundle.

    An interrupted upload goes on where it stopped: what is there and equal is not sent again. Every
    object's checksum at the store is compared before the manifest makes them a bundle.

    Args:
        out: New folder, new file ending in `.tar`, or `s3://bucket/key`.
        files: Name -> content, the manifest among them.

    Raises:
        BundleError: There is something else at the place already, or it cannot be written.
    """
    if "://" in str(out):
        _upload(str(out).rstrip("/"), files)
        return
    path = Path(out)
    if path.exists():
        raise BundleError(f"{path}: exists already; remove it, or give another --out")
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".tar":
            aside.write_bytes(_packed(path.stem, files))
        else:
            aside.mkdir()
            for name, content in files.items():
                (aside / name).write_bytes(content)
        aside.rename(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be written ({error})") from None
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def _packed(folder: str, files: Mapping[str, bytes]) -> bytes:
    """A tar of one folder; equal files give equal bytes."""
    if not FILE_NAME.fullmatch(folder):
        raise BundleError(
            f"{folder}.tar: the tar's folder would be called {folder!r}; name the file with "
            "letters, digits, dots, dashes and underscores"
        )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:") as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _upload(uri: str, files: Mapping[str, bytes]) -> None:
    storage = _storage(uri)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    if storage.digest(MANIFEST) not in (None, sums[MANIFEST]):
        raise BundleError(f"{uri}: holds another bundle already; give another --out")
    last = [name for name in (SIGNATURE, MANIFEST) if name in files]
    for name in [n for n in files if n not in last] + last:
        if storage.digest(name) == sums[name]:
            continue
        storage.write(name, files[name])
        if storage.digest(name) != sums[name]:
            raise BundleError(f"{uri}/{name}: is not what was sent; give the same command again")


def _storage(uri: str) -> Storage:
    from study.experiment.storage import open_storage

    try:
        return open_storage(uri, check=True)  # loads the object store's client
    except ImportError as error:
        raise BundleError(
            f"{uri}: an object store needs the package {error.name}; pip install '.[s3]'"
        ) from None


def _refuse_large(name: str, size: int) -> None:
    if size > MOST_BYTES:
        raise BundleError(f"{name}: has {size} bytes, a bundle's file has {MOST_BYTES} at most")
