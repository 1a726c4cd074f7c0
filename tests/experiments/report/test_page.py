"""The page, built from recorded runs and opened in a real browser.

Without a Chromium these tests are skipped and say so; where BROWSER_REQUIRED is set, as in
.ci/run, they fail instead.
"""

import contextlib
import importlib.resources
import io
import itertools
import os
import re
from pathlib import Path

import pytest

from tests.experiments.report.browser import Browser, Tab, executable
from truncated_weights.experiments.report import execute, page, verdicts
from truncated_weights.experiments.report.pictures import pictures as drawn
from truncated_weights.experiments.report.plan import plan
from truncated_weights.experiments.report.reading import Found
from truncated_weights.experiments.report.runs import RUNS
from truncated_weights.experiments.report.subjects import SUBJECTS
from truncated_weights.experiments.run.drawing import panel

DATA = Path(__file__).parents[2] / "data" / "report"
MEGABYTES = 10


@pytest.fixture(scope="module")
def report():
    """Verdicts over the recorded runs."""
    plans = [plan(SUBJECTS, RUNS, DATA, quick=quick, package="m") for quick in (True, False)]
    planned, done = execute.look(*plans)
    found = {name: Found(one.path) for name, one in planned.items() if done[name].finished}
    judged = verdicts.judge(SUBJECTS, done, found)
    return page.Report(SUBJECTS, judged, planned, done, found, "python -m experiments.report")


@pytest.fixture(scope="module")
def pictures(report):
    with contextlib.redirect_stderr(io.StringIO()) as told:
        found = drawn(report.subjects, report.found)
    assert told.getvalue() == ""
    return found


@pytest.fixture(scope="module")
def index(report, pictures, tmp_path_factory):
    """The page as a file."""
    file = tmp_path_factory.mktemp("page") / "index.html"
    file.write_text(page.build(report, pictures))
    return file


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if executable() is None:
        if os.environ.get("BROWSER_REQUIRED"):
            pytest.fail("no Chromium, and BROWSER_REQUIRED is set")
        pytest.skip("no Chromium: the page was not opened")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def tab(browser, index):
    """The page, opened once; what moves is drawn."""
    opened = Tab(browser, index)
    opened.until("document.querySelectorAll('[data-ready=yes]').length == 3")
    return opened


def test_every_claim_that_needs_nothing_was_judged(report):
    """The recorded runs hold every key that a claim reads."""
    assert not [one.claim.name for one in report.verdicts if one.broken]
    without = {one.claim.run for one in report.verdicts if one.verdict == verdicts.NOT_RUN}
    assert without == {"model"}


def test_every_picture_is_there_and_told_in_words(report, pictures):
    for key, subject in SUBJECTS.items():
        wanted = [run for run, _ in subject.pictures if run in report.found]
        assert len(pictures[key]) >= len(wanted), key
        for picture in pictures[key]:
            assert len(picture.caption) > 20
            assert 'role="img"' in picture.svg
            # Letters are letters, in the colour of the page.
            assert "<text" in picture.svg
            assert "currentColor" in picture.svg
    names = [picture.name for pictured in pictures.values() for picture in pictured]
    assert len(names) == len(set(names))
    ids = re.findall(r'\bid="([^"]+)"', "".join(p.svg for many in pictures.values() for p in many))
    assert len(ids) == len(set(ids))
    assert "var(" not in panel.standalone(pictures["recall"][0].svg)


def test_it_is_one_file_of_reasonable_weight(index):
    text = index.read_text()
    assert len(text.encode()) < MEGABYTES * 1e6
    # What scripts hold is for the browser to tell: it asks for nothing.
    markup = re.sub(r"(<script[^>]*>).*?</script>", r"\1", text, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', markup)


def test_the_same_runs_give_the_same_page(report, pictures, index):
    """But for the time of writing."""
    stamp = re.compile(r"Written [\d-]+ [\d:]+ UTC")
    again = page.build(report, pictures)
    assert stamp.sub("", again) == stamp.sub("", index.read_text())
    attention = {"attention": SUBJECTS["attention"]}
    assert drawn(attention, report.found)["attention"] == pictures["attention"]


def test_it_opens_without_error_and_asks_for_nothing(tab, index):
    assert tab.errors() == []
    assert {address for address in tab.requests() if not address.startswith("data:")} == {
        index.as_uri()
    }
    # The browser would refuse anything else, too.
    tab.evaluate("fetch('https://example.invalid/').catch(() => 0)")
    assert any("Content Security Policy" in error for error in tab.errors())
    tab.browser.events.clear()


def test_every_link_leads_somewhere(tab):
    broken = tab.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.getAttribute('href').slice(1))"
        ".filter(id => !document.getElementById(id))"
    )
    assert broken == []


