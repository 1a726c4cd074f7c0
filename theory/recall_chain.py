"""Exact moments of the noisy recall chain, without sampling.

Setting (`final` scoring). N ordinary tokens and the noise token tau, index N.
A sequence has one correct output ybar, uniform over the ordinary tokens except
the trigger q. Given ybar, z_1 follows the unigram law and z_1, ..., z_{T-1} is
a Markov chain on N + 1 states: an ordinary token moves by its bigram row, the
trigger moves to tau with probability alpha and to ybar otherwise, tau moves by
`noise_row` (the unigram law unless given). z_T is then set to q, whatever came
before; it is not conditioned on.

Features. x_t = e(z_t) + etilde(z_{t-1}), two one-hot halves of N + 1 entries,
the second absent at t = 1. Let n' count the tokens at positions 1 to T - 1.
Then T xbar = (n' + e_q, n'): the average feature vector of a sequence is a
function of n' alone, and so are all its moments. With p_t the law of z_t and
M the transition matrix of a given ybar,

    E[n'] = sum_t p_t,    p_t = p_{t-1} M,
    R_t = (R_{t-1} + diag p_{t-1}) M,    R_t[j, k] = sum_{s < t} P(z_s = j, z_t = k),
    E[n' n'^T] = sum_t (diag p_t + R_t + R_t^T),    t = 1, ..., T - 1.

Cost: T matrix products of [(N - 1)(N + 1), N + 1] by [N + 1, N + 1] for the
second moments, 2 T N^4 operations (one second for N = 65, T = 256 on two cores),
and 5 N^3 numbers kept; means alone take T N^3 operations and no matrices.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

from truncated_weights.theory import checks


class Means(NamedTuple):
    """First moments given each correct output.

    Attributes:
      outputs: the possible ybar, every ordinary token but the trigger.
      attended: E[xbar | ybar], the uniform average of the feature vectors.
      final: E[x_T | ybar], one at e(q), the law of z_{T-1} in the second half.

    """

    outputs: Int[np.ndarray, " outputs"]
    attended: Float[np.ndarray, "outputs features"]
    final: Float[np.ndarray, "outputs features"]


class Moments(NamedTuple):
    """First and second moments given each correct output.

    Attributes:
      outputs: as in `Means`.
      attended: as in `Means`.
      final: as in `Means`.
      attended_second: E[xbar xbar^T | ybar].
      final_second: E[x_T x_T^T | ybar].
      pairs: expected frequency (1/T) sum_{t >= 2} P(z_{t-1} = j, z_t = k | ybar)
        of each adjacent pair, at [ybar, j, k].

    """

    outputs: Int[np.ndarray, " outputs"]
    attended: Float[np.ndarray, "outputs features"]
    final: Float[np.ndarray, "outputs features"]
    attended_second: Float[np.ndarray, "outputs features features"]
    final_second: Float[np.ndarray, "outputs features features"]
    pairs: Float[np.ndarray, "outputs tokens tokens"]


class Chain(NamedTuple):
    """The chains of all correct outputs: a shared matrix and the row of the trigger.

    Attributes:
      outputs: the possible ybar.
      initial: law of z_1.
      shared: transition matrix with the trigger's row left at zero.
      jumps: the trigger's row for each ybar.
      trigger: q.
      length: T.

    """

    outputs: Int[np.ndarray, " outputs"]
    initial: Float[np.ndarray, " tokens"]
    shared: Float[np.ndarray, "tokens tokens"]
    jumps: Float[np.ndarray, "outputs tokens"]
    trigger: int
    length: int


def chain(
    unigram: Num[np.ndarray, " n"] | Sequence,
    bigram: Num[np.ndarray, "n n"] | Sequence,
    *,
    trigger: int,
    alpha: float,
    length: int,
    noise_row: Num[np.ndarray, " n"] | Sequence | None = None,
) -> Chain:
    """The Markov chains of the module's docstring.

    Args:
      unigram: law of z_1 over the ordinary tokens.
      bigram: transition law, one row per ordinary token; the trigger's row is
        replaced but must be a law all the same.
      trigger: q, an ordinary token.
      alpha: probability of tau after the trigger; 0 is the law of clean sequences.
      length: T, at least 2.
      noise_row: law of the token after tau, the unigram law if None.

    Raises:
      ValueError: naming the argument and what is wrong with it.

    """
    unigram, bigram, trigger = checks.language(unigram, bigram, trigger)
    alpha = checks.below_one("alpha", alpha)
    length = checks.at_least("length", length, 2)
    num_tokens = unigram.size + 1
    after_noise = unigram if noise_row is None else checks.probabilities("noise_row", noise_row)
    if after_noise.shape != unigram.shape:
        raise ValueError(f"noise_row must have shape {unigram.shape}, got {after_noise.shape}")
    outputs = np.delete(np.arange(unigram.size), trigger)
    shared = np.zeros((num_tokens, num_tokens))
    shared[:-1, :-1] = bigram
    shared[-1, :-1] = after_noise
    shared[trigger] = 0.0
    jumps = np.zeros((outputs.size, num_tokens))
    jumps[np.arange(outputs.size), outputs] = 1.0 - alpha
    jumps[:, -1] = alpha
    return Chain(outputs, np.append(unigram, 0.0), shared, jumps, trigger, length)


def means(law: Chain) -> Means:
    """First moments only: T N^3 operations, no matrix per output."""
    current = np.tile(law.initial, (law.outputs.size, 1))
    counts = current.copy()
    for _ in range(law.length - 2):
        current = _advance(law, current)
        counts += current
    return Means(law.outputs, *_mean_features(law, counts, current))


def moments(law: Chain) -> Moments:
    """First and second moments and the frequencies of adjacent pairs."""
    num_tokens = law.initial.size
    diagonal = np.arange(num_tokens)
    current = np.tile(law.initial, (law.outputs.size, 1))
    counts = current.copy()
    visits = np.zeros_like(counts)  # expected departures, which pairs need
    joint = np.zeros((law.outputs.size, num_tokens, num_tokens))
    later = np.zeros_like(joint)
    for _ in range(law.length - 2):
        visits += current
        joint[:, diagonal, diagonal] += current
        joint = _advance(law, joint)
        later += joint
        current = _advance(law, current)
        counts += current
    second = later + later.transpose(0, 2, 1)
    second[:, diagonal, diagonal] += counts

    start = visits[:, :, None] * law.shared[None]
    start[:, law.trigger] = visits[:, law.trigger, None] * law.jumps
    start[:, :, law.trigger] += current
    attended, final = _mean_features(law, counts, current)
    return Moments(
        law.outputs,
        attended,
        final,
        _attended_second(law, counts, second),
        _final_second(law, current),
        start / law.length,
    )


def _advance(
    law: Chain, state: Float[np.ndarray, "outputs *rows tokens"]
) -> Float[np.ndarray, "outputs *rows tokens"]:
    """One step of every chain: a product all share, plus the trigger's own row."""
    jumps = law.jumps if state.ndim == 2 else law.jumps[:, None, :]
    return state @ law.shared + state[..., law.trigger, None] * jumps


