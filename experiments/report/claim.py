"""A claim as data: what is said, where, which run shows it, and how a verdict is reached.

    Claim(
        "noise-remains",
        "The full model keeps saying noise",
        paper=RECALL,
        where="claim on the trained model",
        statement="On clean context the trained model predicts noise with probability about alpha.",
        run="recall",
        checks=(Near("clean/full/p_noise", 0.5, 0.1, "alpha = 0.5"),),
    )

A check reads keys of the run's summary.json. It holds or fails; a claim holds if all its checks
do. Nothing here imports JAX.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

RECALL = "arXiv 2406.03068"
LASER = "arXiv 2312.13558"
EIGENPRUNING = "arXiv 2404.03147"
OURS = "this project"

Summary = Mapping[str, Any]


class MissingError(Exception):
    """A finished run does not hold what a claim reads: the program or the claim has changed."""


@dataclasses.dataclass(frozen=True)
class Quantity:
    """summary[key], less summary[minus], over summary[over]."""

    key: str
    minus: str = ""
    over: str = ""

    def __str__(self) -> str:
        text = self.key + (f" less {self.minus}" if self.minus else "")
        return text + (f" over {self.over}" if self.over else "")

    def read(self, summary: Summary) -> tuple[float, float]:
        """The value and its standard error, 0 where the run has none.

        Errors of the parts are added as if the parts were independent. Parts of one run move
        together, so this is too large rather than too small.
        """
        value, error = _number(summary, self.key)
        if self.minus:
            other, more = _number(summary, self.minus)
            value, error = value - other, math.hypot(error, more)
        if self.over:
            other, more = _number(summary, self.over)
            if not other:
                return math.nan, math.nan
            error = math.hypot(error / other, value * more / other**2)
            value = value / other
        return value, error


@dataclasses.dataclass(frozen=True)
class Judged:
    """A check after a look at a run.

    low, high: the values that would do, for the picture; infinite where there is no bound.
    expected: the same in words.
    """

    what: str
    measured: float | str
    error: float
    expected: str
    low: float
    high: float
    source: str
    holds: bool


@dataclasses.dataclass(frozen=True)
class Near:
    """|measured - value| <= tolerance. source: who says the value; why: why this tolerance."""

    of: Quantity | str
    value: float
    tolerance: float
    source: str

    def judge(self, summary: Summary) -> Judged:
        """The verdict; MissingError where the key is not there."""
        low, high = self.value - self.tolerance, self.value + self.tolerance
        expected = f"{self.value:.4g} ± {self.tolerance:.2g}"
        return _bounded(self.of, summary, expected, low, high, self.source)


@dataclasses.dataclass(frozen=True)
class AtLeast:
    """measured >= value; clear: by more than two standard errors, so that chance is no reason."""

    of: Quantity | str
    value: float
    source: str
    clear: bool = False

    def judge(self, summary: Summary) -> Judged:
        """The verdict; MissingError where the key is not there."""
        low, expected = self.value, f"at least {self.value:.4g}"
        if self.clear:
            low = _clearly(self.of, summary, self.value, 1)
            expected = f"clearly above {self.value:.4g}"
        return _bounded(self.of, summary, expected, low, math.inf, self.source)


@dataclasses.dataclass(frozen=True)
class AtMost:
    """measured <= value; clear: by more than two standard errors, so that chance is no reason."""

    of: Quantity | str
    value: float
    source: str
    clear: bool = False

    def judge(self, summary: Summary) -> Judged:
        """The verdict; MissingError where the key is not there."""
        high, expected = self.value, f"at most {self.value:.4g}"
        if self.clear:
            high = _clearly(self.of, summary, self.value, -1)
            expected = f"clearly below {self.value:.4g}"
        return _bounded(self.of, summary, expected, -math.inf, high, self.source)


@dataclasses.dataclass(frozen=True)
class Is:
    """The text under a key is one of these."""

    key: str
    texts: tuple[str, ...]
    source: str

    def judge(self, summary: Summary) -> Judged:
        """The verdict; MissingError where the key is not there."""
        if self.key not in summary:
            raise MissingError(self.key)
        found = str(summary[self.key])
        return Judged(
            self.key, found, 0.0, " or ".join(self.texts), math.nan, math.nan, self.source,
            found in self.texts,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Rows:
    """Every row of verify_theory's table whose "family/name/setting" begins with this is ok.

    Each row has its own prediction, error and allowance (experiments/verify_theory/table.py);
    what is told is the row that comes closest to its allowance.
    """

    begins: str
    source: str = "theory/, closed form or exact numerics"

    def judge(self, summary: Summary) -> Judged:
        """The verdict; MissingError where there is no such row."""
        rows = [
            row
            for row in summary["rows_of_table"]
            if f"{row['family']}/{row['name']}/{row['setting']}".startswith(self.begins)
        ]
        if not rows:
            raise MissingError(self.begins)
        used = [share_of_allowance(row, summary["z_limit"]) for row in rows]
        worst = max(range(len(rows)), key=lambda place: used[place])
        failed = sum(row["verdict"] != "ok" for row in rows)
        row = rows[worst]
        allowed = allowance(row, summary["z_limit"])
        noun = "row" if len(rows) == 1 else "rows, the tightest"
        return Judged(
            f"{len(rows)} {noun}: {row['name']} ({row['setting']})",
            _or_nan(row["measured"]),
            _or_nan(row["error"]) if row["error"] is not None else 0.0,
            f"{row['predicted']:.5g} ± {allowed:.2g}",
            row["predicted"] - allowed,
            row["predicted"] + allowed,
            self.source,
            not failed,
        )


def allowance(row: Mapping[str, Any], z_limit: float) -> float:
    """How far a row of verify_theory may be from its prediction."""
    if row["tolerance"] is None:
        return z_limit * _or_nan(row["error"])
    return row["tolerance"] * abs(row["predicted"])


def share_of_allowance(row: Mapping[str, Any], z_limit: float) -> float:
    """|discrepancy| of a row of verify_theory over what it may be; infinite where not finite."""
    allowed = allowance(row, z_limit)
    away = abs(_or_nan(row["measured"]) - row["predicted"])
    if away == 0.0:
        return 0.0
    share = away / allowed if allowed else math.inf
    return share if math.isfinite(share) else math.inf


Check = Near | AtLeast | AtMost | Is | Rows


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim.

    name: its address on the page. paper, where: its source as far as it is known here.
    run: a name of experiments/report/runs.py. note: what differs from the source.
    """

    name: str
    title: str
    paper: str
    where: str
    statement: str
    run: str
    checks: tuple[Check, ...]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Subject:
    """Claims that belong together under one picture (experiments/report/figures)."""

    title: str
    about: str
    claims: Sequence[Claim]


