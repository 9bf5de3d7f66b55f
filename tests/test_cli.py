"""The command line: every command explains itself, and errors are one paragraph and a code."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from small import small_content
from typer.main import get_command
from typer.testing import CliRunner

from study.cli import app, main

REPOSITORY = Path(__file__).resolve().parent.parent


def commands() -> list[str]:
    """Every command as it is typed, without `study`."""
    found = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found += [name] if inner is None else [f"{name} {sub}" for sub in inner]
    return found


def test_the_commands_are_those_of_the_contract() -> None:
    contract = "check run status report export predict ui"
    data = {"data synthesize", "data build", "data info"}
    assert {*contract.split(), *data} <= set(commands())


@pytest.mark.parametrize("command", commands())
def test_help_has_a_working_example(command: str) -> None:
    """An example that names an option which does not exist is worse than none."""
    shown = CliRunner().invoke(app, [*command.split(), "--help"])
    assert shown.exit_code == 0
    example = re.search(rf"Example: study {command} ([\s\S]*?)\n\s*\n", shown.output)
    assert example, shown.output
    for option in re.findall(r"--[\w-]+", example.group(1)):
        assert option in shown.output.replace(example.group(0), ""), option


@pytest.mark.parametrize("command", commands())
def test_the_readme_names_every_command(command: str) -> None:
    assert f"study {command}" in (REPOSITORY / "README.md").read_text()


@dataclass(frozen=True, kw_only=True)
class Ended:
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """`study` in this process: one of its own would load torch for every test."""

    def ended(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["study", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return Ended(code=code, stdout=out, stderr=err)

    return ended


def test_as_a_module_with_an_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "study", "run", "absent.yaml"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: absent.yaml: cannot be read")
    assert "Traceback" not in ended.stderr


def test_check_touches_nothing(tmp_path: Path, run: Callable[..., Ended]) -> None:
    spec = tmp_path / "small.yaml"
    spec.write_text(yaml.safe_dump(small_content()))
    ended = run("check", spec)
    assert ended.code == 0, ended.stderr
    for told in ("2 arms", "lstm-snow", "8 trials", "snow: observed - off"):
        assert told in ended.stdout
    assert list(tmp_path.iterdir()) == [spec]


@pytest.mark.parametrize(
    ("halving", "told"),
    [  # two cohorts of 4, rungs after 1 and 2 epochs of 4; 7 jobs of 4 epochs confirm
        ("synchronous", "8 trials, 44 epochs at most; in all 30 jobs, 88 epochs"),
        ("asynchronous", "8 trials, about 44 epochs, 60 at most; in all 30 jobs, about 88 epochs"),
    ],
)
def test_check_says_how_sure_the_budget_is(
    halving: str, told: str, tmp_path: Path, run: Callable[..., Ended]
) -> None:
    spec = tmp_path / "small.yaml"
    spec.write_text(yaml.safe_dump(small_content()))
    ended = run("check", spec, "--set", f"search.halving={halving}")
    assert told in " ".join(ended.stdout.split()), ended.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("run absent.yaml", "absent.yaml: cannot be read"),
        ("status absent --results nowhere", "holds no study"),
        ("report absent --results nowhere", "holds no study"),
        ("export absent --results nowhere --out x", "holds no study"),
        ("predict absent --forcing x.csv --out y.csv", "cannot be read"),
        ("data info absent.zarr", "no such store"),
        ("check", "Missing argument"),
        ("run --unknown", "No such option"),
    ],
)
def test_bad_usage_is_one_paragraph_and_exit_code_2(
    arguments: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., Ended],
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run(*arguments.split())
    assert ended.code == 2
    assert told in " ".join(ended.stderr.split())
    assert not list(tmp_path.iterdir())


def test_a_study_is_found_by_its_spec_too(tmp_path: Path, run: Callable[..., Ended]) -> None:
    spec = tmp_path / "file.yaml"
    spec.write_text(yaml.safe_dump(small_content(name="its-own-name")))
    ended = run("status", spec, "--results", tmp_path)
    assert f"{tmp_path}/its-own-name" in "".join(ended.stderr.split())
