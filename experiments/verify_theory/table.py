"""Rows of the verification table: a prediction, a measurement, and the verdict between them.

Two kinds of rows. A statistical row has a standard error; it fails where
|measured - predicted| exceeds z_limit standard errors, z_limit chosen so that, were every
prediction exact, the whole table would raise a false alarm with probability at most `rate`
(Bonferroni over every comparison, also those a row only shows the worst of). A relative row has
a tolerance, the error its own source of approximation allows (finite steps, an asymptotic
regime, a heuristic), and the note says which; where it is a mean over seeds its standard error
is told beside it and has no part in the verdict.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

FALSE_ALARMS = 1e-3


@dataclasses.dataclass(frozen=True)
class Row:
    """One line. At least one of error and tolerance is given; with a tolerance it is relative.

    error: standard error of `measured`. tolerance: allowed |measured - predicted|, relative to
    |predicted|. comparisons: how many comparisons the row is the worst of.
    """

    family: str
    name: str
    setting: str
    predicted: float
    measured: float
    error: float | None = None
    tolerance: float | None = None
    comparisons: int = 1
    note: str = ""

    @property
    def discrepancy(self) -> float:
        """z-score of a statistical row, relative error of the other kind."""
        difference = self.measured - self.predicted
        if not math.isfinite(difference):
            return math.inf
        if difference == 0.0:
            return 0.0
        scale = abs(self.predicted) if self.tolerance is not None else self.error or 0.0
        return difference / scale if scale > 0 else math.copysign(math.inf, difference)

    def passes(self, z_limit: float) -> bool:
        """The verdict."""
        limit = z_limit if self.tolerance is None else self.tolerance
        return abs(self.discrepancy) <= limit


def worst(
    family: str,
    name: str,
    setting: str,
    predicted: np.ndarray,
    measured: np.ndarray,
    error: np.ndarray,
    *,
    note: str = "",
) -> Row:
    """The row of the entry with the largest |z| among many statistical comparisons.

    Entries whose error is zero were the same in every sample; they must agree to float32.
    """
    predicted, measured, error = (
        np.ravel(x).astype(np.float64) for x in (predicted, measured, error)
    )
    floor = 1e-6 * np.maximum(np.abs(predicted), np.max(np.abs(predicted)))
    scale = np.maximum(error, floor)
    index = int(np.argmax(np.abs(measured - predicted) / scale))
    return Row(
        family,
        name,
        setting,
        float(predicted[index]),
        float(measured[index]),
        error=float(scale[index]),
        comparisons=int(np.sum(error > 0)),
        note=f"worst of {np.sum(error > 0)}" + (f"; {note}" if note else ""),
    )


def mean_and_error(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the first axis and its standard error, for independent samples."""
    return samples.mean(axis=0), samples.std(axis=0, ddof=1) / math.sqrt(len(samples))


def deviation_and_error(samples: np.ndarray) -> tuple[float, float]:
    """Standard deviation of independent samples and its standard error, any kurtosis."""
    centred = samples - samples.mean()
    variance = float(np.mean(centred**2))
    fourth = float(np.mean(centred**4))
    error = math.sqrt(max(fourth - variance**2, 0.0) / len(samples)) / (2 * math.sqrt(variance))
    return math.sqrt(variance * len(samples) / (len(samples) - 1)), error


def z_limit(rows: Sequence[Row], rate: float = FALSE_ALARMS) -> float:
    """Two-sided Bonferroni limit over all statistical comparisons of the table."""
    comparisons = sum(row.comparisons for row in rows if row.tolerance is None)
    return float(stats.norm.isf(rate / (2 * max(comparisons, 1))))


def failures(rows: Sequence[Row]) -> list[Row]:
    """The rows whose verdict is against the prediction."""
    limit = z_limit(rows)
    return [row for row in rows if not row.passes(limit)]


def restored(record: dict[str, Any]) -> Row:
    """A row from its JSON record, whose null stands for a number that is not finite.

    tolerance tells the two kinds of rows apart: a statistical row has none, and an error.
    """
    numbers = ("predicted", "measured") + (("error",) if record["tolerance"] is None else ())
    missing = {name: math.nan for name in numbers if record[name] is None}
    return Row(**(record | missing))


def records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as flat dictionaries, verdict included."""
    limit = z_limit(rows)
    return [
        dataclasses.asdict(row)
        | {"discrepancy": row.discrepancy, "verdict": "ok" if row.passes(limit) else "FAIL"}
        for row in rows
    ]


def markdown(rows: Sequence[Row]) -> str:
    """The table for a reader; z beside statistical rows, per cent beside relative ones."""
    limit = z_limit(rows)
    lines = [
        "| family | prediction | setting | predicted | measured | standard error | "
        "z or relative error | allowed | verdict | note |",
        "|" + "---|" * 10,
    ]
    for row in rows:
        statistical = row.tolerance is None
        found = f"{row.discrepancy:+.2f}" if statistical else f"{100 * row.discrepancy:+.3g} %"
        allowed = f"{limit:.2f}" if statistical else f"{100 * (row.tolerance or 0.0):.3g} %"
        error = f"{row.error:.2g}" if row.error is not None else ""
        cells = [row.family, row.name, row.setting, f"{row.predicted:.6g}", f"{row.measured:.6g}"]
        cells += [error, found, allowed, "ok" if row.passes(limit) else "FAIL", row.note]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def told(rows: Sequence[Row]) -> list[dict[str, str]]:
    """The table for a terminal: what was predicted and measured, how far apart, and the verdict."""
    limit = z_limit(rows)
    return [
        {
            "prediction": f"{row.family}: {row.name}",
            "setting": row.setting,
            "predicted": f"{row.predicted:.5g}",
            "measured": f"{row.measured:.5g}" + (f" ± {row.error:.1g}" if row.error else ""),
            "z or error": f"{row.discrepancy:+.2f} z"
            if row.tolerance is None
            else f"{100 * row.discrepancy:+.2g} %",
            "": "ok" if row.passes(limit) else "FAIL",
        }
        for row in rows
    ]
