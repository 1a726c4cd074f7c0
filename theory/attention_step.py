"""The first step of the attention, once the feed-forward layer knows the noise.

Setting. The model of `theory.first_step`, later: F already predicts tau with
probability alpha and spreads the rest evenly over the N - 1 possible outputs,
and V copies, the logit of z_t rising by what is attended to t. The residual is
then, on average given ybar,

    r_ybar = (1 - alpha) (e_ybar - uniform over outputs).

Attention is a softmax at zero scores, so a small score at position t moves its
weight by (1/T) (that score minus the mean score). Writing the score as a sum
over key features, the step of the query row that reads e(q), minus the
gradient, is for each key feature f

    g_f = E_ybar[ sum_k r_k ( E[(1/T) sum_t 1{z_t = k} 1{f in x_t}] - E[cbar_k fbar] ) ]

with cbar and fbar the frequencies of tokens and features. The first expectation
is a token frequency for f = e(k) and a frequency of adjacent pairs for
f = etilde(j); the second is a second moment of the chain.

Uniform language, N and T / N large:

    g at etilde(q)  ->  (1 - alpha)^2 / N              look after triggers,
    g at e(tau)     ->  -alpha (1 - alpha)^2 / N^2     avoid the noise.

The first is the frequency 1/N of triggers times the chance that what follows is
correct times its residual; the second is minus the covariance-like product of
the frequency of noise, alpha / N, with the gain (1 - alpha)^2 / N that uniform
attention already has.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from truncated_weights.theory import checks, recall_chain


class AsymptoticScores(NamedTuple):
    """Leading entries of the attention step for the uniform language."""

    after_trigger: float
    noise: float


def population_gradient(
    unigram: Num[np.ndarray, " n"] | Sequence,
    bigram: Num[np.ndarray, "n n"] | Sequence,
    *,
    trigger: int,
    alpha: float,
    length: int,
    noise_row: Num[np.ndarray, " n"] | Sequence | None = None,
) -> Float[np.ndarray, " features"]:
    """Step of the attention scores of every key feature, per unit of learning rate.

    Arguments and errors as `theory.first_step.population_gradients`.

    Returns:
      [2 (N + 1)]: e(0), ..., e(N), etilde(0), ..., etilde(N).

    """
    alpha = checks.open_fraction("alpha", alpha)
    law = recall_chain.chain(
        unigram, bigram, trigger=trigger, alpha=alpha, length=length, noise_row=noise_row
    )
    moments = recall_chain.moments(law)
    num_outputs, num_tokens = law.outputs.size, law.initial.size
    residual = np.zeros((num_outputs, num_tokens))
    residual[:, law.outputs] = -(1.0 - alpha) / num_outputs
    residual[np.arange(num_outputs), law.outputs] += 1.0 - alpha

    current = residual * moments.attended[:, :num_tokens]
    previous = np.einsum("bk,bjk->bj", residual, moments.pairs)
    together = np.einsum("bk,bkf->bf", residual, moments.attended_second[:, :num_tokens])
    return (np.concatenate([current, previous], axis=1) - together).mean(axis=0)


def correct_minus_noise(
    gradient: Float[np.ndarray, " features"] | Sequence, trigger: int
) -> Float[np.ndarray, " outputs"]:
    """Score of a correct token minus that of a noise token, both after a trigger.

    Their keys share etilde(q) and differ in e(ybar) against e(tau), so after a
    step of size eta the attention odds of correct to noise tokens are multiplied
    by exp(eta times this). One entry per possible ybar, in increasing order.
    """
    gradient = checks.numbers("gradient", gradient, None)
    num_tokens = gradient.size // 2
    if gradient.size % 2 or num_tokens < 4:
        raise ValueError(f"gradient must have 2 (N + 1) entries, N at least 3, got {gradient.size}")
    trigger = checks.index("trigger", trigger, num_tokens - 1)
    return np.delete(gradient[: num_tokens - 1], trigger) - gradient[num_tokens - 1]


def asymptotic_scores(num_ordinary: int, alpha: float) -> AsymptoticScores:
    """(1 - alpha)^2 / N and -alpha (1 - alpha)^2 / N^2; see the module's docstring."""
    num_ordinary = checks.at_least("num_ordinary", num_ordinary, 3)
    alpha = checks.open_fraction("alpha", alpha)
    leading = (1.0 - alpha) ** 2 / num_ordinary
    return AsymptoticScores(leading, -alpha * leading / num_ordinary)
