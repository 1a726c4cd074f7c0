"""Rows of the verification table: a prediction, a measurement, and the verdict between them.

A row fails where |measured - predicted| exceeds z * error + tolerance, both in the row's own units.

- error: the standard error of `measured`, none where nothing is random. z is chosen so that, were
  every prediction exact, the whole table would raise a false alarm with probability at most
  FALSE_ALARMS. One half of that is for rows of one number, the other for the rows that show the
  worst of many entries: thousands of entries do not make the few figures blunt. Where few samples
  stand behind an error, z is Student's.
- tolerance: what the source of approximation allows, which the note names (what is left of finite
  steps, the next order of an asymptotic law, a heuristic). It is a number of its own or a share of
  what was measured, never of the prediction that it judges.

Most rows compare theory with simulation. Where both sides are simulated the row says so.
"""

import dataclasses
import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

from truncated_weights.experiments.run import table as terminal
from truncated_weights.training import records as labelled

FALSE_ALARMS = 1e-3


@dataclasses.dataclass(frozen=True)
class Row:
    """One line.

    error: standard error of `measured`. tolerance: absolute. comparisons: how many the row is the
    worst of. samples: independent values behind the error, 0 for so many that it does not matter.
    simulated: the prediction is another simulation.
    """

    family: str
    name: str
    setting: str
    predicted: float
    measured: float
    error: float | None = None
    tolerance: float = 0.0
    comparisons: int = 1
    samples: int = 0
    simulated: bool = False
    note: str = ""

    @property
    def difference(self) -> float:
        """measured - predicted."""
        return self.measured - self.predicted


class Levels(NamedTuple):
    """Probability of a false alarm that a single comparison has, in rows of each kind."""

    numbers: float
    entries: float

    def z(self, row: Row) -> float:
        """Standard errors that a row may be off by."""
        level = self.numbers if row.comparisons == 1 else self.entries
        if row.samples:
            return float(stats.t.isf(level / 2, row.samples - 1))
        return float(stats.norm.isf(level / 2))

    def allowed(self, row: Row) -> float:
        """How far measured and predicted may be apart."""
        return row.tolerance + (self.z(row) * row.error if row.error else 0.0)

    def passes(self, row: Row) -> bool:
        """The verdict."""
        return abs(row.difference) <= self.allowed(row)  # never so where it is not a number


def levels(rows: Sequence[Row], rate: float = FALSE_ALARMS) -> Levels:
    """Bonferroni over the comparisons of each kind, half of the rate for each."""
    random = [row for row in rows if row.error is not None]
    numbers = sum(row.comparisons == 1 for row in random)
    entries = sum(row.comparisons for row in random if row.comparisons > 1)
    return Levels(rate / 2 / max(numbers, 1), rate / 2 / max(entries, 1))


def worst(
    family: str,
    name: str,
    setting: str,
    predicted: np.ndarray,
    measured: np.ndarray,
    error: np.ndarray | float = 0.0,
    *,
    tolerance: np.ndarray | float = 0.0,
    note: str = "",
) -> Row:
    """The row of the entry furthest off, of many that are compared.

    Entries whose error is zero were the same in every sample; they must agree to float32.
    """
    shape = np.broadcast_shapes(np.shape(predicted), np.shape(measured))
    predicted, measured, error, tolerance = (
        np.broadcast_to(x, shape).ravel().astype(np.float64)
        for x in (predicted, measured, error, tolerance)
    )
    random = bool(np.any(error > 0))
    scale = np.maximum(error, 1e-6 * np.max(np.abs(measured))) if random else np.ones(error.size)
    beyond = np.maximum(np.abs(measured - predicted) - tolerance, 0.0) / scale
    if not random:
        beyond = np.abs(measured - predicted) / np.maximum(tolerance, 1e-300)
    index = int(np.argmax(np.where(np.isnan(beyond), np.inf, beyond)))
    return Row(
        family,
        name,
        setting,
        float(predicted[index]),
        float(measured[index]),
        error=float(scale[index]) if random else None,
        tolerance=float(tolerance[index]),
        comparisons=max(int(np.sum(error > 0)), 2) if random else 1,
        note=f"worst of {predicted.size}" + (f"; {note}" if note else ""),
    )


