"""What m training sequences blur in the first gradient step: exact standard deviations.

The step estimated from m independent sequences is the mean of m copies of
(e_y - u 1) phi^T, phi = x_T for the feed-forward and xbar for the value matrix
(`theory.first_step`), so every variance is 1/m times that of one sequence: the
m^(-1/2) law is exact. Take a fixed probe vector x and a combination w of
classes, for instance w = 1{y = tau} - 1{y = k} for the margin over class k. As
y is independent of the sequence given ybar,

    E[w phi.x]       = mean over ybar of E[w | ybar] E[phi | ybar].x
    E[(w phi.x)^2]   = mean over ybar of E[w^2 | ybar] x^T E[phi phi^T | ybar] x.

For the noise logit, w = 1{y = tau} - u, on the probe e(q) this is a Bernoulli
mean with standard deviation sqrt(alpha (1 - alpha) / m).

Signal against noise, uniform language, N large, T much larger than N: phi.x is
1 for the feed-forward and nearly always 2/N for the value matrix, so all that
fluctuates is the label. Signal and noise shrink together and both blocks reach
the same ratio sqrt(m alpha / (1 - alpha)): the feed-forward layer is faster,
not cleaner.

The margin over the best other class is a maximum; once m is large enough for
the best class to be settled it has the deviation of the margin over that class,
and where several classes tie it is lower by a term of order m^(-1/2) on average.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Num

from truncated_weights.theory import checks, first_step, recall_chain

Vector = Float[np.ndarray, " features"]
# Features that margins are read at, one vector for each block.
Probe = tuple[Vector | Sequence, Vector | Sequence] | Sequence


class Blocks(NamedTuple):
    """One number for each of the two blocks."""

    feed_forward: float
    value: float


class SampledStep(NamedTuple):
    """Law of the step of one training sequence, enough for every variance.

    Attributes:
      moments: of the training sequences.
      alpha: probability of the noise label.

    """

    moments: recall_chain.Moments
    alpha: float


def sampled_step(
    unigram: Num[np.ndarray, " n"] | Sequence,
    bigram: Num[np.ndarray, "n n"] | Sequence,
    *,
    trigger: int,
    alpha: float,
    length: int,
    noise_row: Num[np.ndarray, " n"] | Sequence | None = None,
) -> SampledStep:
    """Moments of the step of one sequence; arguments as `first_step.population_gradients`."""
    alpha = checks.open_fraction("alpha", alpha)
    law = recall_chain.chain(
        unigram, bigram, trigger=trigger, alpha=alpha, length=length, noise_row=noise_row
    )
    return SampledStep(recall_chain.moments(law), alpha)


def mean_probe(step: SampledStep) -> tuple[Float[np.ndarray, " f"], Float[np.ndarray, " f"]]:
    """Mean features (x_T, xbar) of a sequence: the probe of margins averaged over tests."""
    return step.moments.final.mean(axis=0), step.moments.attended.mean(axis=0)


def margin_means(
    step: SampledStep,
    probe: Probe,
    *,
    against: int | None,
) -> Blocks:
    """Mean over training samples of the margin on a probe (x_T, xbar).

    Args:
      step: from `sampled_step`.
      probe: features the margin is read at, one vector for each block.
      against: the other class; None for the noise logit by itself.

    """
    weight, probe = _weights(step, against)[0], _checked(step, probe)
    final, attended = step.moments.final @ probe[0], step.moments.attended @ probe[1]
    return Blocks(float(np.mean(weight * final)), float(np.mean(weight * attended)))


def margin_deviations(
    step: SampledStep,
    probe: Probe,
    *,
    against: int | None,
) -> Blocks:
    """Standard deviation of the margin on a probe for m = 1; divide by sqrt(m).

    Arguments as `margin_means`. Exact for every m.
    """
    square, probe = _weights(step, against)[1], _checked(step, probe)
    means = margin_means(step, probe, against=against)
    seconds = (step.moments.final_second, step.moments.attended_second)
    deviations = [
        np.sqrt(np.mean(square * np.einsum("f,bfg,g->b", x, second, x, optimize=True)) - mean**2)
        for x, second, mean in zip(probe, seconds, means, strict=True)
    ]
    return Blocks(*(float(x) for x in deviations))


def signal_to_noise(step: SampledStep, *, against: int | None) -> Blocks:
    """Mean over deviation, at the mean test features, for m = 1; multiply by sqrt(m)."""
    probe = mean_probe(step)
    means = margin_means(step, probe, against=against)
    deviations = margin_deviations(step, probe, against=against)
    return Blocks(*(x / y for x, y in zip(means, deviations, strict=True)))


def entry_deviations(
    step: SampledStep, block: Literal["feed_forward", "value"]
) -> Float[np.ndarray, "classes features"]:
    """Standard deviation of every entry of a sampled gradient for m = 1; divide by sqrt(m)."""
    if block not in ("feed_forward", "value"):
        raise ValueError(f'block must be "feed_forward" or "value", got {block!r}')
    fed = block == "feed_forward"
    first = step.moments.final if fed else step.moments.attended
    second = step.moments.final_second if fed else step.moments.attended_second
    diagonal = np.einsum("bff->bf", second)
    num_tokens = first.shape[1] // 2
    labels = first_step.label_law(step.moments.outputs, step.alpha, num_tokens)
    u = 1.0 / num_tokens
    mean = (labels - u).T @ first / len(first)
    square = (labels * (1.0 - u) ** 2 + (1.0 - labels) * u**2).T @ diagonal / len(first)
    return np.sqrt(np.maximum(square - mean**2, 0.0))


def _checked(step: SampledStep, probe: Probe) -> tuple[Vector, Vector]:
    size = step.moments.final.shape[1]
    if len(probe) != 2:
        raise ValueError(f"probe must hold two vectors, for the two blocks, got {len(probe)}")
    return checks.numbers("probe", probe[0], size), checks.numbers("probe", probe[1], size)


def _weights(
    step: SampledStep, against: int | None
) -> tuple[Float[np.ndarray, " outputs"], Float[np.ndarray, " outputs"]]:
    """E[w | ybar] and E[w^2 | ybar] of the combination of classes that a margin reads."""
    outputs, alpha = step.moments.outputs, step.alpha
    num_tokens = step.moments.final.shape[1] // 2
    if against is None:
        u = 1.0 / num_tokens
        square = alpha * (1.0 - u) ** 2 + (1.0 - alpha) * u**2
        return np.full(outputs.size, alpha - u), np.full(outputs.size, square)
    against = checks.index("against", against, num_tokens - 1)
    hit = (1.0 - alpha) * (outputs == against)
    return alpha - hit, alpha + hit
