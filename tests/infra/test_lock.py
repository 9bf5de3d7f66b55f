"""The lock is whole, has hashes, is what is installed, and leaves torch out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from watched import REPOSITORY

WITH_CUDA = ("cuda-", "nvidia-", "triton")


def requirements(path: Path) -> Iterator[Requirement]:
    """Those of a file, without their hashes."""
    for line in path.read_text().splitlines():
        if re.match(r"\w", line):
            yield Requirement(line.removesuffix(" \\"))


def test_constraints_are_the_lock_without_hashes() -> None:
    lock = [str(r) for name in ("requirements.lock", "requirements-torch.lock")
            for r in requirements(REPOSITORY / name)]  # fmt: skip
    assert lock == [str(r) for r in requirements(REPOSITORY / "constraints.txt")]
    assert len(lock) > 150


def test_every_version_has_hashes() -> None:
    """A line that goes on is followed by a hash, and none but torch stands without."""
    blocks = re.split(r"\n(?=\w)", (REPOSITORY / "requirements.lock").read_text())[1:]
    assert len(blocks) > 150
    for block in blocks:
        version, *hashes = (line.removesuffix(" \\").strip() for line in block.splitlines())
        assert not version.startswith("torch==")
        assert hashes, version
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes), version


def test_what_is_installed_is_locked() -> None:
    """To the version: so what the tests ran with can be had again."""
    for requirement in requirements(REPOSITORY / "constraints.txt"):
        if requirement.marker is None or requirement.marker.evaluate():
            version = metadata.version(requirement.name)
            assert requirement.specifier.contains(version), f"{requirement.name} {version}"


def test_nothing_is_missing() -> None:
    """What each distribution requires, and all of study's extras, is installed as required."""
    here = {canonicalize_name(d.name): d for d in metadata.distributions()}
    for name, distribution in here.items():
        extras = distribution.metadata.get_all("Provides-Extra") if name == "study" else [""]
        for requirement in map(Requirement, distribution.requires or ()):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                other = here[canonicalize_name(requirement.name)]
                assert requirement.specifier.contains(other.version, prereleases=True), (
                    f"{name} wants {requirement}, but {other.version} is here"
                )


def test_what_torch_needs_is_listed() -> None:
    """The lock is resolved without torch, so its own requirements are given by hand."""
    needed = {
        str(requirement)
        for requirement in map(Requirement, metadata.requires("torch") or ())
        if (requirement.marker is None or requirement.marker.evaluate({"extra": ""}))
        and not requirement.name.startswith(WITH_CUDA)
    }
    assert needed == {str(r) for r in requirements(REPOSITORY / "infra" / "lock" / "torch.txt")}
