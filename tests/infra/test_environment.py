"""Environments outlive checkouts: built once, by one, whole or not at all, anew when changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from watched import REPOSITORY

WEEK = 7 * 24 * 3600
RECIPE = """\
set -euo pipefail
. {mechanism}
build() {{
    echo "$1" >> {folder}/builds
    mkdir -p "$1/bin"
    ln -s "$python" "$1/bin/python"  # fails where half of one was left
    if [ -e {folder}/breaks ]; then exit 3; fi
    sleep "${{SECONDS_OF_BUILD:-0}}"
    cp requirements.txt "$1/made_of"
}}
python={python}
keep_environment peer "$python" requirements.txt
"""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A folder for what is kept, and checkouts with a recipe that writes down each build."""

    folder: Path

    def checkout(self, name: str, requirements: str = "numpy") -> Path:
        path = self.folder / name
        path.mkdir(exist_ok=True)
        mechanism, python = REPOSITORY / "infra" / "environment.sh", self.folder / "python"
        if not python.exists():
            python.symlink_to(sys.executable)
        recipe = RECIPE.format(mechanism=mechanism, folder=self.folder, python=python)
        (path / "install.sh").write_text(recipe)
        (path / "requirements.txt").write_text(requirements)
        return path

    def start(self, checkout: Path, **environment: str) -> subprocess.Popen[str]:
        environment |= {"STUDY_ENVIRONMENTS": str(self.folder / "kept")}
        return subprocess.Popen(
            ["bash", "install.sh"], cwd=checkout, env=os.environ | environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def install(self, checkout: Path, **environment: str) -> Path:
        """Run the recipe; where the link then points to."""
        process = self.start(checkout, **environment)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
        return (checkout / ".venv-peer").readlink()

    def builds(self) -> list[str]:
        log = self.folder / "builds"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(folder=tmp_path)


def test_checkouts_of_the_same_share_one(machine: Machine) -> None:
    first = machine.install(machine.checkout("first"))
    second = machine.install(machine.checkout("second"))
    assert first == second
    assert machine.builds() == [str(first)], "built at its last address, and once"
    assert (machine.folder / "second" / ".venv-peer" / "made_of").read_text() == "numpy"


def test_other_requirements_are_another(machine: Machine) -> None:
    """And what an older checkout uses stays for a week."""
    checkout = machine.checkout("one")
    old = machine.install(checkout)
    machine.checkout("one", "numpy<2")
    new = machine.install(checkout)
    assert (new / "made_of").read_text() == "numpy<2"
    assert old.exists() and old != new

    before = time.time() - WEEK - 24 * 3600
    os.utime(old / "ready", (before, before))
    os.utime(new / "ready", (before, before))
    assert machine.install(checkout) == new
    assert not old.exists(), "nobody asked for it"
    assert len(machine.builds()) == 2


def test_half_of_one_is_built_again(machine: Machine) -> None:
    checkout = machine.checkout("one")
    breaks = machine.folder / "breaks"
    breaks.touch()
    process = machine.start(checkout)
    process.communicate(timeout=60)
    assert process.returncode == 3
    assert not (checkout / ".venv-peer").exists()
    breaks.unlink()
    whole = machine.install(checkout)
    assert (whole / "made_of").exists()
    assert machine.builds() == [str(whole)] * 2


def test_who_comes_meanwhile_waits(machine: Machine) -> None:
    checkouts = [machine.checkout(str(i)) for i in range(3)]
    at_once = [machine.start(checkout, SECONDS_OF_BUILD="1") for checkout in checkouts]
    for process in at_once:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
    assert len(machine.builds()) == 1
    for checkout in checkouts:
        assert (checkout / ".venv-peer" / "made_of").exists()


def test_one_whose_python_is_gone_is_built_again(machine: Machine) -> None:
    checkout = machine.checkout("one")
    environment = machine.install(checkout)
    (environment / "bin" / "python").unlink()
    machine.install(checkout)
    assert (environment / "bin" / "python").exists()
    assert len(machine.builds()) == 2


def test_a_folder_of_before_gives_way(machine: Machine) -> None:
    checkout = machine.checkout("one")
    (checkout / ".venv-peer" / "bin").mkdir(parents=True)
    assert machine.install(checkout).name == machine.install(checkout).name
    shutil.rmtree(machine.folder / "kept")
    machine.install(checkout)
    assert len(machine.builds()) == 2, "from nothing where nothing is kept"


@pytest.mark.parametrize(
    "script", ["neuralhydrology/install.sh", "shyft/install.sh", "lowest/run.sh"]
)
def test_recipes_are_kept_by_all_that_they_are_made_of(script: str) -> None:
    """A recipe that forgot itself would go on with what an older one built."""
    recipe = f"infra/{script}"
    text = (REPOSITORY / recipe).read_text().replace('"$recipe"', recipe)
    (call,) = (line for line in text.splitlines() if line.startswith("keep_environment"))
    assert call.split()[1] == script.split("/")[0]
    assert recipe in call.split()
