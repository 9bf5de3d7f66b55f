"""The C library is built where it can be, kept privately, checked when loaded; else torch computes.

Cases that depend on the user or on models run in a process of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from study import native
from study.native.building import Loaded, find_compiler, load

HOUSE = Path(native.__file__).parents[2]
LOOK = """
import json, logging, torch
from study import native
from study.models import NetworkConfig, build
found = native.loaded()
config = NetworkConfig(num_dynamic=2, num_static=0, hidden_size=4)
model = build("lstm", config, generator=torch.Generator().manual_seed(1))
y, _ = model(torch.ones(1, 5, 2), torch.ones(1, 0))
print(json.dumps({"native": found.library is not None, "failure": found.failure,
                  "compiler": found.compiler, "instructions": found.instructions,
                  "shape": list(y.shape), "compiled": model.compiled}))
"""
needs_compiler = pytest.mark.skipif(
    find_compiler() is None, reason="there is no C compiler on this machine"
)


def look(cache: Path | None, *prefix: str, **environment: str) -> dict[str, object]:
    """What a fresh process finds."""
    kept = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(HOUSE), **environment}
    if cache is not None:
        kept["XDG_CACHE_HOME"] = str(cache)
    done = subprocess.run([*prefix, sys.executable, "-c", LOOK], env=kept, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    assert found["shape"] == [1, 5] and found["compiled"] == found["native"]
    return found


@pytest.fixture
def load_from(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Loaded]:
    """What is found with a folder for the cache, in this process."""

    def found(cache: Path) -> Loaded:
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        return load()

    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a library in it."""
    cache = tmp_path_factory.mktemp("cache")
    found = look(cache)
    assert found["native"] and found["failure"] is None, found
    assert found["compiler"] and found["instructions"]
    return cache


@pytest.fixture
def cache(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "cache"))


def library_in(cache: Path) -> Path:
    (path,) = cache.glob("study/native-*.so")
    return path


@needs_compiler
def test_it_is_built_once_into_a_folder_of_ones_own(
    built: Path, load_from: Callable[[Path], Loaded]
) -> None:
    path = library_in(built)
    before = path.stat().st_mtime_ns
    assert load_from(built).library is not None
    assert library_in(built).stat().st_mtime_ns == before
    assert path.parent.stat().st_mode & 0o777 == path.stat().st_mode & 0o777 == 0o700


def without_functions(path: Path) -> None:
    """A library that loads and lacks what is called, under the name of its own digest."""
    from study.native.building import _digest

    source = path.with_suffix(".c")
    source.write_text("int nothing(void) { return 0; }\n")
    other = path.with_name("other.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", other, source], check=True)
    path.unlink()
    other.chmod(0o700)
    other.rename(path.with_name(f"{path.stem.rpartition('-')[0]}-{_digest(other)}.so"))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut in half": lambda p: os.truncate(p, p.stat().st_size // 2),
    "empty": lambda p: os.truncate(p, 0),
    "no library": lambda p: p.write_text("garbage"),
    "one bit": lambda p: p.write_bytes(p.read_bytes()[:-1] + bytes([p.read_bytes()[-1] ^ 1])),
    "others may write": lambda p: p.chmod(0o666),
    "a link": lambda p: (p.rename(p.with_name("kept")), p.symlink_to(p.with_name("kept"))),
}


@needs_compiler
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_sound_is_built_again(
    cache: Path, damage: str, load_from: Callable[[Path], Loaded]
) -> None:
    path = library_in(cache)
    content = path.read_bytes()
    DAMAGES[damage](path)
    assert load_from(cache).library is not None
    again = library_in(cache)
    assert again.read_bytes() == content and not again.is_symlink()
    assert again.stat().st_mode & 0o777 == 0o700


@needs_compiler
def test_what_lacks_a_function_is_named(cache: Path, load_from: Callable[[Path], Loaded]) -> None:
    """Its digest is right, so nobody damaged it: that its compiler made such a thing is said."""
    without_functions(library_in(cache))
    found = load_from(cache)
    assert found.library is None and "no library that loads" in str(found.failure)


PLANTED = """
#include <stdio.h>
__attribute__((constructor)) static void runs(void) { fopen("MARKER", "w"); }
"""


@needs_compiler
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
@pytest.mark.parametrize("whose", ["library", "folder"])
def test_what_is_somebody_elses_is_not_loaded(cache: Path, whose: str, tmp_path: Path) -> None:
    path, marker = library_in(cache), tmp_path / "ran"
    source = tmp_path / "planted.c"
    source.write_text(PLANTED.replace("MARKER", str(marker)))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, source], check=True)
    os.chown(path if whose == "library" else path.parent, 1000, 1000)
    assert look(cache, TMPDIR=str(tmp_path))["native"]
    assert not marker.exists()
    if whose == "folder":  # where nothing of this user's may lie
        assert list(tmp_path.glob(f"study-{os.geteuid()}/native-*.so"))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may write to, as `/tmp`; pytest's own are for one user."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


@needs_compiler
def test_where_home_cannot_be_written_a_private_temporary_folder_is_taken(tmp_path: Path) -> None:
    assert look(None, HOME="/proc/nohome", TMPDIR=str(tmp_path))["native"]
    assert list(tmp_path.glob(f"study-{os.geteuid()}/native-*.so"))


@needs_compiler
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="only root can be a user without a name, by setpriv (Debian's util-linux)",
)
def test_a_user_without_home_and_name_has_a_library_too(open_folder: Path) -> None:
    """As in containers that run with an unknown number for a user."""
    prefix = ("setpriv", "--reuid=12345", "--clear-groups")
    assert look(None, *prefix, TMPDIR=str(open_folder))["native"]
    assert list(open_folder.glob("study-12345/native-*.so"))


@pytest.mark.parametrize(
    ("compiler", "why"),
    [("/no/such/compiler", "/no/such/compiler"), ("false", "compiler false fails"),
     ("echo", "No such file"), ("cc --no-such-option", "no-such-option")],
)  # fmt: skip
def test_without_a_compiler_that_works_torch_computes(
    tmp_path: Path, compiler: str, why: str
) -> None:
    """None, one that fails, one that writes nothing, one with an option that it does not know."""
    found = look(tmp_path, CC=compiler)
    assert not found["native"] and why in str(found["failure"]), found
    assert not list(tmp_path.rglob("*.so"))


@needs_compiler
@pytest.mark.parametrize(
    "command", ["FOLDER/my tools/cc", "'FOLDER/my tools/cc' -pipe", "cc -pipe"]
)
def test_a_compiler_may_have_a_space_in_its_path_and_options(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my tools").mkdir()
    compiler = tmp_path / "my tools" / "cc"
    compiler.symlink_to(str(shutil.which("cc")))
    monkeypatch.setenv("CC", command.replace("FOLDER", str(tmp_path)))
    assert find_compiler() in ([str(compiler)], [str(compiler), "-pipe"], ["cc", "-pipe"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load().library is not None
