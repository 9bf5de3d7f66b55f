"""A study's state and answer in a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from study.experiment.ledger import Ledger
from study.experiment.progress import is_finished, planned_jobs, progress_of
from study.spec import SplitSpec

if TYPE_CHECKING:
    from study.shyft.calibration import BasinFeatures

VERDICT_STYLES = {"better": "green", "worse": "red", "equivalent": "blue"}


def show_report(report: dict[str, Any], console: Console) -> None:
    """Print arms, models to compare with, and contrasts."""
    console.print(_arms_table(report))
    compared = [r for r in report["references"] if r[report["period"]] is not None]
    if compared:
        console.print(_references_table(compared, report["period"]))
    if report["contrasts"]:
        console.print(_contrast_table(report))
        if "split" in report["contrasts"][0]:
            console.print(_split_table(report["contrasts"]))
    if report["searches"]:
        console.print(_searches_table(report))
    notes = [f"winner, chosen on validation: {report['winner']}"]
    if report["period"] == "validation":
        notes.append("no test period: effects are on validation, which also chose the networks")
    elif report["test_reads"] > 1:
        notes.append(f"the test period was read {report['test_reads']} times: exploratory")
    notes += [f"{r['reference']}: {r['about']}" for r in compared]
    notes += [f"no trial of arm {arm} could be trained" for arm in report["failed_arms"]]
    if report["failures"]:
        notes.append(f"{len(report['failures'])} jobs failed; see report.json")
    for note in notes:
        console.print(Text(note))


def shyft_view(found: Mapping[str, BasinFeatures]) -> RenderableType:
    """How well Shyft simulates each basin: on the days it was calibrated on, on the same days
    cross-fitted, and on validation days if there are any."""
    table = Table(title="Shyft", title_justify="left")
    table.add_column("basin")
    known = {name for features in found.values() for name in features.scores}
    columns = [f"{score}_{days}" for score in ("nse", "kge")
               for days in ("calibration", "crossfit", "validation")
               if f"{score}_{days}" in known]  # fmt: skip
    for name in columns:
        table.add_column(name.replace("_", " ").replace("nse", "NSE").replace("kge", "KGE"),
                         justify="right")  # fmt: skip
    for basin, features in found.items():
        scores = [f"{features.scores[n]:.3f}" if n in features.scores else "" for n in columns]
        table.add_row(basin, *scores)
    worse = [b for b, f in found.items() if f.scores.get("nse_calibration", 1.0) <= 0]
    notes = [f"basin {b}: no better than its mean flow" for b in worse]
    notes += [f"basin {b} failed: {f.log['error']}" for b, f in found.items() if not f.series]
    return Group(table, *map(Text, notes))


def _arms_table(report: dict[str, Any]) -> Table:
    table = Table(title=f"{report['study']}: arms, {report['period']} period", title_justify="left")
    table.add_column("arm")
    for heading in ("NSE median", "95 %", "ensemble", "NSE mean", "KGE median", "NSE < 0",
                    "trials", "epochs", "seconds"):  # fmt: skip
        table.add_column(heading, justify="right")
    for arm in report["arms"]:
        scores = arm[report["period"]]
        table.add_row(
            arm["arm"],
            f"{scores['nse_median']:.3f}",
            f"{scores['nse_median_low']:.3f}–{scores['nse_median_high']:.3f}",
            f"{scores['nse_median_ensemble']:.3f}",
            f"{scores['nse_mean']:.3f}",
            f"{scores['kge_median']:.3f}",
            f"{scores['share_nse_below_0']:.1%}",
            str(arm["trials"]),
            str(arm["epochs"]),
            f"{arm['seconds']:.0f}",
            style="bold" if arm["arm"] == report["winner"] else None,
        )
    return table


def _references_table(references: list[dict[str, Any]], period: str) -> Table:
    table = Table(title=f"models to compare with, {period} period", title_justify="left")
    table.add_column("model")
    for heading in ("NSE median", "NSE mean", "KGE median", "NSE < 0", "basins",
                    "winner on these basins"):  # fmt: skip
        table.add_column(heading, justify="right")
    for reference in references:
        scores = reference[period]
        table.add_row(
            reference["reference"],
            f"{scores['nse_median']:.3f}",
            f"{scores['nse_mean']:.3f}",
            f"{scores['kge_median']:.3f}",
            f"{scores['share_nse_below_0']:.1%}",
            str(scores["basins"]),
            f"{scores['winner_nse_median']:.3f}",
        )
    return table


def _contrast_table(report: dict[str, Any]) -> Table:
    title = f"contrasts, equivalence ±{report['equivalence']:g} NSE"
    table = Table(title=title, title_justify="left")
    table.add_column("contrast")
    for heading in ("difference", "95 %", "P(a > b)", "p (Holm)"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for contrast in report["contrasts"]:
        verdict = contrast["verdict"]
        table.add_row(
            contrast["name"],
            f"{contrast['difference']:+.3f}",
            f"{contrast['low']:+.3f} … {contrast['high']:+.3f}",
            f"{contrast['p_superiority']:.2f}",
            f"{contrast['p_holm']:.2g}",
            Text(verdict, style=VERDICT_STYLES.get(verdict, "")),
        )
    return table


def _split_table(contrasts: list[dict[str, Any]]) -> Table:
    """Differences in two parts of the basins, coloured by verdict."""
    table = Table(title="in which basins", title_justify="left")
    table.add_column("contrast")
    first = contrasts[0]["split"]
    for name in SplitSpec(attribute=first["attribute"], at=first["at"]).names:
        for heading in (name, "95 %", "basins"):
            table.add_column(heading, justify="right")
    for contrast in contrasts:
        cells: list[Text | str] = []
        for part in (contrast["split"]["below"], contrast["split"]["above"]):
            if part is None:
                cells += ["", "", "too few"]
                continue
            style = VERDICT_STYLES.get(part["verdict"], "")
            cells.append(Text(f"{part['difference']:+.3f}", style=style))
            cells.append(f"{part['low']:+.3f} … {part['high']:+.3f}")
            cells.append(str(part["basins"]))
        table.add_row(contrast["name"], *cells)
    return table


def _searches_table(report: dict[str, Any]) -> Table:
    title = f"repeated searches, NSE median of the {report['period']} period"
    table = Table(title=title, title_justify="left")
    table.add_column("arm", no_wrap=True)
    for heading in ("of each search", "std between searches", "std left to the seeds"):
        table.add_column(heading, justify="right")
    for arm in report["searches"]:
        medians = "  ".join(f"{median:.3f}" for median in arm["nse_median"])
        table.add_row(arm["arm"], medians, f"{arm['std']:.3f}", f"{arm['seed_std']:.3f}")
    return table


def status_view(book: Ledger) -> RenderableType:
    """A table of where a study stands."""
    state = progress_of(book)
    table = Table(title=f"{state['study']}: {state['state']}", title_justify="left")
    table.add_column("arm", no_wrap=True)
    for heading in ("trials", "active", "waiting", "stopped", "done", "failed", "candidates",
                    "replicates", "best NSE (val.)", "seconds"):  # fmt: skip
        table.add_column(heading, justify="right")
    for arm in state["arms"]:
        trials, best = arm["trials"], arm["best_validation_nse"]
        counts = (trials[s] for s in ("run", "wait", "stopped", "done", "failed"))
        table.add_row(
            arm["arm"],
            f"{trials['asked']}/{trials['planned']}",
            *map(str, counts),
            str(arm["candidates"]),
            str(arm["replicates"]),
            "" if best is None else f"{best:.3f}",
            str(arm["seconds"]),
        )
    left = state["seconds_left"]
    about = "" if left is None else f", about {max(1, round(left / 60))} minutes of training left"
    line = Text(f"{state['jobs']} of {state['jobs_planned']} jobs closed{about}")
    return Group(table, line)


SECONDS_BETWEEN_LOOKS = 3
SECONDS_BETWEEN_LINES = 15


def keep_showing(read: Callable[[], Ledger], console: Console) -> None:
    """A table of where a study stands that follows it until it is finished, or Ctrl-C.

    Where the console is no terminal, there is a table whenever a job was closed.
    """
    told = -1
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            book = read()
            if console.is_terminal:
                live.update(status_view(book), refresh=True)
            elif book.closed.total() != told:
                console.print(status_view(book))
            told = book.closed.total()
            if is_finished(book):
                return
            time.sleep(SECONDS_BETWEEN_LOOKS)


class LiveProgress:
    """Progress of a running study: a bar on a terminal, now and then a line elsewhere."""

    def __init__(self, console: Console):
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("jobs"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None)
        self._told = (-1, "")
        self._last_line = 0.0

    def __enter__(self) -> LiveProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the bar as it is; other things are printed now."""
        self._bar.stop()

    def update(self, book: Ledger) -> None:
        """Show where the study stands now."""
        done = book.closed.total()
        planned = planned_jobs(book.spec, len(book.arms))
        stage = "finished" if is_finished(book) else "scoring" if book.trained() else "training"
        self._bar.update(self._task, description=stage, completed=done, total=planned)
        due = time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES
        if self._bar.disable and (done, stage) != self._told and (due or stage != self._told[1]):
            epochs = sum(len(job.reports) for job in book.jobs.values())
            self._console.print(f"{stage}: {done} of {planned} jobs, {epochs} epochs")
            self._told, self._last_line = (done, stage), time.monotonic()


class Steps:
    """Progress of what follows a study's answer: a bar on a terminal, a line a step elsewhere."""

    def __init__(self, console: Console):
        self.seconds: dict[str, float] = {}
        """Name of a step that is over -> how long it took"""
        self._console = console

    @contextmanager
    def step(self, name: str, parts: int | None = None) -> Iterator[Callable[[], None]]:
        """Within, a step goes on.

        Yields:
            What to call whenever one of its parts is done.
        """
        bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(),
            console=self._console, transient=True, disable=not self._console.is_terminal,
        )  # fmt: skip
        started = time.monotonic()
        if bar.disable:
            self._console.print(f"{name}: begun")
        try:
            with bar:
                task = bar.add_task(name, total=parts)
                yield lambda: bar.advance(task)
        finally:
            self.seconds[name] = round(time.monotonic() - started, 2)