def test_the_filter_leaves_what_was_asked_for(tab, report):
    shown = "[...document.querySelectorAll('#verdicts tbody tr')].filter(r => !r.hidden).length"

    def choose(control, value):
        tab.evaluate(
            f"(c => {{c.value = {value!r}; c.dispatchEvent(new Event('input'))}})"
            f"(document.getElementById({control!r}))"
        )
        return tab.evaluate(shown)

    total = len(report.verdicts)
    held = sum(one.verdict == verdicts.HOLDS for one in report.verdicts)
    assert choose("verdict", "holds") == held
    assert tab.evaluate("document.getElementById('shown').textContent") == f"{held} of {total}"
    laser = [one for one in report.verdicts if "2312.13558" in one.claim.paper]
    assert choose("verdict", "") == total
    assert choose("paper", "arXiv 2312.13558") == len(laser)
    assert choose("paper", "") == total
    assert choose("search", "no such claim") == 0
    assert 0 < choose("search", "Eigenpruning finds") < total
    assert choose("search", "") == total


@pytest.mark.parametrize(
    ("chart", "signal", "value"),
    [("by-rank", "checkpoint", 2), ("by-step", "kept", 5), ("phase-chart", "time", 0)],
)
def test_a_slider_moves_what_is_drawn(tab, chart, signal, value):
    drawn = (
        f"[...document.querySelectorAll('#{chart} svg path')].map(p => p.getAttribute('d') + "
        "p.getAttribute('fill')).join()"
    )
    before = tab.evaluate(drawn)
    assert len(before) > 200
    title = f"document.querySelector('#{chart} svg .role-title-text').textContent"
    told = tab.evaluate(title)
    moved = tab.evaluate(
        f"(s => {{s.value = {value}; s.dispatchEvent(new Event('input'));"
        f"return views[{chart!r}].runAsync().then(() => views[{chart!r}].signal({signal!r}))}})"
        f"(document.querySelector('#{chart} input[type=range]'))"
    )
    assert moved == value
    assert tab.evaluate(drawn) != before
    assert tab.evaluate(title) != told


@pytest.mark.parametrize("width", [380, 800, 1600])
def test_nothing_is_wider_than_the_window(tab, width):
    tab.resize(width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    sizes = tab.evaluate(
        "[...document.querySelectorAll('.panel svg, .strip, .vega svg')].map(s => "
        "s.getBoundingClientRect()).filter(b => b.width).map(b => [b.left, b.right])"
    )
    assert len(sizes) > 50
    assert all(left >= 0 and right <= width + 1 for left, right in sizes)
    # Letters in pictures are no smaller than ten pixels.
    smallest = tab.evaluate(
        "Math.min(...[...document.querySelectorAll('.panel svg')].map(s => "
        "s.getBoundingClientRect().width / s.viewBox.baseVal.width)) * 7"
    )
    assert smallest > 8


@pytest.mark.thorough
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_readers_of_every_kind_can_use_it(browser, index, dark):
    """axe-core's rules: names, headings, landmarks, contrast; of the dark page contrast."""
    opened = Tab(browser, index, dark=dark)
    opened.until("document.querySelectorAll('[data-ready=yes]').length == 3")
    package = importlib.resources.files("axe_core_python")
    opened.evaluate(package.joinpath("axe.min.js").read_text() + ";0")
    rules = "resultTypes: ['violations']" + ", runOnly: ['color-contrast']" * dark
    found = opened.evaluate(
        f"axe.run({{{rules}}})"
        ".then(r => r.violations.map(v => v.id + ': ' + v.nodes.slice(0, 3).map("
        "n => n.html.slice(0, 200) + ' ' + n.failureSummary.slice(0, 300)).join(' / ')))"
    )
    opened.close()
    assert found == []


def test_it_is_read_in_the_order_in_which_it_stands(tab):
    """Headings go down one level at a time, and keys reach controls in the order of the page."""
    levels = tab.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert tab.evaluate("document.querySelectorAll('[tabindex]:not([tabindex=\"0\"])').length") == 0


def test_it_prints_without_what_cannot_be_printed(tab):
    tab.send("Emulation.setEmulatedMedia", media="print")
    hidden = tab.evaluate("getComputedStyle(document.querySelector('.filters')).display")
    tab.send("Emulation.setEmulatedMedia", media="screen")
    assert hidden == "none"
    printed = tab.send("Page.printToPDF", preferCSSPageSize=True)["data"]
    assert len(printed) > 50_000
