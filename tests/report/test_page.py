"""The report's page: all that was found stands there, nothing is loaded, nothing is let in."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline import InlineStudy

from study.experiment.storage import LocalStorage
from study.report import figures
from study.report.compare import write_report
from study.report.page import COLOURS, bar, inline_svg
from study.report.words import answer, beyond, bounds, chance, headline, sentence, signed

EVIL = "<script>alert('q')</script> & \"$x$\""
FOUR = {"model": ["lstm", "ealstm"], "snow": ["off", "observed"]}


class Page(HTMLParser):
    """Tags, ids and what is fetched."""

    VOID = frozenset({"meta", "link", "br", "img"})

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.labels: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.handle_attributes(tag, dict(attrs))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handle_attributes(tag, dict(attrs))

    def handle_attributes(self, tag: str, attrs: dict[str, str | None]) -> None:
        if attrs.get("id"):
            self.ids.append(str(attrs["id"]))
        for name in ("src", "href", "xlink:href", "data"):
            value = attrs.get(name)
            if value and not value.startswith(("#", "data:")):
                self.fetched.append(value)
        if tag == "svg" and attrs.get("aria-hidden") != "true":
            assert attrs.get("role") == "img"
            self.labels.append(attrs.get("aria-label") or "")

    def handle_endtag(self, tag: str) -> None:
        if self.open and tag in self.open:
            while self.open.pop() != tag:
                pass


@pytest.fixture(scope="module")
def written(
    synthetic_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("page")
    storage = LocalStorage(folder / "study")
    book = InlineStudy(store=synthetic_store, storage=storage).finish(
        question=EVIL, factors=FOUR, evidence={"repetitions": 200, "split": {"at": 0.3}}
    )
    report = write_report(book, storage, folder / "report")
    return (folder / "report" / "report.html").read_text(), report


def test_a_spec_cannot_write_into_the_page(written: tuple[str, dict[str, Any]]) -> None:
    text, _ = written
    page = Page(text)
    assert "script" not in page.tags
    assert "<script" not in text
    assert "&lt;script&gt;alert(&#39;q&#39;)&lt;/script&gt; &amp; &#34;$x$&#34;" in text


def test_nothing_is_fetched(written: tuple[str, dict[str, Any]]) -> None:
    text, _ = written
    assert Page(text).fetched == []
    assert "default-src 'none'" in text
    assert not re.search(r"url\((?!#)", text)


def test_ids_are_unique_and_every_reference_has_one(written: tuple[str, dict[str, Any]]) -> None:
    text, _ = written
    ids = Page(text).ids
    assert len(ids) == len(set(ids))
    referred = re.findall(r"(?:url\(|href=\")#([^\")]+)", text)
    assert referred and set(referred) <= set(ids)


def test_every_figure_has_words(written: tuple[str, dict[str, Any]]) -> None:
    text, report = written
    labels = Page(text).labels
    assert len(labels) >= 8 and all(len(label) > 40 for label in labels)
    assert any(report["contrasts"][0]["name"] in label for label in labels)


def test_the_page_holds_what_was_found(written: tuple[str, dict[str, Any]]) -> None:
    text, report = written
    for contrast in report["contrasts"]:
        assert contrast["name"] in text and signed(contrast["difference"]) in text
    for effect in report["factorial"]:
        assert effect["name"] in text
    assert len(report["factorial"]) == 3
    for arm in report["arms"]:
        assert f'<th scope="row" class="name">{arm["arm"]}</th>' in text
    assert text.index('id="verdicts"') < text.index('id="arms"') < text.index('id="protocol"')
    assert "read once" in text and "No job failed" in text
    assert "written to the study&#39;s log before the first trial" in text


def test_figures_take_the_colours_of_the_page(written: tuple[str, dict[str, Any]]) -> None:
    text, _ = written
    body = text[text.index("<main>") :]
    assert not re.search("|".join(COLOURS), body, re.IGNORECASE)
    left = set(re.findall(r"#[0-9a-f]{6}\b", body))
    assert left == set(), "a colour of a figure has no form for a dark page"


def test_an_inlined_figure_keeps_its_text_as_text() -> None:
    table = np.tile(np.linspace(0.1, 0.9, 9), (3, 1))
    figure = figures.nse_cdf({"a < b & $c$": table}, period="test")
    svg = inline_svg(figures.svg(figure, name="x"), name="x", alt='say "<b>"')
    assert "a &lt; b &amp; $c$" in svg
    assert 'aria-label="say &#34;&lt;b&gt;&#34;"' in svg
    assert "DejaVu" not in svg and "<metadata" not in svg


def contrast(**changes: Any) -> dict[str, Any]:
    usual = {"name": "n", "a": "lstm-snow", "b": "lstm", "difference": 0.02, "low": 0.01,
             "high": 0.03, "verdict": "better", "seeds": 6, "seeds_to_decide": None}  # fmt: skip
    return usual | changes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Better: NSE rises by 0.020 (0.010 to 0.030)."),
        ({"verdict": "worse", "difference": -0.02, "low": -0.03, "high": -0.01},
         "Worse: NSE falls by 0.020 (0.010 to 0.030)."),
        ({"verdict": "equivalent", "difference": -0.001, "low": -0.004, "high": 0.002},
         "No practical difference: −0.001 (−0.004 to 0.002), within ±0.01."),
        ({"verdict": "undecided", "low": -0.01}, "Not decided: +0.020 (−0.010 to 0.030)."),
        ({"verdict": "too few seeds", "low": math.nan, "high": math.nan, "seeds": 1},
         "No verdict: 1 replicates an arm, 5 are needed; difference +0.020 (no interval)."),
    ],
)  # fmt: skip
def test_verdicts_in_words(changes: dict[str, Any], said: str) -> None:
    assert sentence(contrast(**changes), 0.01) == said


def test_what_would_decide() -> None:
    assert beyond(contrast()) == ""
    open_question = contrast(verdict="undecided", seeds_to_decide=14)
    assert beyond(open_question).startswith("About 14 replicates an arm")
    assert "basins disagree" in beyond(contrast(verdict="undecided"))


def test_numbers_in_words() -> None:
    assert (chance(0.0004), chance(0.0042), chance(0.25)) == ("< 0.001", "0.0042", "0.25")
    assert bounds(-0.1, 0.25, 2) == "−0.10 to 0.25"
    assert signed(float("nan")) == "–"


def test_a_headline_says_what_changes_and_where() -> None:
    arms = [{"arm": "lstm", "factors": {"model": "lstm", "snow": "off"}},
            {"arm": "lstm-snow", "factors": {"model": "lstm", "snow": "observed"}},
            {"arm": "ealstm", "factors": {"model": "ealstm", "snow": "off"}}]  # fmt: skip
    report = {"arms": arms}
    assert headline(report, contrast()) == ("snow: observed instead of off", "lstm")
    two = headline(report, contrast(b="ealstm"))
    assert two == ("lstm-snow instead of ealstm", "")


def test_a_bar_stays_within_its_axis() -> None:
    drawn = bar(contrast(low=-9.0, high=9.0), reach=0.1, margin=0.01)
    assert 'x1="0.0" x2="200.0"' in drawn
    without = bar(contrast(low=math.nan, high=math.nan), reach=0.1, margin=0.01)
    assert "span" not in without and "nan" not in without


def test_the_answer_counts_verdicts() -> None:
    scores = {"basins": 29, "nse_median": 0.7, "nse_median_low": 0.6, "nse_median_high": 0.8}
    report = {"period": "test", "winner": "lstm", "arms": [{"arm": "lstm", "test": scores}],
              "contrasts": [contrast(), contrast(verdict="undecided"), contrast()]}  # fmt: skip
    assert answer(report)[1] == "Of 3 declared contrasts: 2 better, 1 undecided."
