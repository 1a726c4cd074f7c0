"""JSON as the standard has it, read so that whatever is wrong is a ValueError of one line.

Refused beside what is no JSON: NaN and Infinity, a key given twice at any depth, numbers with
more digits than any quantity has (a float of them is infinite or an error), nesting that would
exhaust the stack of whoever walks the value, and halves of surrogate pairs, which are no text.
"""

import json
import math
import os
import re
from collections import Counter
from typing import Any

from truncated_weights.truncation.files import regular

MOST_DIGITS = 100
DEEPEST = 100
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these members; ValueError where a key is there twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, number in counts.items() if number > 1)
        raise ValueError(f"the key {twice[:80]!r} occurs twice")
    return found


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits; at most {MOST_DIGITS} are read")
    return int(text)


def _real(text: str) -> float:
    found = float(text)
    if not math.isfinite(found):
        raise ValueError(f"the number {text[:40]} is beyond the range of floats")
    return found


def read(path: str | os.PathLike[str], most: int = regular.LARGEST) -> Any:
    """The value in a file; OSError where it is none to read, ValueError where it is no JSON."""
    return parse(regular.content(path, most))


def lines(path: str | os.PathLike[str]) -> list[Any]:
    """The values of a file of one on each line, blank ones left out; errors as of read."""
    return [parse(line) for line in regular.content(path).split(b"\n") if line.strip()]


DECODER = json.JSONDecoder(
    object_pairs_hook=unique, parse_constant=_constant, parse_int=_integer, parse_float=_real
)


def parse(text: str | bytes) -> Any:
    """The value of a whole text, without a byte-order mark if it is bytes.

    Raises ValueError, in one line.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        # As decode does: space may stand around the value, and nothing else.
        begin = len(text) - len(text.lstrip(" \t\r\n"))
        value, end = parse_at(text, begin)
        if text[end:].strip(" \t\r\n"):
            raise ValueError(f"not JSON: something follows the value at character {end}")
        return value
    except UnicodeDecodeError as error:
        raise ValueError(f"not JSON: not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column" if "\n" in error.doc.strip() else "column"
        raise ValueError(f"not JSON: {error.msg} at {place} {error.colno}") from None


def parse_at(text: str, start: int) -> tuple[Any, int]:
    """The value that begins at a place of a text, and the place after it.

    Raises json.JSONDecodeError where it is no JSON, and ValueError for what else is refused.
    """
    try:
        value, end = DECODER.raw_decode(text, start)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if text.count("[", start, end) + text.count("{", start, end) > DEEPEST:
        _require_shallow(value)
    if _SURROGATE.search(text, start, end):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("a text with half of a surrogate pair") from None
    return value, end


def _require_shallow(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"nested too deeply: more than {DEEPEST} levels")
