"""The transcript: what each check found, as it goes and once more at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest


@dataclass
class Check:
    """A test of the bed, and what it has to tell."""

    title: str
    outcome: str = "not run"
    seconds: float = 0.0
    told: list[str] = field(default_factory=list)


CHECKS = pytest.StashKey[dict[str, Check]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[CHECKS] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("testbed"):
            assert isinstance(item, pytest.Function)
            title = (item.function.__doc__ or item.name).strip().split("\n\n")[0]
            config.stash[CHECKS][item.nodeid] = Check(" ".join(title.split()))
            if "STUDY_TESTBED" not in os.environ:
                item.add_marker(pytest.mark.skip("`make testbed` makes the hosts that it needs"))


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Prints a line of the transcript."""
    terminal = request.config.pluginmanager.getplugin("terminalreporter")
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        request.config.stash[CHECKS][request.node.nodeid].told.append(line)
        with capture.global_and_fixture_disabled():
            terminal.ensure_newline()
            terminal.write_line(f"    {line}")

    return say


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield
    check = item.config.stash[CHECKS].get(item.nodeid)
    if check is not None:
        check.seconds += report.duration
        if report.when == "call" or not report.passed:
            check.outcome = report.outcome
        if report.failed and (bed := item.funcargs.get("bed")):
            report.sections += [(f"{name}.log", text) for name, text in bed.logs().items()]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    checks = terminalreporter.config.stash[CHECKS].values()
    if "STUDY_TESTBED" not in os.environ:
        return
    terminalreporter.section("test bed")
    for check in checks:
        terminalreporter.write_line(f"{check.outcome:8} {check.seconds:5.0f} s  {check.title}")
        for line in check.told:
            terminalreporter.write_line(f"{'':20}{line}")
