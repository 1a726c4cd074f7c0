"""A claim as data: what is said, where, which run shows it, and how a verdict is reached.

    Claim(
        "noise-remains",
        "The full model keeps saying noise",
        paper=RECALL,
        where="claim on the trained model",
        statement="On clean context the trained model predicts noise with probability about alpha.",
        run="recall",
        checks=(Near(At("p_noise", set="clean", model="full"), 0.5, 0.1, "alpha = 0.5"),),
    )

A check names a number of the run by its axes (At), or a key of its summary.json (Key) where the
number is made at the end of all measuring. It holds or fails; a claim holds if all its checks do,
none of them is clear by the word of one seed, and no seed of the run was lost. Claims stand beside
the question they are about, in experiments/QUESTION/claims.py. Nothing here imports JAX.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

RECALL = "arXiv 2406.03068"
LASER = "arXiv 2312.13558"
EIGENPRUNING = "arXiv 2404.03147"
OURS = "this project"

Summary = Mapping[str, Any]


class MissingError(Exception):
    """A finished run does not hold what a claim reads: the program or the claim has changed."""


class Finished(Protocol):
    """A finished run as a claim reads it (experiments/report/reading.py)."""

    @property
    def summary(self) -> Summary:
        """summary.json."""

    @property
    def records(self) -> Mapping[str, Any]:
        """Its blocks of labelled arrays, without the seeds that were lost."""

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of one of its tables."""


class Value(NamedTuple):
    """A figure and its standard error, None where the run has none, as with one seed.

    seeds: of how many seeds it is; 0 where that is not known.
    """

    value: float
    error: float | None
    seeds: int = 0


