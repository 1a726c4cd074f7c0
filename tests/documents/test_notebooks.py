"""Every notebook in examples/ runs from the top, cell by cell, as the documentation runs it."""

import re
from pathlib import Path

import matplotlib as mpl
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples").glob("*.md"))
pytestmark = pytest.mark.thorough


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    cells = re.findall(r"```{code-cell}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    assert cells
    # As a kernel has it: functions of a notebook live in __main__.
    import __main__

    for cell in cells:
        exec(compile(cell, path.name, "exec"), vars(__main__))
