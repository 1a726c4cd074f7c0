"""The documentation builds without a network, its links lead somewhere, and nothing leaves it."""

import importlib.resources
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.experiments.report.browser import Browser, Tab, executable

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("index.html", "studies/recall.html", "reference/theory.html", "gallery.html")
pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Every page but what notebooks print; a warning of Sphinx is an error."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    command += ["-D", "nb_execution_mode=off", "-d", str(out / "trees"), "docs", str(out / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return out / "html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if executable() is None:
        if os.environ.get("BROWSER_REQUIRED"):
            pytest.fail("no Chromium, and BROWSER_REQUIRED is set")
        pytest.skip("no Chromium: the pages were not opened")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def test_every_link_leads_to_a_file_and_nothing_is_loaded_from_elsewhere(site):
    broken, foreign = [], []
    for page in site.rglob("*.html"):
        text = page.read_text()
        foreign += re.findall(
            r'<(?:script|img|link|iframe)\b[^>]*(?:src|href)="(https?:[^"]+)"', text
        )
        for link in re.findall(r'(?:href|src)="([^"#?]+)[^"]*"', text):
            if not re.match(r"[a-z]+:", link) and not (page.parent / unquote(link)).exists():
                broken.append(f"{page.relative_to(site)}: {link}")
    assert (broken, foreign) == ([], [])


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_at_every_width_and_asks_for_nothing(site, browser, name):
    tab = Tab(browser, site / name)
    for width in (380, 900, 1600):
        tab.resize(width)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.errors() == []
    assert all(address.startswith(("file:", "data:")) for address in tab.requests())
    tab.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_readers_of_every_kind_can_use_it(site, browser, dark):
    """axe-core's rules: names, headings, landmarks, contrast; of the dark page contrast."""
    tab = Tab(browser, site / PAGES[1], dark=dark)
    package = importlib.resources.files("axe_core_python")
    tab.evaluate(package.joinpath("axe.min.js").read_text() + ";0")
    rules = "resultTypes: ['violations']" + ", runOnly: ['color-contrast']" * dark
    found = tab.evaluate(
        f"axe.run({{{rules}}}).then(r => r.violations.map(v => v.id + ': ' + "
        "v.nodes.slice(0, 3).map(n => n.html.slice(0, 200)).join(' / ')))"
    )
    tab.close()
    assert found == []
