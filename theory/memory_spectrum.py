"""Spectrum of the associative memory, its crossing, and what truncation leaves.

Rows of Z are inputs. Subtracting from every row the noise part
c (-1/N, ..., -1/N, 1) leaves s (I - 1 1^T / N) on the ordinary classes and zero
on the noise class, and the two parts are orthogonal on both sides. Hence, for
all times (s = a - b, see `theory.memory_flow`),

- signal: s with multiplicity N - 1, vectors orthogonal to 1 on both sides;
- noise: sqrt(N + 1) |c|, read by 1 / sqrt(N) whatever the input, written to
  (-1, ..., -1, N) / sqrt(N (N + 1)).

In the convention W = sum_i sigma_i u_i v_i^T with `x @ W`, u reads and v writes.

Which end holds the noise. As t -> 0 the ratio noise / signal is
sqrt(N + 1) |alpha - 1/(N + 1)| / (1 - alpha), above one exactly when
alpha > 1 / sqrt(N + 1). As t -> infinity it tends to (N - 1) / sqrt(N + 1):
below one for N = 2, above one for N >= 4; for N = 3 it tends to one and the
sign of lambda = log(alpha / (1 - alpha)) decides, with equality at all times
for alpha = 1/2. So for N >= 4 the noise overtakes the signal exactly when
alpha < 1 / sqrt(N + 1), and for N = 2 the signal overtakes the noise exactly
when alpha > 1 / sqrt(3). (That the order changes at most once is what the
search below finds wherever it was tried; it is not proved here.)
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import brentq

from truncated_weights.theory import checks, log_time, memory_flow

# Times beyond this are reported as "no crossing that a float can hold".
LATEST = 1e300
# Up to this t / N the excess of the noise is summed from its series, to ORDER terms: the rest is
# below rounding, since no singularity is nearer than t / N = 2.
EARLY, ORDER = 0.5, 32
# What the integrated flow resolves, relative to one plus the signal.
RESOLVED = 1e-10


class SingularValues(NamedTuple):
    """The signal singular value (multiplicity N - 1) and the noise singular value."""

    signal: Float[np.ndarray, " n"]
    noise: Float[np.ndarray, " n"]


class Crossing(NamedTuple):
    """Where noise and signal singular values meet.

    Attributes:
      times: every exact crossing time in increasing order; empty when there is none.
      signals: the common singular value at these times.
      asymptotic_signal: s* = -N lambda / ((N - 1) - sqrt(N + 1)), nan where not positive.
      asymptotic_time: t* = (2 N / ((N + 1) (1 - alpha))) e^{s*}, nan where s* is.

    """

    times: Float[np.ndarray, " n"]
    signals: Float[np.ndarray, " n"]
    asymptotic_signal: float
    asymptotic_time: float


def singular_values(
    num_inputs: int, alpha: float, times: Float[np.ndarray, " n"] | Sequence
) -> SingularValues:
    """Exact singular values of the logit matrix along the flow."""
    values = memory_flow.logits(num_inputs, alpha, times)
    noise = np.sqrt(num_inputs + 1.0) * np.abs(values.noise)
    return SingularValues(values.correct - values.other, noise)


def noise_vectors(
    num_inputs: int,
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n_classes"]]:
    """Unit vectors of the noise component: u over inputs, v over classes (tau last)."""
    num_inputs = checks.at_least("num_inputs", num_inputs, 2)
    write = np.full(num_inputs + 1, -1.0)
    write[-1] = num_inputs
    return np.full(num_inputs, num_inputs**-0.5), write / np.linalg.norm(write)


def truncated_probabilities(
    num_inputs: int,
    alpha: float,
    times: Float[np.ndarray, " n"] | Sequence,
    *,
    keep: Literal["full", "signal", "noise"],
) -> memory_flow.Probabilities:
    """Predicted probabilities after keeping one part of the spectrum.

    - "signal": logits s (1 - 1/N), -s/N, 0, so
      p(noise) = 1 / (1 + e^{s (1 - 1/N)} + (N - 1) e^{-s/N}).
    - "noise": logits -c/N, -c/N, c, so p(noise) = 1 / (1 + N e^{-c (1 + 1/N)}).
    - "full": the softmax of (a, b, c); its p(noise) tends to alpha.

    Only whole components are offered: a part of the N - 1 equal signal
    directions is not a well-defined truncation.

    Raises:
      ValueError: if `keep` is not one of the three, or as `memory_flow.logits`.

    """
    if keep not in ("full", "signal", "noise"):
        raise ValueError(f'keep must be "full", "signal" or "noise", got {keep!r}')
    values = memory_flow.logits(num_inputs, alpha, times)
    background = memory_flow.Logits(
        -values.noise / num_inputs, -values.noise / num_inputs, values.noise
    )
    if keep == "noise":
        values = background
    elif keep == "signal":
        values = memory_flow.Logits(
            *(full - part for full, part in zip(values, background, strict=True))
        )
    return memory_flow.probabilities(num_inputs, values)


def crossing(num_inputs: int, alpha: float, *, until: float = LATEST) -> Crossing:
    """All times in (0, until) at which the noise singular value meets the signal's.

    Sign changes of the excess sqrt(N + 1) |c| - s are bracketed on a grid and refined by
    Brent's method: up to t = N / 2 from its power series in t (`_early_excess`), whose first
    coefficient is free of rounding, 100 points per decade from t = 1e-12 N on; later along the
    integrated flow, 64 points per factor e of 1 + t / N. An excess below what the integration
    resolves has no sign, so that rounding makes no crossing: next to alpha = 1 / sqrt(N + 1)
    there is one at t of order N sqrt|alpha - 1 / sqrt(N + 1)|, or none.

    N = 3 never crosses: 2 c - s = (3 / 2) (c - a), whose derivative is (2 alpha - 1) / N wherever
    it is zero, so that it keeps the sign of 2 alpha - 1.

    The asymptotic s* and t* put the long-time forms of s and c into s = sqrt(N + 1) c; they are
    accurate when e^{s*} is large against N / alpha, and meaningless otherwise.

    Args:
      num_inputs: N, at least 2.
      alpha: probability of the noise class, strictly between 0 and 1.
      until: the latest time that is of interest, above zero; infinity is none.

    Raises:
      ValueError: naming the argument that is out of its range.

    """
    num_inputs = checks.at_least("num_inputs", num_inputs, 2)
    alpha = checks.open_fraction("alpha", alpha)
    if checks.array("until", until).ndim != 0 or not until > 0.0:
        raise ValueError(f"until must be a positive time, got {until!r}")
    root = np.sqrt(num_inputs + 1.0)
    ratio = np.log(alpha / (1.0 - alpha))
    signal = -num_inputs * ratio / ((num_inputs - 1) - root) if num_inputs != 3 else np.nan
    signal = float(signal) if signal > 0.0 else np.nan
    scale = 2.0 * num_inputs / ((num_inputs + 1) * (1.0 - alpha))
    time = float(np.exp(np.log(scale) + signal)) if signal < 690.0 else np.nan
    empty = np.empty(0)
    if num_inputs == 3:
        return Crossing(empty, empty, np.nan, np.nan)
    times = _crossing_times(num_inputs, alpha, min(until, memory_flow.settled(num_inputs, alpha)))
    if memory_flow.settled(num_inputs, alpha) < time < until:
        times = np.append(times, time)
    return Crossing(times, singular_values(num_inputs, alpha, times).signal, signal, time)


def phase_diagram(
    num_inputs: Int[np.ndarray, " n"] | Sequence,
    alphas: Float[np.ndarray, " m"] | Sequence,
    times: Float[np.ndarray, " k"] | Sequence,
) -> Float[np.ndarray, "n m k"]:
    """Logarithm of noise over signal singular value: positive where noise is on top.

    Where it is positive, truncation must drop the largest component to remove
    the noise; where negative, keeping the largest removes it. Times must be
    positive. Cost: about 10 ms per pair (N, alpha).
    """
    sizes, fractions = checks.plane(num_inputs, alphas)
    times = checks.nonnegative_times(times)
    if np.any(times == 0.0):
        raise ValueError("times must be positive: at time zero both singular values vanish")
    table = np.empty((len(sizes), len(fractions), len(times)))
    for i, inputs in enumerate(sizes):
        for j, alpha in enumerate(fractions):
            values = singular_values(inputs, alpha, times)
            with np.errstate(divide="ignore"):  # noise is zero where c changes sign
                table[i, j] = np.log(values.noise) - np.log(values.signal)
    return table


def early_ratio(num_inputs: int, alpha: float) -> float:
    """Noise over signal singular value as t -> 0: sqrt(N+1) |alpha - 1/(N+1)| / (1 - alpha)."""
    classes = checks.at_least("num_inputs", num_inputs, 2) + 1
    alpha = checks.open_fraction("alpha", alpha)
    return float(np.sqrt(classes) * abs(alpha - 1.0 / classes) / (1.0 - alpha))


def late_ratio(num_inputs: int) -> float:
    """Noise over signal singular value as t -> infinity: (N - 1) / sqrt(N + 1)."""
    num_inputs = checks.at_least("num_inputs", num_inputs, 2)
    return (num_inputs - 1) / float(np.sqrt(num_inputs + 1.0))


def _early_excess(num_inputs: int, alpha: float) -> Callable[[np.ndarray], np.ndarray]:
    """sqrt(N + 1) c - s over t / N as a function of t / N, by its power series.

    In t / N the flow is z' = target - p with p' = p (z' - sum p z'), hence a recursion for the
    coefficients. The first of the excess is (sqrt(N + 1) + 1) (alpha - 1 / sqrt(N + 1)), the
    second -1 / (2 (N + 1)) of that because z'' is so of z': both vanish at the threshold, and
    both are written without a difference of nearly equal numbers.
    """
    copies = np.array([1.0, num_inputs - 1.0, 1.0])
    u, root = 1.0 / (num_inputs + 1.0), np.sqrt(num_inputs + 1.0)
    p, slopes, pull = np.full((ORDER + 1, 3), u), np.zeros((ORDER, 3)), np.zeros((ORDER, 3))
    for k in range(ORDER):
        # p, z' and p' / p as power series, multiplied term by term.
        slopes[k] = (np.array([1.0 - alpha, 0.0, alpha]) if k == 0 else 0.0) - p[k]
        pull[k] = slopes[k] - np.sum(p[: k + 1] * slopes[k::-1] @ copies)
        p[k + 1] = np.sum(p[: k + 1] * pull[k::-1], axis=0) / (k + 1)
    z = slopes / np.arange(1, ORDER + 1)[:, None]
    series = root * z[:, 2] - (z[:, 0] - z[:, 1])
    distance = float(Fraction(alpha) ** 2 * (num_inputs + 1) - 1)
    series[0] = (root + 1.0) * distance * u / (alpha + 1.0 / root)
    series[1] = -0.5 * u * series[0]
    # Later it is not asked for.
    return lambda ahead: np.polynomial.polynomial.polyval(np.minimum(ahead, EARLY), series)


def _crossing_times(num_inputs: int, alpha: float, until: float) -> Float[np.ndarray, " n"]:
    path = log_time.trajectory(
        memory_flow.velocity(num_inputs, alpha),
        memory_flow.start(alpha),
        until=until,
        unit=float(num_inputs),
    )
    root = np.sqrt(num_inputs + 1.0)

    early = _early_excess(num_inputs, alpha)

    def excess(clock: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Of the noise over the signal at clock = log(t / N); zero where its sign is rounding."""
        ahead = np.exp(clock)
        gap, rho = path(np.log1p(ahead))
        noise = memory_flow.from_gap(num_inputs, alpha, gap, rho).noise
        found = root * np.abs(noise) - gap
        found[np.abs(found) <= RESOLVED * (1.0 + gap)] = 0.0
        # With alpha at most u the noise logit falls at first, by less than the signal rises.
        series = early(ahead) if alpha * (num_inputs + 1) > 1.0 else -np.ones_like(ahead)
        return np.where(ahead <= EARLY, series, found)

    last = until / num_inputs
    late = max(last / EARLY, 1.0 + 1.0 / 64)
    points = np.concatenate([
        np.geomspace(1e-12, EARLY, 1200),
        EARLY * np.geomspace(1.0, late, 2 + int(64 * np.log(late)))[1:],
    ])  # fmt: skip
    points = np.log(np.append(points[points < last], last))
    signs = np.sign(excess(points))
    points, signs = points[signs != 0.0], signs[signs != 0.0]
    starts = np.flatnonzero(signs[:-1] * signs[1:] < 0)
    roots = [
        brentq(lambda x: float(excess(np.array([x]))[0]), points[i], points[i + 1], xtol=1e-13)
        for i in starts
    ]
    return num_inputs * np.exp(np.array(roots, dtype=np.float64))
