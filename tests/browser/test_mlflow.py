"""The MLflow UI in a real browser, on a real server: the study is found, compared, looked into."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from playwright.sync_api import Browser, Page, expect

from browser.conftest import Finished
from study.experiment.tracking.gallery import log_exhibits
from study.experiment.tracking.views import NAMES, link
from study.report.compare import answer_of
from study.report.exhibits import hydrographs

pytestmark = pytest.mark.browser

WAIT_SECONDS = 180
NO_ASSISTANT = """
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
"""
"""MLflow's own panel would take a third of the page."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """A study in a running UI."""

    base: str
    client: MlflowClient
    experiment: str
    arms: list[str]
    """The best of the test period first."""


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def wait_for(url: str, server: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        assert server.poll() is None, "`study ui` ended"
        assert time.monotonic() < deadline, f"{url} does not answer"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)


@pytest.fixture(scope="module")
def served(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    uri = f"sqlite:///{tmp_path_factory.mktemp('ui')}/mlflow.db"
    answer = answer_of(finished.book, finished.storage)
    log_exhibits(finished.book, uri, finished.report, hydrographs(answer))
    client, name = MlflowClient(tracking_uri=uri), finished.book.spec.name
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    arms = client.search_runs([experiment.experiment_id], "tags.`study.stage` = 'arm'",
                              order_by=["metrics.`test/nse_median` DESC"])  # fmt: skip
    port = free_port()
    command = [sys.executable, "-m", "study", "ui", "--tracking-uri", uri, "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert server.stdout is not None
        told = server.stdout.readline()
        base = f"http://127.0.0.1:{port}"
        assert told.startswith(f"{name}: {base}/#/experiments/{experiment.experiment_id}/runs?")
        wait_for(f"{base}/health", server)
        yield Served(base=base, client=client, experiment=experiment.experiment_id,
                     arms=[run.data.tags["study.arm"] for run in arms])  # fmt: skip
    finally:
        os.killpg(server.pid, signal.SIGINT)  # as Ctrl-C does
        server.communicate(timeout=60)


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1500, "height": 900}, color_scheme="light")
    context.add_init_script(NO_ASSISTANT)
    page = context.new_page()
    page.set_default_timeout(1000 * WAIT_SECONDS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def test_two_clicks_show_the_arms_with_the_winner_on_top(
    served: Served, page: Page, screenshots: Path
) -> None:
    page.goto(f"{served.base}/#/experiments")
    page.get_by_text("Model training", exact=True).first.click()  # not GenAI; asked once
    page.get_by_role("link", name="small", exact=True).click()
    page.wait_for_url("**/runs**")
    page.get_by_role("button", name="Views").click()
    page.get_by_text(NAMES["arms"]).click()
    page.get_by_text(f"Group: {served.arms[0]}", exact=True).wait_for()
    assert page.get_by_text("Sort: test/nse_median").is_visible()
    groups = page.get_by_text("Group: ")
    expect(groups).to_have_count(len(served.arms))
    heights = {g.inner_text().removeprefix("Group: "): g.bounding_box() for g in groups.all()}
    assert sorted(heights, key=lambda arm: (heights[arm] or {"y": 0})["y"]) == served.arms
    page.screenshot(path=screenshots / "mlflow-arms.png")


def opened(page: Page, served: Served, view: str) -> None:
    """A view's charts, in a page that has shown nothing yet: to load it again while the interface
    puts the view's state away may leave it with another one."""
    page.goto(link(served.base, served.experiment, view))
    page.locator(".js-plotly-plot").first.wait_for()


def test_learning_curves_of_the_arms_overlay(served: Served, page: Page, screenshots: Path) -> None:
    opened(page, served, "arms")
    lines = page.locator(".js-plotly-plot").first.locator(".scatterlayer .js-line")
    expect(lines.nth(len(served.arms) - 1)).to_be_attached(timeout=1000 * WAIT_SECONDS)
    page.screenshot(path=screenshots / "mlflow-curves.png")


def test_parallel_coordinates_are_the_factors_and_the_score(
    served: Served, page: Page, screenshots: Path
) -> None:
    opened(page, served, "factors")
    page.get_by_text("Parallel Coordinates").first.wait_for()
    chart = page.locator(".parcoords, svg").filter(has_text="test/nse_median").first
    chart.wait_for()
    for axis in ("model", "snow", "test/nse_median", "ealstm", "observed"):
        assert page.locator("svg text", has_text=axis).count() > 0, axis
    for arm in served.arms:
        assert page.get_by_role("link", name=arm, exact=True).is_visible()
    page.screenshot(path=screenshots / "mlflow-factors.png")


def test_a_replicate_shows_its_data_and_hydrograph(
    served: Served, page: Page, screenshots: Path
) -> None:
    (run, *_) = served.client.search_runs(
        [served.experiment], "tags.`study.stage` = 'replicate'", max_results=1
    )
    address = f"{served.base}/#/experiments/{served.experiment}/runs/{run.info.run_id}"
    page.goto(address)
    page.get_by_text("store", exact=False).first.wait_for()
    page.get_by_text(run.data.tags["study.arm"]).first.wait_for()
    page.screenshot(path=screenshots / "mlflow-run.png")
    page.goto(f"{address}/artifacts/hydrographs.png")
    image = page.locator("img[src*='hydrographs'], img[src^='blob']").first
    image.wait_for()
    page.wait_for_function("[...document.images].some((i) => i.naturalWidth > 700)")
    page.screenshot(path=screenshots / "mlflow-hydrograph.png")
