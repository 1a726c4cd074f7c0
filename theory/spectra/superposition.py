"""More facts than dimensions: what a cut of the noise buys back, and what the spectrum tells of it.

N facts, d dimensions. Fact i maps a random unit vector e_i to an output u_i, or with probability a
to the noise u_0; one step of descent from zero with frequencies pi_i gives

    W = sum_i pi_i e_i ((1 - a) u_i + a u_0)^T,                                        [d, d]

and fact i is read off the logits e_i^T W u_k. Its logit of the noise is a (pi_i + |pi| g / sqrt d),
g standard normal: all other facts say noise too, through the chance overlaps of the e_j.

Uniform frequencies, N and d large, h and g standard normal, s^2 = 2 / d + N / d^2:

    accuracy, full  E_h Phi((1 + h sqrt N / d) / s)^(N - 1)                                (full)
                        Phi((1 - 2 a + (1 - a) h sqrt N / d) sqrt(d / N) / a)
    accuracy, cut   the first factor alone: the noise is gone, crosstalk stays              (cut)

(heuristic: overlaps are taken as independent normal, and the cut as perfect. Of twelve memories a
setting, N = 64 to 1,024 and d = 64 to 256, (full) is right within .025 and (cut) low by .02 to .04
where it is not 1). So with noise the capacity is N ~ d ((1 - 2 a) / a)^2, without it
N ~ d^2 / (2 log N): the cut buys back the difference.

The noise is a component at all where its spike leaves the bulk of the others (spiked random
matrices: Benaych-Georges and Nadakuditi, 2012): a sqrt d / (1 - a) > 1 for N >> d, and
a sqrt N / (1 - a) > 1 for N << d (asymptotic).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, special

from truncated_weights.theory import checks

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(96)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


class Accuracy(NamedTuple):
    """Shares of facts that are right, in the full memory and with the noise cut out."""

    full: float
    cut: float


def accuracy(num_facts: int, dimensions: int, alpha: float) -> Accuracy:
    """(full) and (cut) for uniform frequencies.

    ValueError for sizes below 2 and alpha outside (0, 1).
    """
    n = checks.at_least("num_facts", num_facts, 2)
    d = checks.at_least("dimensions", dimensions, 2)
    a = checks.open_fraction("alpha", alpha)
    spread, crosstalk = np.sqrt(2 / d + n / d**2), np.sqrt(n) / d
    others = special.ndtr((1 + crosstalk * _NODES) / spread) ** (n - 1)
    lead = 1 - 2 * a + (1 - a) * crosstalk * _NODES
    noise = special.ndtr(lead * np.sqrt(d / n) / a)
    return Accuracy(float(_WEIGHTS @ (others * noise)), float(_WEIGHTS @ others))


def noise_capacity(dimensions: int, alpha: float, right: float = 0.5 + 0.5 * 0.6826894921) -> float:
    """N at which the noise alone leaves a share `right` of the full memory's facts right.

    d ((1 - 2 alpha) / (alpha z))^2, Phi(z) = right; z = 1 by default. 0 < alpha < 1/2: beyond, the
    noise wins at any N. ValueError otherwise.
    """
    d = checks.at_least("dimensions", dimensions, 2)
    a = checks.within("alpha", alpha, 1e-12, 0.5)
    z = special.ndtri(checks.within("right", right, 0.5 + 1e-9, 1 - 1e-12))
    return float(d * ((1 - 2 * a) / (a * z)) ** 2)


def clean_capacity(dimensions: int) -> float:
    """N = d^2 / (2 log N): beyond, crosstalk alone confuses facts (leading order)."""
    d = checks.at_least("dimensions", dimensions, 4)
    return float(optimize.brentq(lambda n: n * 2 * np.log(n) - d**2, 2, d**2))


def spike_edge(num_facts: int, dimensions: int, alpha: float) -> float:
    """The noise's strength over the edge of the rest; above 1 it is a component of its own.

    a sqrt d / (1 - a) or a sqrt N / (1 - a), whichever of N and d is smaller: the two limits.
    """
    n = checks.at_least("num_facts", num_facts, 2)
    d = checks.at_least("dimensions", dimensions, 2)
    a = checks.open_fraction("alpha", alpha)
    return float(a * np.sqrt(min(n, d)) / (1 - a))


class Spike(NamedTuple):
    """What the singular values alone say of the largest component, taken to be a spike.

    strength: what was added to the rest. share: of the component's output direction that is the
    spike's own (squared cosine). left: of the spike that stays when the component is dropped.
    """

    strength: float
    share: float
    left: float


def read_spike(
    singular_values: Float[np.ndarray, " r"] | Sequence,
    shape: Sequence[int] | Int[np.ndarray, " 2"],
) -> Spike:
    """The spike of a matrix [m, n] from its singular values, falling (asymptotic).

    With the rest s_i, D(x) = (1/m) sum x / (x^2 - s_i^2) times (1/n) (sum x / (x^2 - s_i^2) +
    (n - m) / x) for m <= n, at the largest value rho: strength 1 / sqrt D, and the squared cosines
    -2 phi / (strength^2 D') of each side with its own phi. No evaluation is needed: whether
    dropping the top helps can be told from the weights. ValueError for fewer than three values or
    no gap behind the first.
    """
    values = np.sort(checks.numbers("singular_values", singular_values, None))[::-1]
    if len(values) < 3 or not values[0] > values[1] or values[-1] < 0:
        raise ValueError("singular_values must be three or more, the first above the others")
    shape = tuple(checks.integers("shape", shape, 2, minimum=1).tolist())
    rows, columns = sorted(shape)
    if rows < len(values):
        raise ValueError(f"a matrix of shape {shape} has not {len(values)} singular values")
    top, rest = values[0], values[1:]

    def phi(size: int, x: float) -> tuple[float, float]:
        """phi and its derivative; zero values beyond those given belong to the longer side."""
        zeros = size - 1 - len(rest)
        gaps = x**2 - rest**2
        value = (np.sum(x / gaps) + zeros / x) / size
        slope = (np.sum(1 / gaps - 2 * x**2 / gaps**2) - zeros / x**2) / size
        return float(value), float(slope)

    (short, short_slope), (long, long_slope) = phi(rows, top), phi(columns, top)
    product = short * long
    slope = short_slope * long + short * long_slope
    strength = 1 / np.sqrt(product)
    shares = [-2 * one * product / slope for one in (short, long)]
    # Outputs are the columns of a matrix [d_in, d_out].
    output = shares[0] if shape[1] == rows else shares[1]
    left = 1 - top * np.sqrt(shares[0] * shares[1]) / strength
    return Spike(float(strength), float(output), float(left))


class Components(NamedTuple):
    """Singular values, falling, and the share of the noise's column in each."""

    values: Float[np.ndarray, " n"]
    noise: Float[np.ndarray, " n"]


def components(frequencies: Float[np.ndarray, " n"] | Sequence, alpha: float) -> Components:
    """The memory of one step for d -> infinity, from frequencies alone (exact in that limit).

    Squared values solve 1 = a^2 sum_i pi_i^2 / (x - (1 - a)^2 pi_i^2), with vectors proportional to
    pi_i / (x - (1 - a)^2 pi_i^2); the noise's share in one of them is (vector . pi)^2 / |pi|^2. How
    many of the top have to go is read off these shares. ValueError for frequencies that are not
    positive or alpha not in (0, 1).
    """
    a, pi = checks.open_fraction("alpha", alpha), checks.positives("frequencies", frequencies, None)
    if len(pi) < 2:
        raise ValueError("frequencies must be two or more positive numbers")
    # The matrix whose secular equation this is: diagonal plus rank one.
    values, vectors = np.linalg.eigh((1 - a) ** 2 * np.diag(pi**2) + a**2 * np.outer(pi, pi))
    share = (vectors.T @ pi) ** 2 / np.sum(pi**2)
    return Components(np.sqrt(np.maximum(values[::-1], 0)), share[::-1])
