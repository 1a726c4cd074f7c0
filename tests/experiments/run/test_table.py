"""Tables for a terminal: nothing is wider than it, no number is lost."""

import pytest

from truncated_weights.experiments.run import table

ROWS = [
    {"rule": "grid", "p(correct)": 0.98123, "chosen": "1.fc_out@-0.01", "n": 3},
    {"rule": "random, scaled", "p(correct)": None, "chosen": "", "n": 12},
]


def test_columns_are_aligned_numbers_to_the_right():
    lines = table.text(ROWS, fit=80).splitlines()
    assert lines[0] == "rule            p(correct)  chosen           n"
    assert lines[1] == "grid                 0.981  1.fc_out@-0.01   3"
    assert lines[2] == "random, scaled           -  -               12"


@pytest.mark.parametrize("fit", [24, 40, 60])
def test_what_does_not_fit_comes_below_and_no_number_is_lost(fit):
    rows = [
        {"name": f"r{i}", "text": "word " * 9, **{f"c{j}": f"{i}{j}.25" for j in range(12)}}
        for i in range(3)
    ]
    found = table.text(rows, fit=fit)
    assert max(map(len, found.splitlines())) <= fit
    for i in range(3):
        for j in range(12):
            assert f"{i}{j}.25" in found


def test_the_width_of_the_terminal_is_asked_for(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    assert table.width() == 50


def test_a_table_in_markdown():
    rows = [{"a": 1, "b": "x, y"}, {"a": 2.5, "c": None}]
    assert table.markdown(rows, ["a", "b"]).splitlines() == [
        "| a | b |",
        "|---|---|",
        "| 1 | x, y |",
        "| 2.500 |  |",
    ]


@pytest.mark.fault("A1")
def test_what_is_not_finite_is_a_dash():
    rows = [{"a": "x", "b": float("nan")}, {"a": "y", "b": float("inf")}, {"a": "z", "b": 0.5}]
    assert [line.split()[-1] for line in table.text(rows).splitlines()] == ["b", "-", "-", "0.500"]
    assert "| x | - |" in table.markdown(rows, ["a", "b"])
