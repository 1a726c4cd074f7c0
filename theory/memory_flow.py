"""Gradient flow of the linear associative memory with noise: the logits at any time.

Setting. Inputs x are uniform on N tokens; the target is x with probability
1 - alpha and the noise class tau with probability alpha, among N + 1 classes.
The logits are Z = E W U^T with orthonormal embeddings (rows of E and U), the
loss is the cross-entropy averaged over inputs, W starts at zero and follows
minus its gradient. Time t is learning rate times number of steps.

Derivation. With P the softmax of the rows of Z, dZ/dt = (P* - P) / N. The flow
commutes with relabelling the N tokens, so for all time Z has three values: a
(correct class), b (each of the N - 1 others), c (noise), and, with
p proportional to (e^a, e^b, e^c),

    N da/dt = (1 - alpha) - p_a,   N db/dt = -p_b,   N dc/dt = alpha - p_c.

The right sides sum to zero over classes, so a + (N - 1) b + c = 0 always. Two
numbers remain; we take s = a - b and rho = c - a - lambda with
lambda = log(alpha / (1 - alpha)), because s grows like log t while rho tends to
zero like 1 / t: written with expm1, the residuals keep their relative precision
at any time, where alpha - p_c itself would be lost to cancellation,

    D = (1 - alpha) (1 + (N - 1) e^-s) + alpha e^rho,
    p_b = (1 - alpha) e^-s / D,
    alpha - p_c = alpha (1 - alpha) ((N - 1) e^-s - (e^rho - 1)) / D,
    N ds/dt = N p_b - (alpha - p_c),
    N drho/dt = (alpha - p_c) - ((N - 1) (N p_b - (alpha - p_c)) - (alpha - p_c)) / N.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from truncated_weights.theory import checks, log_time

Pair = Float[np.ndarray, " 2"]

# In units of N / (alpha (1 - alpha)), the slowest relaxation of the flow: past
# this the long-time limit is exact to 1e-9, and the flow too stiff to step.
SETTLED = 1e11


class Logits(NamedTuple):
    """The three logits of an input: its correct class, any other class, the noise class."""

    correct: Float[np.ndarray, " n"]
    other: Float[np.ndarray, " n"]
    noise: Float[np.ndarray, " n"]


class Probabilities(NamedTuple):
    """Predicted probability of the correct class, of each other class, and of the noise."""

    correct: Float[np.ndarray, " n"]
    other: Float[np.ndarray, " n"]
    noise: Float[np.ndarray, " n"]


def logits(num_inputs: int, alpha: float, times: Float[np.ndarray, " n"] | Sequence) -> Logits:
    """Logits of the gradient flow at `times`, exact to better than 1e-8.

    Args:
      num_inputs: N, at least 2.
      alpha: probability of the noise class, strictly between 0 and 1.
      times: learning rate times steps, any order, zero or positive, as far as
        1e300.

    Returns:
      correct [n], other [n], noise [n].

    Raises:
      ValueError: naming the argument that is out of its range.

    """
    num_inputs, alpha = _checked(num_inputs, alpha)
    times = checks.nonnegative_times(times)
    if times.size == 0:
        return Logits(times, times, times)
    late = settled(num_inputs, alpha)
    states = log_time.integrate(
        velocity(num_inputs, alpha),
        start(alpha),
        np.minimum(times, late),
        unit=float(num_inputs),
    )
    exact = from_gap(num_inputs, alpha, states[:, 0], states[:, 1])
    limit = asymptotic_logits(num_inputs, alpha, np.maximum(times, late))
    return Logits(*(np.where(times > late, x, y) for x, y in zip(limit, exact, strict=True)))


def asymptotic_logits(
    num_inputs: int, alpha: float, times: Float[np.ndarray, " n"] | Sequence
) -> Logits:
    """Long-time limit of `logits`, correct up to terms of order log(t) / t.

    Once rho is small it follows s: alpha - p_c = N dc/dt with
    c = ((N - 1) s + N lambda) / (N + 1), hence
    ds/dt = ((N + 1) (1 - alpha) / (2 N)) e^-s, which integrates to

        s = log t + log((N + 1) (1 - alpha) / (2 N)).

    Regime: t much larger than N / (alpha (1 - alpha)). Times must be positive.
    """
    num_inputs, alpha = _checked(num_inputs, alpha)
    times = checks.nonnegative_times(times)
    if np.any(times == 0.0):
        raise ValueError("times must be positive for the long-time limit")
    signal = np.log(times) + np.log((num_inputs + 1) * (1.0 - alpha) / (2.0 * num_inputs))
    return from_gap(num_inputs, alpha, signal, np.zeros_like(signal))


def probabilities(num_inputs: int, values: Logits) -> Probabilities:
    """Softmax over the N + 1 classes of logits that take three values."""
    num_inputs = checks.at_least("num_inputs", num_inputs, 2)
    if len(values) != 3:
        raise ValueError(f"values must be three logits per input, got {len(values)}")
    stacked = np.stack([checks.numbers("values", x, None) for x in values])
    weights = np.exp(stacked - stacked.max(axis=0))
    total = weights[0] + (num_inputs - 1) * weights[1] + weights[2]
    return Probabilities(*(weights / total))


def start(alpha: float) -> Pair:
    """The state (s, rho) of zero logits."""
    alpha = checks.open_fraction("alpha", alpha)
    return np.array([0.0, -np.log(alpha / (1.0 - alpha))])


def settled(num_inputs: int, alpha: float) -> float:
    """The time past which `logits` is its long-time limit."""
    num_inputs, alpha = _checked(num_inputs, alpha)
    return SETTLED * num_inputs / (alpha * (1.0 - alpha))


def velocity(num_inputs: int, alpha: float) -> Callable[[Pair], Pair]:
    """Right side of the flow in the variables (s, rho) of the module's docstring."""
    return functools.partial(_derivative, *_checked(num_inputs, alpha))


def _derivative(num_inputs: int, alpha: float, state: Pair) -> Pair:
    others = num_inputs - 1
    decay = np.exp(-state[0])
    total = (1.0 - alpha) * (1.0 + others * decay) + alpha * np.exp(state[1])
    p_other = (1.0 - alpha) * decay / total
    noise = alpha * (1.0 - alpha) * (others * decay - np.expm1(state[1])) / total
    gap = num_inputs * p_other - noise
    correct = (others * gap - noise) / num_inputs
    return np.array([gap, noise - correct]) / num_inputs


def from_gap(
    num_inputs: int,
    alpha: float,
    gap: Float[np.ndarray, " n"] | Sequence,
    excess: Float[np.ndarray, " n"] | Sequence,
) -> Logits:
    """Logits from s = a - b and rho = c - a - lambda by a + (N - 1) b + c = 0."""
    num_inputs, alpha = _checked(num_inputs, alpha)
    gap = checks.numbers("gap", gap, None)
    excess = checks.numbers("excess", excess, gap.size)
    offset = excess + np.log(alpha / (1.0 - alpha))
    others, classes = num_inputs - 1, num_inputs + 1
    return Logits(
        (others * gap - offset) / classes,
        (-2.0 * gap - offset) / classes,
        (others * gap + num_inputs * offset) / classes,
    )


def _checked(num_inputs: int, alpha: float) -> tuple[int, float]:
    return checks.at_least("num_inputs", num_inputs, 2), checks.open_fraction("alpha", alpha)