def _mean_features(
    law: Chain,
    counts: Float[np.ndarray, "outputs tokens"],
    last: Float[np.ndarray, "outputs tokens"],
) -> tuple[Float[np.ndarray, "outputs features"], Float[np.ndarray, "outputs features"]]:
    trigger = np.zeros_like(counts)
    trigger[:, law.trigger] = 1.0
    attended = np.concatenate([counts + trigger, counts], axis=1) / law.length
    return attended, np.concatenate([trigger, last], axis=1)


def _attended_second(
    law: Chain,
    counts: Float[np.ndarray, "outputs tokens"],
    second: Float[np.ndarray, "outputs tokens tokens"],
) -> Float[np.ndarray, "outputs features features"]:
    """E[xbar xbar^T] from E[n'] and E[n' n'^T], by T xbar = (n' + e_q, n')."""
    q, num_tokens = law.trigger, counts.shape[1]
    first, rest = slice(0, num_tokens), slice(num_tokens, None)
    result = np.tile(second, (1, 2, 2))
    result[:, q, first] += counts
    result[:, q, rest] += counts
    result[:, first, q] += counts
    result[:, rest, q] += counts
    result[:, q, q] += 1.0
    return result / law.length**2


def _final_second(
    law: Chain, last: Float[np.ndarray, "outputs tokens"]
) -> Float[np.ndarray, "outputs features features"]:
    """E[x_T x_T^T]: z_T is fixed, so only the law of z_{T-1} enters."""
    num_outputs, num_tokens = last.shape
    result = np.zeros((num_outputs, 2 * num_tokens, 2 * num_tokens))
    result[:, law.trigger, law.trigger] = 1.0
    result[:, law.trigger, num_tokens:] = last
    result[:, num_tokens:, law.trigger] = last
    rest = np.arange(num_tokens, 2 * num_tokens)
    result[:, rest, rest] = last
    return result
