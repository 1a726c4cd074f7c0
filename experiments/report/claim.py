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
do, none of them is clear by the word of one seed, and no seed of the run was lost. Nothing here
imports JAX.
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

    def keys(self) -> tuple[str, ...]:
        """What it reads."""
        return tuple(key for key in (self.key, self.minus, self.over) if key)

    def has_error(self, summary: Summary) -> bool:
        """Whether the run knows how far chance moves any of it."""
        return any(_error(summary, key) is not None for key in self.keys())


@dataclasses.dataclass(frozen=True)
class Judged:
    """A check after a look at a run.

    low, high: the values that would do, for the picture; infinite where there is no bound.
    expected: the same in words. one_seed: whether it asks for a clear difference where the run
    has no error to tell one by.
    """

    what: str
    measured: float | str
    error: float
    expected: str
    low: float
    high: float
    source: str
    holds: bool
    one_seed: bool = False


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
        return _bounded(self.of, summary, expected, low, math.inf, self.source, clear=self.clear)


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
        return _bounded(self.of, summary, expected, -math.inf, high, self.source, clear=self.clear)


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

    Each row has its own prediction, error and allowance (experiments/verify_theory/table.py), from
    which it is judged anew, whatever verdict stands beside them; a row that says FAIL fails too.
    What is told is the row that comes closest to its allowance.
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
        # A row at its very limit passes there and must not fail here by rounding.
        failed = used[worst] > 1 + 1e-9 or any(row["verdict"] != "ok" for row in rows)
        row = rows[worst]
        allowed, predicted = allowance(row, summary["z_limit"]), _or_nan(row["predicted"])
        noun = "row" if len(rows) == 1 else "rows, the tightest"
        return Judged(
            f"{len(rows)} {noun}: {row['name']} ({row['setting']})",
            _or_nan(row["measured"]),
            _or_nan(row["error"]) if row["error"] is not None else 0.0,
            f"{predicted:.5g} ± {allowed:.2g}",
            predicted - allowed,
            predicted + allowed,
            self.source,
            not failed,
        )


def allowance(row: Mapping[str, Any], z_limit: float) -> float:
    """How far a row of verify_theory may be from its prediction."""
    if row["tolerance"] is None:
        return z_limit * _or_nan(row["error"])
    return row["tolerance"] * abs(_or_nan(row["predicted"]))


def share_of_allowance(row: Mapping[str, Any], z_limit: float) -> float:
    """|discrepancy| of a row of verify_theory over what it may be; infinite where not finite."""
    allowed = allowance(row, z_limit)
    away = abs(_or_nan(row["measured"]) - _or_nan(row["predicted"]))
    if away == 0.0:
        return 0.0
    if not (math.isfinite(allowed) and math.isfinite(away) and allowed > 0):
        return math.inf
    return away / allowed


Check = Near | AtLeast | AtMost | Is | Rows


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim.

    name: its address on the page. paper, where: its source as far as it is known here.
    run: a name of experiments/report/runs.py. note: what differs from the source. survivors:
    whether it is meant of the seeds that were not lost; otherwise it does not hold where some were.
    """

    name: str
    title: str
    paper: str
    where: str
    statement: str
    run: str
    checks: tuple[Check, ...]
    note: str = ""
    survivors: bool = False

    def lost(self, summary: Summary) -> str:
        """What to say where seeds were lost that it is about; empty where none was."""
        if self.survivors:
            return ""
        if gone := summary.get("seeds_lost"):
            return f"{gone} seeds of {self.run} were lost"
        for check in self.checks:
            quantity = getattr(check, "of", None)
            for key in _quantity(quantity).keys() if quantity is not None else ():
                if f"{key}/seeds" in summary:
                    return f"{key} is of {summary[f'{key}/seeds']} seeds, not of all"
        return ""


@dataclasses.dataclass(frozen=True)
class Subject:
    """Claims that belong together under one picture (experiments/report/figures)."""

    title: str
    about: str
    claims: Sequence[Claim]


def _quantity(of: Quantity | str) -> Quantity:
    return Quantity(of) if isinstance(of, str) else of


def _bounded(
    of: Quantity | str,
    summary: Summary,
    expected: str,
    low: float,
    high: float,
    source: str,
    *,
    clear: bool = False,
) -> Judged:
    quantity = _quantity(of)
    value, error = quantity.read(summary)
    # NaN and infinity are no figures, whatever a bound lets pass.
    holds = math.isfinite(value) and low <= value <= high
    alone = clear and not quantity.has_error(summary)
    return Judged(str(quantity), value, error, expected, low, high, source, holds, alone)


def _clearly(of: Quantity | str, summary: Summary, value: float, side: int) -> float:
    """The nearest measured value that differs from this one clearly, above (1) or below (-1)."""
    _, error = _quantity(of).read(summary)
    # Where there is no error, as of one seed, this tells the side and no more.
    return math.nextafter(value + side * 2 * error, side * math.inf)


def _number(summary: Summary, key: str) -> tuple[float, float]:
    if key not in summary:
        raise MissingError(key)
    error = _error(summary, key)
    return _or_nan(summary[key]), 0.0 if error is None else error


def _error(summary: Summary, key: str) -> float | None:
    """The standard error of a figure; None where the run has none, as with one seed."""
    if f"{key}/sem" in summary:
        return _or_nan(summary[f"{key}/sem"])
    if f"{key}_low" in summary and f"{key}_high" in summary:
        # A 95 % interval from resampling, told as the standard error of a normal law.
        return (_or_nan(summary[f"{key}_high"]) - _or_nan(summary[f"{key}_low"])) / (2 * 1.96)
    return None


def _or_nan(value: Any) -> float:
    # null in strict JSON stands for a number that is not finite.
    return math.nan if value is None else float(value)
