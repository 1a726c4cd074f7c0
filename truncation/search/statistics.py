"""Honest comparisons: splits by seed, weighted means, paired bootstrap, the noise of a maximum.

Arrays are NumPy, on the host: [candidates, examples, answers] against weights
[examples, answers]. Answers of one example are not independent, so resampling is over
examples and an example keeps all its answers.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Interval(NamedTuple):
    """A weighted mean with the ends of its confidence interval."""

    mean: Float[np.ndarray, " candidates"]
    low: Float[np.ndarray, " candidates"]
    high: Float[np.ndarray, " candidates"]


def split(
    num_examples: int, *, validation: float = 0.2, seed: int = 0
) -> tuple[Int[np.ndarray, " validation"], Int[np.ndarray, " test"]]:
    """Indices of a random validation share and of the rest, both sorted and not empty."""
    count = round(validation * num_examples)
    if not 0 < count < num_examples:
        raise ValueError(
            f"validation {validation}: leaves {count} of {num_examples} examples for "
            "validation; both parts need at least one"
        )
    order = np.random.default_rng(seed).permutation(num_examples)
    return np.sort(order[:count]), np.sort(order[count:])


def weighted_mean(
    values: Float[np.ndarray, "*candidates examples answers"],
    weights: Float[np.ndarray, "examples answers"],
) -> Float[np.ndarray, "*candidates"]:
    """sum w v / sum w over examples and answers, in float64."""
    total = np.sum(weights, dtype=np.float64)
    if not total > 0:
        raise ValueError("weights: all zero, so there is no answer to average over")
    return np.asarray(np.sum(values * weights, axis=(-2, -1), dtype=np.float64) / total)


def _resampled_means(
    values: Float[np.ndarray, "candidates examples answers"],
    weights: Float[np.ndarray, "examples answers"],
    *,
    seed: int,
    samples: int,
) -> Float[np.ndarray, "samples candidates"]:
    num_examples = len(weights)
    numerators = np.sum(values * weights, axis=-1, dtype=np.float64).T
    denominators = np.sum(weights, axis=-1, dtype=np.float64)
    counts = np.random.default_rng(seed).multinomial(
        num_examples, np.full(num_examples, 1 / num_examples), size=samples
    )
    totals = counts @ denominators
    # A resample without a single answer says nothing; it can only occur for tiny sets.
    kept = totals > 0
    return (counts[kept] @ numerators) / totals[kept, None]


def paired_bootstrap(
    difference: Float[np.ndarray, "candidates examples answers"],
    weights: Float[np.ndarray, "examples answers"],
    *,
    seed: int = 0,
    samples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap of mean differences to the full model on the same examples.

    The same resamples serve every candidate, so candidates stay comparable. Coverage is
    the nominal level up to O(1/sqrt examples); below some 30 examples it is too narrow.
    """
    means = _resampled_means(difference, weights, seed=seed, samples=samples)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return Interval(weighted_mean(difference, weights), low, high)


def noise_of_the_best(
    gain: Float[np.ndarray, "candidates examples answers"],
    weights: Float[np.ndarray, "examples answers"],
    *,
    seed: int = 0,
    samples: int = 2000,
    level: float = 0.95,
) -> Float[np.ndarray, " candidates"]:
    """How large each candidate's gain must be to tell the best of all from chance.

    The best of many candidates is biased upwards. Centring every gain at zero, dividing by
    its own bootstrap deviation and resampling gives the law of the largest of all, with
    their correlations; its `level` quantile times each deviation is returned (the
    studentised maximum of Romano and Wolf, 2005). Studentised, so that candidates that
    wreck the model, whose gains scatter most, do not hide a small sure gain.
    """
    means = _resampled_means(gain, weights, seed=seed, samples=samples)
    centred = means - weighted_mean(gain, weights)
    deviation = np.std(centred, axis=0)
    scaled = centred / np.where(deviation > 0, deviation, 1)
    return deviation * float(np.quantile(np.max(scaled, axis=1), level))
