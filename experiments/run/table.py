"""Tables for a terminal, columns as wide as they need, cut to what fits; and in Markdown."""

import math
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from truncated_weights.training.reductions import Mean
from truncated_weights.truncation.files import telling

# A text in a table is not cut below this many characters.
SHORTEST = 16


def width() -> int:
    """Columns of the terminal; 100 where there is none."""
    return max(40, shutil.get_terminal_size((100, 24)).columns)


def text(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = (), *, fit: int | None = None
) -> str:
    """The rows under their column names, numbers to the right, lines of at most `fit` characters.

    columns: these and in this order; all by default. Floats get three decimals. Where the table
    is too wide, texts are cut first, but not in the first column; columns that still do not fit
    come in a second block below, beside the first column again, so that no number is lost.
    """
    columns = list(columns) or list(dict.fromkeys(key for row in rows for key in row))
    fit = fit or width()
    cells = {name: [cell(row.get(name)) for row in rows] for name in columns}
    right = {
        name: all(isinstance(row.get(name), int | float | None) for row in rows) or _numeric(column)
        for name, column in cells.items()
    }
    heads = {name: telling.shown(name) for name in columns}
    wide = {name: max(map(len, [heads[name], *column])) for name, column in cells.items()}
    excess = sum(wide.values()) + 2 * (len(wide) - 1) - fit
    for name in sorted(columns[1:], key=lambda name: -wide[name]):
        if excess > 0 and not right[name]:
            narrow = max(SHORTEST, len(heads[name]), wide[name] - excess)
            excess -= max(0, wide[name] - narrow)
            wide[name] = min(wide[name], narrow)
    blocks: list[list[str]] = [[columns[0]]]
    for name in columns[1:]:
        used = sum(wide[other] + 2 for other in blocks[-1])
        if used + wide[name] > fit and len(blocks[-1]) > 1:
            blocks.append([columns[0]])
        blocks[-1].append(name)
    lines = []
    for number, block in enumerate(blocks):
        if number:
            lines.append("")
        for place in range(-1, len(rows)):
            line = ""
            for name in block:
                value = _cut(heads[name] if place < 0 else cells[name][place], wide[name])
                value = value.rjust(wide[name]) if right[name] else value.ljust(wide[name])
                line += value + "  "
            lines.append(_cut(line.rstrip(), fit))
    return "\n".join(lines)


def markdown(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """The rows as a Markdown table of these columns, floats with three decimals."""
    lines = ["| " + " | ".join(map(_field, columns)) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_field(row.get(c, "")) for c in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(value: Any) -> str:
    """A value as the table shows it, control characters as escapes.

    What does not exist, or is not finite, is a dash.
    """
    if value is None or value == "":
        return "-"
    return _number(value)


def measured(mean: Mean) -> str:
    """A mean with its standard error and of how many, as a cell; without them where it is of one.

    "0.873 ± 0.012 (4)".
    """
    value, error, count = (float(part) for part in mean)
    if not count:
        return "-"
    return f"{value:.3f}" + (f" ± {error:.2g} ({count:.0f})" if count > 1 else "")


def _field(value: Any) -> str:
    return _number(value).replace("|", "\\|")


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if math.isfinite(value) else "-"
    return telling.shown(str(value))


def _numeric(column: Sequence[str]) -> bool:
    # "0.53 ± 0.02", "+3.1 z" and "-" count as numbers, "1.fc_in@0.1" does not.
    return all(entry == "-" or re.match(r"[+-]?[\d.]+(e[+-]?\d+)?( |$)", entry) for entry in column)


def _cut(line: str, fit: int) -> str:
    return line if len(line) <= fit else line[: fit - 3] + "..."
