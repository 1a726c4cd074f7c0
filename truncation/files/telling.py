"""Names and texts from files as they may stand in a message: no control codes, not too many.

A terminal obeys escape sequences, whoever wrote them; a line break in a name forges a second
line; marks of direction show a name backwards. All of these are shown as Python would write them.
"""

import itertools
import re
from collections.abc import Collection, Iterable

# C0 and C1 controls, line and paragraph separators, marks of direction, and halves of surrogate
# pairs, which stand for the bytes of a name that is not UTF-8 and cannot be encoded.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_BUT_LINES = re.compile(f"(?![\n\t]){_CONTROL.pattern}")
MOST_NAMES = 8
LONGEST_NAME = 120
LONGEST_LINE = 2000


def shown(text: str, *, lines: bool = False) -> str:
    """The text with every control character escaped; `lines` leaves line breaks and tabs."""
    return (_BUT_LINES if lines else _CONTROL).sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def line(message: object, most: int = LONGEST_LINE) -> str:
    """A message on one line that ends, space as single spaces, control characters escaped."""
    return cut(shown(" ".join(str(message).split())), most)


def message(text: object) -> str:
    """What an exception says, with control characters escaped and of bounded length."""
    return cut(shown(str(text)), LONGEST_LINE)


def cut(text: str, most: int) -> str:
    """The text, its middle left out where it has more than `most` characters."""
    if len(text) <= most:
        return text
    half = max(1, (most - 5) // 2)
    return f"{text[:half]} ... {text[-half:]}"


def some(names: Iterable[object], most: int = MOST_NAMES) -> str:
    """The first few names with commas between them, and how many there are beyond."""
    found = names if isinstance(names, Collection) else list(names)
    first = [cut(shown(str(name)), LONGEST_NAME) for name in itertools.islice(found, most)]
    more = len(found) - len(first)
    return ", ".join(first) + (f" and {more:,} more" if more else "")
