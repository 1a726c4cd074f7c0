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

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import brentq

from theory import checks, log_time, memory_flow

# Times beyond this are reported as "no crossing that a float can hold".
LATEST = 1e300


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
    num_inputs: int, alpha: float, times: Float[np.ndarray, " n"]
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
    times: Float[np.ndarray, " n"],
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

    Sign changes of sqrt(N + 1) |c| - s are bracketed on a grid of 64 points per
    factor e of 1 + t / N, from t = 1e-6 N on, and refined by Brent's method. The
    asymptotic s* and t* put the
    long-time forms of s and c into s = sqrt(N + 1) c; they are accurate when
    e^{s*} is large against N / alpha, and meaningless otherwise.
    """
    num_inputs, alpha = checks.at_least("num_inputs", num_inputs, 2), float(alpha)
    alpha = checks.open_fraction("alpha", alpha)
    root = np.sqrt(num_inputs + 1.0)
    ratio = np.log(alpha / (1.0 - alpha))
    signal = -num_inputs * ratio / ((num_inputs - 1) - root) if num_inputs != 3 else np.nan
    signal = float(signal) if signal > 0.0 else np.nan
    scale = 2.0 * num_inputs / ((num_inputs + 1) * (1.0 - alpha))
    time = float(np.exp(np.log(scale) + signal)) if signal < 690.0 else np.nan
    empty = np.empty(0)
    if num_inputs == 3 and alpha == 0.5:  # equal at all times: they never cross
        return Crossing(empty, empty, np.nan, np.nan)
    times = _crossing_times(num_inputs, alpha, min(until, memory_flow.settled(num_inputs, alpha)))
    if memory_flow.settled(num_inputs, alpha) < time < until:
        times = np.append(times, time)
    return Crossing(times, singular_values(num_inputs, alpha, times).signal, signal, time)


def phase_diagram(
    num_inputs: Int[np.ndarray, " n"],
    alphas: Float[np.ndarray, " m"],
    times: Float[np.ndarray, " k"],
) -> Float[np.ndarray, "n m k"]:
    """Logarithm of noise over signal singular value: positive where noise is on top.

    Where it is positive, truncation must drop the largest component to remove
    the noise; where negative, keeping the largest removes it. Times must be
    positive. Cost: about 10 ms per pair (N, alpha).
    """
    if np.any(np.asarray(times) <= 0.0):
        raise ValueError("times must be positive: at time zero both singular values vanish")
    table = np.empty((len(num_inputs), len(alphas), len(times)))
    for i, inputs in enumerate(num_inputs):
        for j, alpha in enumerate(alphas):
            values = singular_values(int(inputs), float(alpha), times)
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


def _crossing_times(num_inputs: int, alpha: float, until: float) -> Float[np.ndarray, " n"]:
    path = log_time.trajectory(
        memory_flow.velocity(num_inputs, alpha),
        memory_flow.start(alpha),
        until=until,
        unit=float(num_inputs),
    )
    root = np.sqrt(num_inputs + 1.0)

    def excess(clock: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        gap, rho = path(clock)
        values = memory_flow.from_gap(num_inputs, alpha, gap, rho)
        return root * np.abs(values.noise) - gap

    end = np.log1p(until / num_inputs)
    clocks = np.concatenate([np.geomspace(1e-6, 0.1, 128), np.linspace(0.1, end, int(64 * end))])
    signs = np.sign(excess(clocks))
    starts = np.flatnonzero(signs[:-1] * signs[1:] < 0)
    roots = [
        brentq(lambda x: float(excess(np.array([x]))[0]), clocks[i], clocks[i + 1], xtol=1e-13)
        for i in starts
    ]
    return num_inputs * np.expm1(np.array(roots, dtype=np.float64))
