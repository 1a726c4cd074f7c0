"""Names from files in a message."""

import pytest

from truncated_weights.truncation.files import telling


@pytest.mark.fault("C5")
def test_control_characters_are_shown():
    assert telling.shown("\x1b[31mred\x07\x9b") == r"\x1b[31mred\x07\x9b"
    assert telling.shown("a\nerror: b\u202e\u2028") == r"a\nerror: b\u202e\u2028"
    assert telling.shown("é\u0301 \U0001f600 中 naïve") == "é\u0301 \U0001f600 中 naïve"
    assert telling.shown("not-utf8-\udcff").encode() == rb"not-utf8-\udcff"
    assert telling.shown("a\nb\t\x1b\r", lines=True) == "a\nb\t\\x1b\\r"
    assert telling.line("a\n  b \x1b") == r"a b \x1b"


@pytest.mark.fault("C4")
def test_of_many_names_the_first_are_told():
    assert telling.some([]) == ""
    assert telling.some(["a", "b"]) == "a, b"
    told = telling.some(f"model.layers.{i}" for i in range(20_000))
    assert told.startswith("model.layers.0, model.layers.1, ")
    assert told.endswith("model.layers.7 and 19,992 more")
    assert len(telling.some(["x" * 10**6] * 20)) < 1100
    assert len(telling.line("x" * 10**6)) < 2001
    assert r"\x1b" in telling.some(["\x1b"])