def _bounded(
    of: Quantity | str, summary: Summary, expected: str, low: float, high: float, source: str
) -> Judged:
    quantity = Quantity(of) if isinstance(of, str) else of
    value, error = quantity.read(summary)
    # A comparison with NaN is false: what is not a number fails.
    return Judged(str(quantity), value, error, expected, low, high, source, low <= value <= high)


def _clearly(of: Quantity | str, summary: Summary, value: float, side: int) -> float:
    """The nearest measured value that differs from this one clearly, above (1) or below (-1)."""
    _, error = (Quantity(of) if isinstance(of, str) else of).read(summary)
    # Where there is no error, as of one seed, any difference counts, but none does not.
    return math.nextafter(value + side * 2 * error, side * math.inf)


def _number(summary: Summary, key: str) -> tuple[float, float]:
    if key not in summary:
        raise MissingError(key)
    if f"{key}/sem" in summary:
        error = _or_nan(summary[f"{key}/sem"])
    elif f"{key}_low" in summary and f"{key}_high" in summary:
        # A 95 % interval from resampling, told as the standard error of a normal law.
        error = (_or_nan(summary[f"{key}_high"]) - _or_nan(summary[f"{key}_low"])) / (2 * 1.96)
    else:
        error = 0.0
    return _or_nan(summary[key]), error


def _or_nan(value: Any) -> float:
    # null in strict JSON stands for a number that is not finite.
    return math.nan if value is None else float(value)
