"""Gradient flow of the associative memory whose facts have frequencies and share their answers.

Setting. As in `theory.frequent_memory`: fact i is drawn with frequency pi_i and read through
E[i] = sqrt(1 - r) e_i + sqrt(r) e_0. But the target of fact i is one of K answers, c(i), with
probability 1 - alpha, and noise with probability alpha: "the mother tongue of X is" has sixteen
answers for three hundred X. With P the softmax over K + 1 classes and R = P* - P,

    z_i' = (1 - r) pi_i R_i + r sum_j pi_j R_j,     z_i(0) = 0.                        (flow)

Time t is learning rate times number of steps. Nothing is approximated: N (K + 1) equations are
integrated as they stand, which few answers make cheap (N = 320, K = 16, t = 3,000: 0.2 s). The
number of steps grows like t. With K = N and c(i) = i this is `theory.frequent_memory`.

What sharing changes. The shared row first learns the law of the answers q_k, the sum of pi_i over
the facts of answer k, and the noise, so a fact not yet known starts behind the noise by
log(alpha / ((1 - alpha) q_c(i))), less than with an answer of its own. But it does not overtake
sooner: a learned fact must say no other answer, and what pushes the other answers down and the
noise up is common to all facts, so the shared row does that, and the lead of the noise over the
facts still to be learned grows while they wait. (N = 60, K = 4, Zipf, alpha = 0.4, r = 0.1 to 0.6:
they overtake 2 to 6 times later than at the lead that they start with; found numerically.)

Cuts. W has a row for e_0 and one for every fact (`frequent_memory.weights`). One cut drops the
largest singular component (`without_top`). The other takes a share of the row of e_0
(`without_row`): what a cut would do that removed the shared association and nothing else.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.integrate import solve_ivp
from scipy.special import softmax

from truncated_weights.theory import checks, frequent_memory, frequent_window
from truncated_weights.theory.frequent_memory import Facts

# Far below what is read off these logits; see the tests for the error that is left.
RELATIVE, ABSOLUTE = 1e-9, 1e-10


class Memory(NamedTuple):
    """A validated memory.

    Attributes:
      facts: frequencies, noise (one token) and r.
      answers: c(i), from 0 to num_answers - 1.
      num_answers: K; the noise is class K.

    """

    facts: Facts
    answers: Int[np.ndarray, " facts"]
    num_answers: int


def memory(
    frequencies: Float[np.ndarray, " facts"] | Sequence,
    answers: Int[np.ndarray, " facts"] | Sequence,
    alpha: float,
    shared: float = 0.0,
) -> Memory:
    """Check the arguments of every function here.

    Args:
      frequencies: of the facts, at least two, positive, summing to one.
      answers: a number from 0 for every fact; their largest plus one is K.
      alpha: probability of the noise.
      shared: r, in [0, 1).

    Raises:
      ValueError: naming the argument and what is wrong with it.

    """
    facts = frequent_memory.facts(frequencies, checks.open_fraction("alpha", alpha), shared)
    given = checks.integers("answers", answers, facts.frequencies.size)
    return Memory(facts, given, int(given.max()) + 1)


def logits(
    given: Memory, times: Float[np.ndarray, " n"] | Sequence
) -> Float[np.ndarray, "n facts classes"]:
    """Logits of the K answers, then of the noise, for every fact at each time, any order."""
    times = checks.nonnegative_times(times)
    pi, r = given.facts.frequencies[:, None], given.facts.shared
    target = targets(given)
    moments, where = np.unique(times, return_inverse=True)
    if times.size == 0 or moments[-1] == 0.0:
        return np.zeros((times.size, *target.shape))

    def velocity(_: float, state: np.ndarray) -> np.ndarray:
        pull = pi * (target - softmax(state.reshape(target.shape), axis=-1))
        return ((1.0 - r) * pull + r * pull.sum(axis=0)).ravel()

    solution = solve_ivp(
        velocity, (0.0, moments[-1]), np.zeros(target.size), method="DOP853", t_eval=moments,
        rtol=RELATIVE, atol=ABSOLUTE,
    )  # fmt: skip
    if not solution.success:
        raise RuntimeError(f"the flow could not be integrated: {solution.message}")
    return solution.y.T[where].reshape(-1, *target.shape)


def targets(given: Memory) -> Float[np.ndarray, "facts classes"]:
    """P*: what a reader who knows every fact says."""
    found = np.zeros((given.answers.size, given.num_answers + 1))
    found[np.arange(given.answers.size), given.answers] = 1.0 - given.facts.alpha
    found[:, -1] = given.facts.alpha
    return found


def without_top(
    given: Memory, values: Float[np.ndarray, "facts classes"] | Sequence
) -> Float[np.ndarray, "facts classes"]:
    """Logits after the largest singular component of W is dropped."""
    return frequent_window.truncated_logits(given.facts, values)


def without_row(
    given: Memory, values: Float[np.ndarray, "facts classes"] | Sequence, share: float = 1.0
) -> Float[np.ndarray, "facts classes"]:
    """Logits after a share of the row of e_0 is taken away, all of it by default."""
    share = checks.number("share", share)
    values = checks.numbers("values", values, *given.facts.frequencies.shape, None)
    row = frequent_memory.weights(given.facts, values)[0]
    return values - share * np.sqrt(given.facts.shared) * row


def known(
    given: Memory, values: Float[np.ndarray, "*n facts classes"] | Sequence
) -> Bool[np.ndarray, "*n facts"]:
    """Facts whose answer has the largest logit."""
    values = checks.array("values", values)
    if values.shape[-2:] != (given.answers.size, given.num_answers + 1):
        raise ValueError(f"values must hold the logits of every fact, got shape {values.shape}")
    if not np.all(np.isfinite(values)):
        raise ValueError("values must be finite")
    return values.argmax(axis=-1) == given.answers