def mean_and_error(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the first axis and its standard error, for independent samples."""
    return samples.mean(axis=0), samples.std(axis=0, ddof=1) / math.sqrt(len(samples))


def deviation_and_error(samples: np.ndarray) -> tuple[Any, Any]:
    """Standard deviation over the first axis and its standard error, any kurtosis."""
    count = len(samples)
    centred = samples - samples.mean(axis=0)
    variance, fourth = np.mean(centred**2, axis=0), np.mean(centred**4, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(np.maximum(fourth - variance**2, 0.0) / count) / (2 * np.sqrt(variance))
    error = np.where(variance > 0, error, 0.0)
    found = np.sqrt(variance * count / (count - 1))
    return (float(found), float(error)) if found.ndim == 0 else (found, error)


def failures(rows: Sequence[Row]) -> list[Row]:
    """The rows whose verdict is against the prediction."""
    limits = levels(rows)
    return [row for row in rows if not limits.passes(row)]


def records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as flat dictionaries with the verdict.

    allowed: what they may be off by. tolerance: null where that is standard errors alone, else
    all that is allowed as a share of the prediction, which is what readers of one number want.
    tolerated: the row's own tolerance, absolute.
    """
    limits = levels(rows)
    found = []
    for row in rows:
        allowed, size = limits.allowed(row), abs(row.predicted)
        random = row.error is not None and row.tolerance == 0.0
        share = None if random else allowed / size if size else 0.0
        found.append(
            dataclasses.asdict(row)
            | {"tolerance": share, "tolerated": row.tolerance, "allowed": allowed,
               "discrepancy": row.difference, "verdict": "ok" if limits.passes(row) else "FAIL"}
        )  # fmt: skip
    return found


def of_block(block: xr.Dataset) -> list[Row]:
    """The rows whose `records` are the block of a table (training/records.py)."""
    found = []
    for cells in labelled.rows_of(block):
        # A block has NaN for none: of a row with an error that is not a number nothing is allowed.
        error = math.nan if cells["error"] is cells["allowed"] is None else cells["error"]
        given = {field.name: cells[field.name] for field in dataclasses.fields(Row)} | {
            "tolerance": cells["tolerated"], "error": error,
            "note": cells["note"] or "",
        }  # fmt: skip
        lost = ("predicted", "measured", "tolerance")
        found.append(Row(**given | {key: math.nan for key in lost if given[key] is None}))
    return found


def markdown(rows: Sequence[Row]) -> str:
    """The table for a reader, nothing left out."""
    columns = ["family", "prediction", "setting", "predicted", "measured", "standard error",
               "tolerance", "difference", "allowed", "verdict", "note"]  # fmt: skip
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    limits = levels(rows)
    for row in rows:
        lines.append("| " + " | ".join([row.family, row.name, row.setting, *_figures(row, limits),
                                        _note(row)]) + " |")  # fmt: skip
    return "\n".join(lines) + "\n"


def told(rows: Sequence[Row]) -> str:
    """The table for a terminal, cut to its width there and unabridged elsewhere.

    Figures first, so that those of a row always stand together.
    """
    limits = levels(rows)
    heads = ("predicted", "measured", "error", "tolerance", "difference", "allowed", "")
    lines = ["  ".join(head.rjust(10) for head in heads[:-1]) + "        prediction (setting)"]
    for row in rows:
        *figures, verdict = _figures(row, limits)
        line = "  ".join(x.rjust(10) for x in figures) + f"  {verdict:4s}  "
        note = _note(row)
        lines.append(
            f"{line}{row.family}: {row.name} ({row.setting})" + (f"; {note}" if note else "")
        )
    if sys.stdout.isatty():
        lines = [line if len(line) <= terminal.width() else line[: terminal.width() - 1] + "…"
                 for line in lines]  # fmt: skip
    return "\n".join(lines)


def _figures(row: Row, limits: Levels) -> list[str]:
    return [
        f"{row.predicted:.5g}", f"{row.measured:.5g}",
        f"{row.error:.2g}" if row.error is not None else "-",
        f"{row.tolerance:.2g}" if row.tolerance else "-",
        f"{row.difference:+.2g}", f"{limits.allowed(row):.2g}",
        "ok" if limits.passes(row) else "FAIL",
    ]  # fmt: skip


def _note(row: Row) -> str:
    return "; ".join(x for x in ("two simulations" if row.simulated else "", row.note) if x)
