"""The first gradient step of the simplified model: population values and margins.

Model. Features as in `theory.recall_chain`; logits = V sum_t a_t x_t + F x_T
with a = softmax_t(x_T^T W x_t); V, F and W start at zero; cross-entropy of the
token y after z_T = q. At the start every class has probability u = 1/(N + 1)
and attention is uniform, so minus the gradients are

    F:  E[(e_y - u 1) x_T^T],     V:  E[(e_y - u 1) xbar^T],     W:  0.

Given ybar, y is drawn independently of the sequence, E[e_y | ybar] =
(1 - alpha) e_ybar + alpha e_tau =: m_ybar. Both are therefore averages over
ybar of (m_ybar - u 1) times a first moment of the chain: finite sums.

Margin. On a test sequence with features phi (x_T for F, xbar for V) a step D
gives the noise token the margin (D phi)_tau - max_{k != tau} (D phi)_k, per
unit of learning rate. Uniform language, N and T large:

    feed-forward:  alpha - (1 - alpha) / (N - 1) + O(1 / N),
    value:         2 alpha / N (1 + O(1 / N) + O(N / T)),

because x_T always shares e(q) with x_T', while two averages of feature vectors
overlap by 1/N in each half. The noise is learned N / 2 times faster by F.

How samples blur these margins is in `theory.finite_samples`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Num

from truncated_weights.theory import checks, recall_chain


class Steps(NamedTuple):
    """Minus the gradients at zero, [class, feature]: the step per unit learning rate."""

    feed_forward: Float[np.ndarray, "classes features"]
    value: Float[np.ndarray, "classes features"]


class MeanMargins(NamedTuple):
    """Mean margins of the noise token over test sequences, per unit learning rate.

    Attributes:
      feed_forward: noise minus best other logit, exact.
      feed_forward_over_correct: noise minus correct logit, exact.
      value_lower: lower end of a bracket of the mean of noise minus best other.
      value_upper: upper end of that bracket.
      value_over_correct: noise minus correct logit, exact.

    """

    feed_forward: float
    feed_forward_over_correct: float
    value_lower: float
    value_upper: float
    value_over_correct: float


class AsymptoticMargins(NamedTuple):
    """Large-N margins of the uniform language, per unit learning rate."""

    feed_forward: float
    value: float


def population_gradients(
    unigram: Num[np.ndarray, " n"] | Sequence,
    bigram: Num[np.ndarray, "n n"] | Sequence,
    *,
    trigger: int,
    alpha: float,
    length: int,
    noise_row: Num[np.ndarray, " n"] | Sequence | None = None,
) -> Steps:
    """Minus the population gradients of F and V at zero parameters.

    Args:
      unigram: law of the first token and, unless `noise_row` is given, of the
        token after tau.
      bigram: transition law of the ordinary tokens.
      trigger: q, the ordinary token after which ybar or tau follows.
      alpha: probability of tau after the trigger, strictly between 0 and 1.
      length: T, at least 2; z_T is the trigger.
      noise_row: law of the token after tau.

    Returns:
      feed_forward [N + 1, 2 (N + 1)] and value [N + 1, 2 (N + 1)]: rows are
      classes (tau last), columns e(0), ..., e(N), etilde(0), ..., etilde(N).

    Raises:
      ValueError: naming the argument and what is wrong with it.

    """
    alpha = checks.open_fraction("alpha", alpha)
    law = recall_chain.chain(
        unigram, bigram, trigger=trigger, alpha=alpha, length=length, noise_row=noise_row
    )
    first = recall_chain.means(law)
    residual = label_law(law.outputs, alpha, law.initial.size) - 1.0 / law.initial.size
    count = law.outputs.size
    return Steps(residual.T @ first.final / count, residual.T @ first.attended / count)


def label_law(
    outputs: Int[np.ndarray, " outputs"] | Sequence, alpha: float, num_tokens: int
) -> Float[np.ndarray, "outputs tokens"]:
    """Law of the label given each correct output: m_ybar."""
    num_tokens = checks.at_least("num_tokens", num_tokens, 2)
    outputs = checks.integers("outputs", outputs, None, below=num_tokens - 1)
    alpha = checks.within("alpha", alpha, 0.0, 1.0)
    law = np.zeros((outputs.size, num_tokens))
    law[np.arange(outputs.size), outputs] = 1.0 - alpha
    law[:, -1] = alpha
    return law


def sequence_features(
    tokens: Int[np.ndarray, "batch length"] | Sequence, num_tokens: int
) -> tuple[Float[np.ndarray, "batch features"], Float[np.ndarray, "batch features"]]:
    """Features (xbar, x_T) of given sequences over `num_tokens` = N + 1 tokens.

    Raises:
      ValueError: if a token is out of range or sequences are shorter than two.

    """
    num_tokens = checks.at_least("num_tokens", num_tokens, 2)
    tokens = checks.integers("tokens", tokens, None, None, below=num_tokens)
    checks.at_least("length of tokens", tokens.shape[1], 2)
    batch, length = tokens.shape
    rows = np.arange(batch)
    attended = np.zeros((batch, 2 * num_tokens))
    final = np.zeros_like(attended)
    np.add.at(attended, (rows[:, None], tokens), 1.0 / length)
    np.add.at(attended, (rows[:, None], num_tokens + tokens[:, :-1]), 1.0 / length)
    final[rows, tokens[:, -1]] = 1.0
    final[rows, num_tokens + tokens[:, -2]] = 1.0
    return attended, final


def margins(
    step: Float[np.ndarray, "classes features"] | Sequence,
    features: Float[np.ndarray, "batch features"] | Sequence,
) -> Float[np.ndarray, " batch"]:
    """Noise logit minus best other logit after the step, one per feature vector."""
    step = checks.numbers("step", step, None, None)
    checks.at_least("classes of step", step.shape[0], 2)
    logits = checks.numbers("features", features, None, step.shape[1]) @ step.T
    return logits[:, -1] - logits[:, :-1].max(axis=1)


def mean_margins(
    unigram: Num[np.ndarray, " n"] | Sequence,
    bigram: Num[np.ndarray, "n n"] | Sequence,
    *,
    trigger: int,
    alpha: float,
    length: int,
    noise_row: Num[np.ndarray, " n"] | Sequence | None = None,
    test_alpha: float | None = None,
) -> MeanMargins:
    """Means of the population margins over the law of test sequences.

    The feed-forward margin depends on the sequence through z_{T-1} alone, so its
    mean is a sum of N + 1 terms. The best other logit of the value margin is a
    maximum over the counts of a whole sequence; with l_k the logits of the
    ordinary classes, d_k = l_k - mean_j l_j and expectations given ybar,

        max_k E[l_k]  <=  E[max_k l_k]  <=  max_k E[l_k] + sqrt(sum_k Var d_k),

    which brackets its mean within a fraction of a percent for N of 16 and more.

    Args:
      unigram: as in `population_gradients`, for training and test sequences.
      bigram: likewise.
      trigger: likewise.
      alpha: likewise, for the training sequences.
      length: likewise.
      noise_row: likewise.
      test_alpha: alpha of the test sequences if different; 0 for clean ones.

    """
    steps = population_gradients(
        unigram, bigram, trigger=trigger, alpha=alpha, length=length, noise_row=noise_row
    )
    test = recall_chain.moments(
        recall_chain.chain(
            unigram,
            bigram,
            trigger=trigger,
            alpha=alpha if test_alpha is None else checks.below_one("test_alpha", test_alpha),
            length=length,
            noise_row=noise_row,
        )
    )
    rows = np.arange(test.outputs.size)

    num_tokens = test.final.shape[1] // 2
    by_previous = steps.feed_forward[:, trigger, None] + steps.feed_forward[:, num_tokens:]
    best = by_previous[-1] - by_previous[:-1].max(axis=0)
    previous = test.final[:, num_tokens:]

    fed = test.final @ steps.feed_forward.T
    attended = test.attended @ steps.value.T
    upper = attended[:, -1] - attended[:, :-1].max(axis=1)
    ordinary = steps.value[:-1] - steps.value[:-1].mean(axis=0)
    square = np.einsum("kf,bfg,kg->b", ordinary, test.attended_second, ordinary, optimize=True)
    variance = square - np.sum((test.attended @ ordinary.T) ** 2, axis=1)
    return MeanMargins(
        feed_forward=float(np.mean(previous @ best)),
        feed_forward_over_correct=float(np.mean(fed[:, -1] - fed[rows, test.outputs])),
        value_lower=float(np.mean(upper - np.sqrt(np.maximum(variance, 0.0)))),
        value_upper=float(np.mean(upper)),
        value_over_correct=float(np.mean(attended[:, -1] - attended[rows, test.outputs])),
    )


def asymptotic_margins(num_ordinary: int, alpha: float) -> AsymptoticMargins:
    """Leading margins of the uniform language: alpha - (1 - alpha)/(N - 1) and 2 alpha/N.

    Regime: N large and T much larger than N. Their ratio times N tends to 2.
    """
    num_ordinary = checks.at_least("num_ordinary", num_ordinary, 3)
    alpha = checks.open_fraction("alpha", alpha)
    return AsymptoticMargins(alpha - (1.0 - alpha) / (num_ordinary - 1), 2.0 * alpha / num_ordinary)
