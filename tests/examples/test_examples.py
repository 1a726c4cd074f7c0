"""Every script in examples/ runs from an empty directory and prints what it promises."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
assert EXAMPLES
# Minutes of training; test_train_recall.py runs the same lines on a smaller world.
LONG = {"train_recall"}


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in LONG else [])
        for path in EXAMPLES
    ],
)
def test_runs(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(script)])
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_one_sequence_marks_what_the_law_says(capsys):
    """The noise and the correct token stand right after a trigger, and nowhere else is marked."""
    runpy.run_path(str(EXAMPLES[0].with_name("one_sequence.py")), run_name="__main__")
    tokens, marks, _ = capsys.readouterr().out.splitlines()
    letters = dict(enumerate(tokens.split(" ")))
    kinds = {i: marks.ljust(2 * len(letters))[2 * i] for i in letters}
    assert set(kinds.values()) == {"?", "+", "!", " "}
    for i, kind in kinds.items():
        assert (kind == "?") == (letters[i] == "a")
        assert (kind == "!") == (letters[i] == "!")
        assert (kind in "+!") == (i > 0 and kinds[i - 1] == "?")
    assert len({letters[i] for i, kind in kinds.items() if kind == "+"}) == 1