class Quantity:
    """Something that a run has a figure of; sums, differences and ratios of them are quantities."""

    def read(self, run: Finished) -> Value:
        """The figure; MissingError where the run does not hold it."""
        raise NotImplementedError

    def parts(self) -> Iterator["Quantity"]:
        """The quantities that it is made of, itself where it is made of none."""
        yield self

    def __sub__(self, other: "Quantity") -> "Combined":
        return Combined(self, other, "less")

    def __truediv__(self, other: "Quantity") -> "Combined":
        return Combined(self, other, "over")


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A coordinate that the run itself has chosen: the text under this key of summary.json."""

    key: str

    def __str__(self) -> str:
        return "chosen"


class At(Quantity):
    """The mean over seeds of a variable of a block of the records, at these coordinates.

    At("p_noise", set="clean", model="full") is of the block `final`, the figures at the end;
    At("recall", "mechanisms", association="copy", step=64) of another. step: the record at that
    step, the last for -1. An axis without coordinates, as rank, is counted from 0.
    """

    def __init__(
        self, variable: str, block: str = "final", /, **at: "str | int | float | Chosen"
    ):  # fmt: skip
        self.variable, self.block, self.where = variable, block, at

    def __repr__(self) -> str:
        where = [f"{axis}={place!r}" for axis, place in self.where.items()]
        block = [] if self.block == "final" else [repr(self.block)]
        return f"At({', '.join((repr(self.variable), *block, *where))})"

    def __str__(self) -> str:
        last = {"step": "at the end"} if self.where.get("step") == -1 else {}
        told = [
            last.get(axis, str(where) if axis in ("set", "model") else f"{axis} {where}")
            for axis, where in self.where.items()
        ]
        return ", ".join((self.variable, *told))

    def seeds(self, run: Finished) -> Any:
        """The variable at these coordinates, [seed] or a number; MissingError where it is not."""
        try:
            found = run.records[self.block][self.variable]
            for axis, where in self.where.items():
                place = run.summary[where.key] if isinstance(where, Chosen) else where
                by_count = axis not in found.coords or (axis == "step" and place == -1)
                found = found.isel({axis: place}) if by_count else found.sel({axis: place})
        except (KeyError, IndexError, ValueError) as error:
            raise MissingError(str(self)) from error
        if set(found.dims) - {"seed"}:
            raise MissingError(f"{self} without {', '.join(map(str, set(found.dims) - {'seed'}))}")
        return found.astype(float)

    def read(self, run: Finished) -> Value:
        """The mean over seeds."""
        return _mean(self.seeds(run))


class Key(Quantity):
    """A key of summary.json, with the error that stands beside it (KEY/sem, KEY_low and _high).

    For what is made at the end of all measuring and is not in the records. {NAME} in it is a part
    that the run has chosen.
    """

    def __init__(self, key: str, /, **chosen: Chosen):
        self.key, self.chosen = key, chosen

    def __repr__(self) -> str:
        chosen = [f"{name}={where!r}" for name, where in self.chosen.items()]
        return f"Key({', '.join((repr(self.key), *chosen))})"

    def __str__(self) -> str:
        return self.key.format(**self.chosen)

    def within(self, summary: Summary) -> str:
        """The key with what this run has chosen."""
        return self.key.format(**{n: summary.get(where.key) for n, where in self.chosen.items()})

    def read(self, run: Finished) -> Value:
        """The value, and its error where there is one."""
        summary, key = run.summary, self.within(run.summary)
        if key not in summary:
            raise MissingError(key)
        error = None
        if f"{key}/sem" in summary:
            error = or_nan(summary[f"{key}/sem"])
        elif f"{key}_low" in summary and f"{key}_high" in summary:
            # A 95 % interval from resampling, told as the standard error of a normal law.
            error = (or_nan(summary[f"{key}_high"]) - or_nan(summary[f"{key}_low"])) / (2 * 1.96)
        return Value(or_nan(summary[key]), error, int(summary.get(f"{key}/seeds", 0)))


@dataclasses.dataclass(frozen=True)
class Combined(Quantity):
    """One quantity less another, or over another.

    Seed by seed where both are of the records, so that what moves both cancels; otherwise errors
    are added as if the two were independent, which is too large rather than too small.
    """

    one: Quantity
    other: Quantity
    how: str

    def __str__(self) -> str:
        return f"{self.one} {self.how} {self.other}"

    def parts(self) -> Iterator[Quantity]:
        """Those of both."""
        yield from self.one.parts()
        yield from self.other.parts()

    def read(self, run: Finished) -> Value:
        """The difference or ratio; of means, also where it is a ratio."""
        value, error, seeds = self.one.read(run)
        other, more, _ = self.other.read(run)
        if self.how == "less":
            if isinstance(self.one, At) and isinstance(self.other, At):
                return _mean(self.one.seeds(run) - self.other.seeds(run))
            errors = [e for e in (error, more) if e is not None]
            return Value(value - other, math.hypot(*errors) if errors else None, seeds)
        if not other:
            return Value(math.nan, math.nan, seeds)
        parts = [
            e for e in (
                None if error is None else error / other,
                None if more is None else value * more / other**2,
            ) if e is not None
        ]  # fmt: skip
        return Value(value / other, math.hypot(*parts) if parts else None, seeds)


def _mean(values: Any) -> Value:
    if "seed" not in values.dims:
        return Value(float(values), None)
    count = values.sizes["seed"]
    error = float(values.std("seed", ddof=1)) / math.sqrt(count) if count > 1 else None
    return Value(float(values.mean("seed", skipna=False)), error, count)


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

    of: Quantity
    value: float
    tolerance: float
    source: str

    def judge(self, run: Finished) -> Judged:
        """The verdict; MissingError where the key is not there."""
        low, high = self.value - self.tolerance, self.value + self.tolerance
        expected = f"{self.value:.4g} ± {self.tolerance:.2g}"
        return _bounded(self.of, run, expected, low, high, self.source)


@dataclasses.dataclass(frozen=True)
class AtLeast:
    """measured >= value; clear: by more than two standard errors, so that chance is no reason."""

    of: Quantity
    value: float
    source: str
    clear: bool = False

    def judge(self, run: Finished) -> Judged:
        """The verdict; MissingError where the key is not there."""
        low, expected = self.value, f"at least {self.value:.4g}"
        if self.clear:
            low = _clearly(self.of, run, self.value, 1)
            expected = f"clearly above {self.value:.4g}"
        return _bounded(self.of, run, expected, low, math.inf, self.source, clear=self.clear)


@dataclasses.dataclass(frozen=True)
class AtMost:
    """measured <= value; clear: by more than two standard errors, so that chance is no reason."""

    of: Quantity
    value: float
    source: str
    clear: bool = False

    def judge(self, run: Finished) -> Judged:
        """The verdict; MissingError where the key is not there."""
        high, expected = self.value, f"at most {self.value:.4g}"
        if self.clear:
            high = _clearly(self.of, run, self.value, -1)
            expected = f"clearly below {self.value:.4g}"
        return _bounded(self.of, run, expected, -math.inf, high, self.source, clear=self.clear)


@dataclasses.dataclass(frozen=True)
class Is:
    """The text under a key is one of these."""

    key: str
    texts: tuple[str, ...]
    source: str

    def judge(self, run: Finished) -> Judged:
        """The verdict; MissingError where the key is not there."""
        if self.key not in run.summary:
            raise MissingError(self.key)
        found = str(run.summary[self.key])
        return Judged(
            self.key, found, 0.0, " or ".join(self.texts), math.nan, math.nan, self.source,
            found in self.texts,
        )  # fmt: skip


class Check(Protocol):
    """Near, AtLeast, AtMost, Is, or a question's own kind."""

    def judge(self, run: Finished) -> Judged:
        """The verdict; MissingError where the run does not hold what it reads."""


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
            for part in check.of.parts() if isinstance(check, Near | AtLeast | AtMost) else ():
                key = part.within(summary) if isinstance(part, Key) else ""
                if f"{key}/seeds" in summary:
                    return f"{key} is of {summary[f'{key}/seeds']} seeds, not of all"
        return ""


@dataclasses.dataclass(frozen=True)
class Subject:
    """Claims that belong together, and the panels beside which they stand on the page.

    pictures: (run, panel) pairs; the panel is one of the program's own (its figures.py), a name
    that ends in * all whose names begin so.
    """

    title: str
    about: str
    claims: Sequence[Claim]
    pictures: Sequence[tuple[str, str]] = ()

    def joined(
        self, claims: Sequence[Claim], pictures: Sequence[tuple[str, str]] = ()
    ) -> "Subject":
        """The same with claims and pictures of another question behind its own."""
        return dataclasses.replace(
            self, claims=(*self.claims, *claims), pictures=(*self.pictures, *pictures)
        )


def _bounded(
    of: Quantity,
    run: Finished,
    expected: str,
    low: float,
    high: float,
    source: str,
    *,
    clear: bool = False,
) -> Judged:
    value, error, _ = of.read(run)
    # NaN and infinity are no figures, whatever a bound lets pass.
    holds = math.isfinite(value) and low <= value <= high
    alone = clear and error is None
    return Judged(str(of), value, error or 0.0, expected, low, high, source, holds, alone)


def _clearly(of: Quantity, run: Finished, value: float, side: int) -> float:
    """The nearest measured value that differs from this one clearly, above (1) or below (-1)."""
    # Where there is no error, as of one seed, this tells the side and no more.
    error = of.read(run).error or 0.0
    return math.nextafter(value + side * 2 * error, side * math.inf)


def or_nan(value: Any) -> float:
    """A number of strict JSON, where null stands for one that is not finite."""
    return math.nan if value is None else float(value)
