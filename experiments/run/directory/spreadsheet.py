"""Rows as CSV that a spreadsheet shows and does not obey.

A cell that begins with = + - @ is a formula to a spreadsheet, wherever its text came from; a tab, a
carriage return or a line feed in front hides one. Such texts get an apostrophe in front, as OWASP
advises ("CSV Injection"), numbers excepted; control characters are written as escapes.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from truncated_weights.truncation.files import telling

# Also as the full-width signs that some spreadsheets take for the same; a sign alone is none.
_FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20].", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-](inf|nan)")


def text(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per row under the union of their keys in order of appearance."""
    buffer = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([cell(name) for name in columns])
    writer.writerows([cell(row.get(name, "")) for name in columns] for row in rows)
    return buffer.getvalue()


def cell(value: Any) -> Any:
    """The value of one cell: what is text and would be a formula with an apostrophe in front.

    A number that is not finite is empty, as it is null in JSON.
    """
    if not isinstance(value, str):
        missing = isinstance(value, float | np.floating) and not np.isfinite(value)
        return "" if missing else value
    shown = telling.shown(value, lines=True)
    begins = _FORMULA.match(value) and not _NUMBER.fullmatch(value)
    return f"'{shown}" if begins else shown
