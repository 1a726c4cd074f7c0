"""JSON from anywhere: a value, or one line."""

import json

import pytest

from truncated_weights.truncation.files import strict

pytestmark = pytest.mark.fault("C8")
WRONG = {
    "[" * 500 + "]" * 500: "nested too deeply",
    "[" * 101 + "]" * 101: "nested too deeply: more than 100 levels",
    "[" * 100_000: "nested too deeply|not JSON",
    '{"a":' * 50_000 + "1" + "}" * 50_000: "nested too deeply",
    "9" * 400: "a number of 400 digits",
    "-" + "9" * 5000: "a number of 5001 digits",
    "1e999": "beyond the range of floats",
    '{"a": [NaN]}': "NaN is not JSON",
    '{"a": 1, "b": 2, "a": 1}': "the key 'a' occurs twice",
    '"\\ud800"': "half of a surrogate pair",
    "1 2": "something follows",
    "": "not JSON",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:12])
def test_what_is_refused(text):
    for form in (text, text.encode()):
        with pytest.raises(ValueError, match=WRONG[text]) as caught:
            strict.parse(form)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300


def test_bytes_that_are_no_text():
    with pytest.raises(ValueError, match="not UTF-8 at byte 1"):
        strict.parse(b'"\xff"')


def test_what_is_json_is_read():
    for value in ([[]] * 300, {"a": {"b": [1, -2.5, 1e30, 10**30, None, True, "é \U0001f600"]}}, 0):
        for kwargs in ({}, {"ensure_ascii": False}, {"indent": 1}):
            text = f" {json.dumps(value, **kwargs)}\n"
            assert strict.parse(text) == strict.parse(b"\xef\xbb\xbf" + text.encode()) == value
    assert strict.parse("[" * 100 + "]" * 100) == json.loads("[" * 100 + "]" * 100)


@pytest.mark.fault("C3")
def test_a_key_that_occurs_twice_among_many_is_found_at_once():
    members = ",".join(f'"{i}":0' for i in range(100_000))
    with pytest.raises(ValueError, match="'99999' occurs twice"):
        strict.parse(f'{{{members},"99999":0}}')
