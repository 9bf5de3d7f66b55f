"""The report's page in a real browser: light, dark, on a phone, on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from browser.conftest import Finished

pytestmark = pytest.mark.browser

Scheme = Literal["light", "dark"]
CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
DESK, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def report(finished: Finished) -> Path:
    """The page."""
    return finished.report / "report.html"


class Seen:
    """A page, what it complained of, and what it asked for."""

    def __init__(self, page: Page, path: Path):
        self.page = page
        self.complaints: list[str] = []
        self.asked_for: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked_for.append(request.url))
        page.goto(path.as_uri())


@pytest.fixture(params=[("light", DESK), ("dark", DESK), ("light", PHONE), ("dark", PHONE)],
                ids=["light", "dark", "phone", "phone-dark"])  # fmt: skip
def seen(
    request: pytest.FixtureRequest, browser: Browser, report: Path, screenshots: Path
) -> Iterator[Seen]:
    scheme, (width, height) = request.param
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=1
    )
    seen = Seen(context.new_page(), report)
    name = request.node.callspec.id
    seen.page.screenshot(path=screenshots / f"report-{name}.png", full_page=True)
    yield seen
    context.close()


def test_the_page_is_whole_readable_and_quiet(seen: Seen, report: Path) -> None:
    page = seen.page
    assert seen.complaints == []
    fetched = [url for url in seen.asked_for if not url.startswith("data:")]
    assert fetched == [report.as_uri()]
    assert page.locator("h1").inner_text() == "Does snow help <both> kinds of model?"
    found = page.evaluate(CONTRAST, 4.5)
    assert found["texts"] > 300
    assert found["poor"] == []
    wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wider <= 0, f"the page scrolls sideways by {wider} px"


def test_every_figure_is_drawn_and_described(seen: Seen) -> None:
    figures = seen.page.locator("figure svg")
    assert figures.count() >= 8
    for number in range(figures.count()):
        figure = figures.nth(number)
        assert len(figure.get_attribute("aria-label") or "") > 40
        box = figure.bounding_box()
        assert box is not None and box["width"] > 200 and box["height"] > 80
    bars = seen.page.locator("svg.bar .dot")
    assert bars.count() == seen.page.locator("table.verdicts tbody tr").count()


def test_sections_are_reached_by_their_links(seen: Seen) -> None:
    for link in seen.page.locator("nav a").all():
        target = link.get_attribute("href") or ""
        assert seen.page.locator(target).count() == 1
    seen.page.locator("nav a", has_text="Protocol").click()
    expect(seen.page.locator("#protocol h2")).to_be_in_viewport()


def test_paper_is_white_and_holds_the_spec(
    browser: Browser, report: Path, screenshots: Path
) -> None:
    """Also when the screen is dark; what is folded on the screen is printed."""
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(report.as_uri())
    page.pdf(path=screenshots / "report.pdf", format="A4", print_background=True)
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(CONTRAST, 4.5)["poor"] == []
    assert not page.locator("nav").is_visible()
    assert page.locator("pre").bounding_box() is not None
    assert (screenshots / "report.pdf").stat().st_size > 50_000
    context.close()
