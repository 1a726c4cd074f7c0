"""What to cut: one notation, read and written.

    LAYER.MATRIX@RHO [ + LAYER.MATRIX@RHO ... ]

LAYER counts from 0; -1 is the last layer, -2 the one below, * every layer that has the matrix.
MATRIX is one of q_proj k_proj v_proj out_proj fc_in fc_gate fc_out, the product ov (values
times output projection, cut as one matrix), or a group: attn (q_proj k_proj v_proj out_proj),
mlp (fc_in fc_gate fc_out), all. RHO is

    0.1      keep the largest floor(0.1 r) singular values, r = min(d_in, d_out)
    -0.1     drop the largest floor(0.1 r) and keep the rest: the complement of 0.1
    0.1:0.5  keep ranks floor(0.1 r) up to floor(0.5 r), a band
    auto     keep what rises above the Gavish-Donoho threshold of white noise
    magnitude:0.1, magnitude:-0.1, magnitude:0.1:0.5
             the same of the matrix's d_in d_out entries, largest absolute values first, in
             place of its singular values: magnitude pruning, with which LASER compares
    whitened:0.1, fisher:0.1, kfac:0.1, and each with -0.1 or 0.1:0.5
             the same of components measured by what they do to data (truncation/metrics.py);
             of kfac's d_in d_out entries

Examples: 1.fc_in@0.1, 1.mlp@0 (no second feed-forward), 1.fc_out@-0.02+1.ov@0.2,
*.fc_in@magnitude:0.5.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Literal

Key = tuple[int, str]
Kind = Literal["rank", "auto", "magnitude", "whitened", "fisher", "kfac"]

EVERY = "*"
GROUPS = {
    "attn": ("q_proj", "k_proj", "v_proj", "out_proj"),
    "mlp": ("fc_in", "fc_gate", "fc_out"),
    "all": ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_gate", "fc_out"),
}
MATRICES = (*GROUPS["all"], "ov")
LASER_RHOS = ("0.9", "0.8", "0.6", "0.4", "0.2", "0.1", "0.05", "0.01", "0")

# What others call these matrices.
_ELSEWHERE = {
    "up_proj": "fc_in", "gate_proj": "fc_gate", "down_proj": "fc_out", "o_proj": "out_proj",
    "c_fc": "fc_in", "fc_up": "fc_in (of a Llama LASER's fc_up is fc_gate)", "dense": "out_proj",
}  # fmt: skip
METRICS = ("whitened", "fisher", "kfac")
_PREFIXES: tuple[Kind, ...] = ("magnitude", "whitened", "fisher", "kfac")


@dataclasses.dataclass(frozen=True)
class Cut:
    """One LAYER.MATRIX@RHO; keeps ranks floor(start n) up to floor(stop n), largest first.

    layer is a number, negative ones from the top, or "*". kind says what is counted: the n = r
    components of rank, whitened and fisher, the n = d_in d_out entries of magnitude and kfac;
    start and stop have no meaning where it is auto.
    """

    layer: int | str
    matrix: str
    start: Fraction
    stop: Fraction
    kind: Kind = "rank"

    def __str__(self) -> str:
        """The notation that parses back to this cut."""
        return f"{self.layer}.{self.matrix}@{self.rho}"

    @property
    def rho(self) -> str:
        """RHO alone."""
        if self.kind == "auto":
            return "auto"
        prefix = f"{self.kind}:" if self.kind in _PREFIXES else ""
        if self.start == 0:
            return prefix + _decimal(self.stop)
        if self.stop == 1:
            return f"{prefix}-{_decimal(self.start)}"
        return f"{prefix}{_decimal(self.start)}:{_decimal(self.stop)}"

    @property
    def by_components(self) -> bool:
        """Whether what stays is a mask over components; else it is chosen among entries."""
        return self.kind not in ("magnitude", "kfac")

    @property
    def metric(self) -> str:
        """By what of the data components are measured; empty where by none."""
        return self.kind if self.kind in METRICS else ""


@dataclasses.dataclass(frozen=True)
class Intervention:
    """Cuts applied together, at most one per matrix."""

    cuts: tuple[Cut, ...]

    def __str__(self) -> str:
        """The notation that parses back to this intervention."""
        return "+".join(map(str, self.cuts))


NOTHING = Intervention(())


def parse(text: str) -> Intervention:
    """Read the notation of this module; ValueError names what is wrong."""
    return Intervention(tuple(_parse_cut(part) for part in text.split("+")))


def candidates(keys: Iterable[Key | str], rhos: Sequence[str] = LASER_RHOS) -> list[Intervention]:
    """One intervention per key and rho; a key is (layer, matrix) or text such as "1.mlp"."""
    names = [key if isinstance(key, str) else f"{key[0]}.{key[1]}" for key in keys]
    return [parse(f"{name}@{rho}") for name in names for rho in rhos]


def kept_band(cut: Cut, count: int) -> tuple[int, int]:
    """The first rank kept and the first beyond, floor(start n) and floor(stop n) of n = count."""
    return int(cut.start * count), int(cut.stop * count)


def keep_top(layer: int, matrix: str, kept: int, rank: int) -> Cut:
    """The cut that keeps the largest `kept` of `rank` components, with the shortest RHO."""
    if not 0 <= kept <= rank:
        raise ValueError(f"kept {kept}: expected 0 to {rank}")
    for digits in range(10):
        stop = Fraction(-(-kept * 10**digits // rank), 10**digits)
        if int(stop * rank) == kept:
            return Cut(layer, matrix, Fraction(0), min(stop, Fraction(1)))
    raise ValueError(f"rank {rank}: too large for a decimal RHO")


def without(given: Intervention, keys: Sequence[Key]) -> Intervention:
    """The intervention less its cuts of these matrices; its cuts must not name groups."""
    return Intervention(tuple(c for c in given.cuts if (c.layer, c.matrix) not in keys))


def _decimal(value: Fraction) -> str:
    return f"{float(value):g}"


def _fraction(text: str, whole: str) -> Fraction:
    # Fractions of decimal text, not floats: 0.29 of 100 ranks is 29, never 28. An exponent of
    # nine digits would be a denominator of a thousand million.
    if not re.fullmatch(r"\d+(\.\d*)?([eE]-?\d{1,3})?|\.\d+([eE]-?\d{1,3})?", text):
        raise ValueError(f"intervention {whole!r}: RHO {text!r} is not a number in [0, 1]")
    value = Fraction(text)
    if not 0 <= value <= 1:
        raise ValueError(f"intervention {whole!r}: RHO {text} is outside [0, 1]")
    return value


def _parse_cut(text: str) -> Cut:
    match = re.fullmatch(r"(-?\d+|\*)\.([a-z_]+)@(\S+)", text.strip())
    if not match:
        raise ValueError(f"intervention {text!r}: expected LAYER.MATRIX@RHO, as in 1.fc_in@0.1")
    layer, matrix, rho = match[1] if match[1] == EVERY else int(match[1]), match[2], match[3]
    if matrix not in MATRICES and matrix not in GROUPS:
        known = " ".join((*MATRICES, *GROUPS))
        here = (
            f"here that is {_ELSEWHERE[matrix]}" if matrix in _ELSEWHERE else f"known are {known}"
        )
        raise ValueError(f"intervention {text!r}: unknown matrix {matrix!r}; {here}")
    if rho == "auto":
        return Cut(layer, matrix, Fraction(0), Fraction(1), "auto")
    kind: Kind = next((one for one in _PREFIXES if rho.startswith(f"{one}:")), "rank")
    rho = rho.removeprefix(f"{kind}:")
    if rho.startswith("-"):
        return Cut(layer, matrix, _fraction(rho[1:], text), Fraction(1), kind)
    start, colon, stop = rho.partition(":")
    if not colon:
        return Cut(layer, matrix, Fraction(0), _fraction(rho, text), kind)
    band = Cut(layer, matrix, _fraction(start, text), _fraction(stop, text), kind)
    if band.start > band.stop:
        raise ValueError(f"intervention {text!r}: the band {rho} runs backwards")
    return band
