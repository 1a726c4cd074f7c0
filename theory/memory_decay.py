"""Where weight decay brings the associative memory to rest, and which end holds the noise.

Setting: `theory.memory_flow` with lambda / 2 times the squared norm of W added to the loss. In
the orthonormal embedding the logits obey dZ/dt = (P* - P) / N - lambda Z, and come to rest where

    N lambda a = (1 - alpha) - p_a,   N lambda b = -p_b,   N lambda c = alpha - p_c.

The loss is strictly convex, so this is the only such point and descent finds it from anywhere.
The right sides sum to zero over classes, hence a + (N - 1) b + c = 0 and two equations remain,
for s = a - b (signal singular value, N - 1 fold) and c (noise singular value sqrt(N + 1) |c|):

    N lambda s = (1 - alpha) - p_a + p_b,   N lambda c = alpha - p_c,   b = -(s + c) / N.

Decay plays the part of 1 / time: as lambda -> infinity the ratio of noise to signal is that of
the first moment, sqrt(N + 1) |alpha - 1/(N + 1)| / (1 - alpha), and as lambda -> 0 that of the
end, (N - 1) / sqrt(N + 1) (`theory.memory_spectrum`). So for N >= 4 the noise is the top
component for lambda below some lambda* where alpha < 1 / sqrt(N + 1), and always where alpha is
larger; for N = 2 the signal is on top below lambda* where alpha > 1 / sqrt(3), else always.

Asymptotic. Where s* = -N log(alpha / (1 - alpha)) / ((N - 1) - sqrt(N + 1)) is large,
lambda (s + c) = p_b gives

    lambda* = (1 - alpha) e^-s* / (s* (1 + 1 / sqrt(N + 1))).
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import brentq

from truncated_weights.theory import checks, memory_flow
from truncated_weights.theory.memory_flow import Logits
from truncated_weights.theory.memory_spectrum import SingularValues

Times = Float[np.ndarray, " n"]

# Newton's method on a convex function: damped, it needs few steps from any start.
MOST_STEPS = 200
# Where the order of the two singular values is looked for, times 1/N.
WEAKEST, STRONGEST = 1e-12, 1e4


class Change(NamedTuple):
    """Decay at which noise and signal singular values are equal, nan where they never are.

    Attributes:
      decay: exact; looked for between 1e-12 / N and 1e4 / N, nan where it lies outside.
      asymptotic: the formula of the module's docstring, nan where s* is not positive.

    """

    decay: float
    asymptotic: float


def stationary_logits(num_inputs: int, alpha: float, decays: Times | Sequence) -> Logits:
    """Logits at rest for every decay, exact to 1e-10 of their size.

    Args:
      num_inputs: N, at least 2.
      alpha: probability of the noise class.
      decays: lambda, positive.

    Raises:
      ValueError: naming the argument that is out of its range.

    """
    num_inputs = checks.at_least("num_inputs", num_inputs, 2)
    alpha = checks.open_fraction("alpha", alpha)
    decays = checks.positives("decays", decays, None)
    found = np.array([_solve(num_inputs, alpha, decay) for decay in decays]).reshape(-1, 3)
    return Logits(*found.T)


def singular_values(num_inputs: int, alpha: float, decays: Times | Sequence) -> SingularValues:
    """Signal and noise singular value at rest."""
    values = stationary_logits(num_inputs, alpha, decays)
    return SingularValues(
        values.correct - values.other, np.sqrt(num_inputs + 1.0) * np.abs(values.noise)
    )


def phase_diagram(
    num_inputs: Int[np.ndarray, " n"] | Sequence,
    alphas: Float[np.ndarray, " m"] | Sequence,
    decays: Float[np.ndarray, " k"] | Sequence,
) -> Float[np.ndarray, "n m k"]:
    """Logarithm of noise over signal singular value at rest: positive where noise is on top."""
    sizes, fractions = checks.plane(num_inputs, alphas)
    decays = checks.positives("decays", decays, None)
    table = np.empty((len(sizes), len(fractions), len(decays)))
    for i, inputs in enumerate(sizes):
        for j, alpha in enumerate(fractions):
            values = singular_values(inputs, alpha, decays)
            with np.errstate(divide="ignore"):  # noise is zero where c changes sign
                table[i, j] = np.log(values.noise) - np.log(values.signal)
    return table


def change_of_order(num_inputs: int, alpha: float) -> Change:
    """lambda* and its asymptotic value."""
    num_inputs = checks.at_least("num_inputs", num_inputs, 2)
    alpha = checks.open_fraction("alpha", alpha)
    root = np.sqrt(num_inputs + 1.0)
    ratio = np.log(alpha / (1.0 - alpha))
    signal = -num_inputs * ratio / ((num_inputs - 1) - root) if num_inputs != 3 else np.nan
    formula = np.nan
    if signal > 0.0:
        formula = float((1.0 - alpha) * np.exp(-signal) / (signal * (1.0 + 1.0 / root)))

    def excess(log_decay: float) -> float:
        values = singular_values(num_inputs, alpha, np.exp([log_decay]))
        return float(np.log(values.noise[0]) - np.log(values.signal[0]))

    low, high = np.log(WEAKEST / num_inputs), np.log(STRONGEST / num_inputs)
    if num_inputs == 3 or excess(low) * excess(high) > 0.0:
        # N = 3: the limit of weak decay is exactly one, and no sign can be told there.
        return Change(np.nan, formula)
    return Change(float(np.exp(brentq(excess, low, high, xtol=1e-12))), formula)


def _solve(num_inputs: int, alpha: float, decay: float) -> np.ndarray:
    """Newton's method on the row's loss plus N lambda / 2 |z|^2, in the three logits."""
    copies = np.array([1.0, num_inputs - 1.0, 1.0])
    target = np.array([1.0 - alpha, 0.0, alpha])
    strength = num_inputs * decay
    loss = functools.partial(_loss, copies, target, strength)

    # Near the long-time form of the flow at time 1 / lambda; damping does the rest.
    gap = np.log1p((1.0 - alpha) / strength)
    z = np.array(
        [float(x[0]) for x in memory_flow.from_gap(num_inputs, alpha, np.array([gap]), np.zeros(1))]
    )
    for _ in range(MOST_STEPS):
        weights = np.exp(z - z.max())
        p = weights / (weights @ copies)
        residual = p - target + strength * z
        if np.max(np.abs(residual)) < 1e-14 * max(1.0, strength * np.max(np.abs(z))):
            break
        jacobian = np.diag(p + strength) - np.outer(p, copies * p)
        move, size, here = np.linalg.solve(jacobian, residual), 1.0, loss(z)
        # Short steps are taken whole: there the loss itself is rounding.
        while np.max(np.abs(size * move)) > 1e-3 and loss(z - size * move) > here:
            size /= 2
        z = z - size * move
        z = z - (copies @ z) / copies.sum()  # the sum rule, which weak decay hardly enforces
        if np.max(np.abs(move)) < 1e-13 * max(1.0, np.max(np.abs(z))):
            break
    return z


def _loss(copies: np.ndarray, target: np.ndarray, strength: float, z: np.ndarray) -> float:
    """The row's loss plus strength / 2 times its squared logits, `copies` of each."""
    top = z.max()
    total = top + np.log(np.exp(z - top) @ copies)
    return float(total - target @ z + 0.5 * strength * copies @ z**2)
