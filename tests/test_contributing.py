"""The recipes of CONTRIBUTING.md, carried out letter by letter on a copy of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import study

REPOSITORY = Path(__file__).resolve().parent.parent
TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text()
RECIPES = {
    part.splitlines()[0]: part
    for part in re.split(r"(?m)^### ", TEXT.split("## Recipes")[1].split("\n## ")[0])[1:]
}
NEW_FILE = re.compile(r"(?ms)^`(study/[\w/]+\.py)`:\n\n```python\n(.*?)^```$")
CHANGE = re.compile(r"(?ms)^```diff\n--- (study/[\w/]+\.py)\n(.*?)^```$")
CHECK = re.compile(r"(?ms)^```python\n# check\n(.*?)^```$")


def change(text: str, hunk: str) -> str:
    """A text with the lines of a hunk, which must be in it once."""
    lines = hunk.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    assert text.count(old) == 1, f"these lines are {text.count(old)} times in the file:\n{old}"
    return text.replace(old, new)


def carry_out(recipe: str, folder: Path) -> None:
    """Write a recipe's new files and make its changes."""
    for path, content in NEW_FILE.findall(recipe):
        assert not (folder / path).exists()
        (folder / path).write_text(content)
    for path, hunks in CHANGE.findall(recipe):
        text = (folder / path).read_text()
        for hunk in hunks.split("@@\n"):
            text = change(text, hunk)
        (folder / path).write_text(text)


def run_check(recipe: str, folder: Path, store: Path) -> subprocess.CompletedProcess[str]:
    [check] = CHECK.findall(recipe)
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", check, str(store)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
    )


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the package."""
    source = Path(study.__file__).parent
    shutil.copytree(source, tmp_path / "study", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_there_is_a_recipe_for_each_part_that_people_add() -> None:
    assert set(RECIPES) == {"A model", "A metric", "A data set", "A feature group"}


WITH_RAY = ("A model",)
"""Recipes whose check runs a whole study."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in WITH_RAY)) for n in RECIPES]
)
def test_a_recipe_works(name: str, house: Path, synthetic_store: Path) -> None:
    recipe = RECIPES[name]
    if NEW_FILE.search(recipe) or CHANGE.search(recipe):  # else it needs no change of the code
        before = run_check(recipe, house, synthetic_store)
        assert before.returncode != 0, "the check does not ask for what the recipe adds"
    carry_out(recipe, house)
    after = run_check(recipe, house, synthetic_store)
    assert after.returncode == 0, after.stderr


@pytest.mark.parametrize("name", RECIPES)
def test_its_code_is_as_the_house_wants_it(name: str, house: Path) -> None:
    carry_out(RECIPES[name], house)
    shutil.copy(REPOSITORY / "pyproject.toml", house)
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "study"]
        ended = subprocess.run(ruff, capture_output=True, text=True, check=False, cwd=house)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_part_of_the_house_is_on_the_map() -> None:
    table = TEXT.split("## A map of the house")[1].split("## Recipes")[0]
    for path in Path(study.__file__).parent.iterdir():
        if (path / "__init__.py").exists() or (path.suffix == ".py" and "__" not in path.name):
            assert f"`study/{path.name}" in table, path.name


def test_a_change_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(AssertionError, match="0 times"):
        change("a = 1\nb = 2\n", " a = 2\n+c = 3\n")
    assert change("a = 1\nb = 2\n", " a = 1\n-b = 2\n+c = 3\n") == "a = 1\nc = 3\n"
