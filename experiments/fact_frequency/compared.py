"""Predicted against measured: rank correlations over facts, and the borders of the window."""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata


class Interval(NamedTuple):
    """A figure, the ends of its 95 % interval from resampling facts; nan where there is none."""

    value: float
    low: float
    high: float


def resamples(count: int, samples: int, seed: int) -> np.ndarray:
    """[samples, count] places of facts, drawn with replacement."""
    return np.random.default_rng(seed).integers(0, count, (samples, count))


def spearman(one: np.ndarray, other: np.ndarray, drawn: np.ndarray) -> Interval:
    """Rank correlation of two values of each fact; nan where one of them does not vary."""
    value = _correlation(rankdata(one)[None], rankdata(other)[None])[0]
    found = _correlation(rankdata(one[drawn], axis=1), rankdata(other[drawn], axis=1))
    return _interval(float(value), found)


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    one, other = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (one, other))
    scale = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    top = (one * other).sum(axis=1)
    return np.divide(top, scale, out=np.full(len(top), np.nan), where=scale > 0)


def border(frequency: np.ndarray, known: np.ndarray, drawn: np.ndarray) -> Interval:
    """The frequency that best divides known facts from the rarer, unknown ones.

    known: between 0 and 1 (a share of seeds). inf where calling none known errs least, 0 where
    calling all known does.
    """
    order = np.argsort(-frequency, kind="stable")
    # Between neighbours, in the middle of the logarithm.
    logs = np.log(frequency[order])
    edges = np.exp(np.concatenate([[np.inf], (logs[1:] + logs[:-1]) / 2, [-np.inf]]))
    # A resample keeps the order: it only counts some facts several times.
    counts = np.stack([np.bincount(row, minlength=len(order)) for row in drawn])[:, order]
    sign = 2.0 * known[order] - 1.0
    value = edges[_best(sign[None])[0]]
    return _interval(float(value), edges[_best(counts * sign)])


def _best(gains: np.ndarray) -> np.ndarray:
    """How many of the most frequent facts to call known so that most calls are right."""
    start = np.zeros((len(gains), 1))
    return np.argmax(np.concatenate([start, np.cumsum(gains, axis=1)], axis=1), axis=1)


def _interval(value: float, found: np.ndarray) -> Interval:
    found = found[~np.isnan(found)]
    if np.isnan(value) or not found.size:
        return Interval(np.nan, np.nan, np.nan)
    # Borders may be infinite, so a quantile must not interpolate.
    low, high = np.quantile(found, [0.025, 0.975], method="nearest")
    return Interval(value, float(low), float(high))
