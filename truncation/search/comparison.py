"""Scores of candidates against the full model: flat rows, and the choice of one of them."""

from typing import Any

import numpy as np

from truncated_weights.truncation.finite import lost, or_none
from truncated_weights.truncation.search import statistics
from truncated_weights.truncation.search.examples import HostScores

LOWER_IS_BETTER = ("loss", "p_noise")


def gain(name: str, after: Any, before: Any) -> Any:
    """after - before (numbers or arrays), signed so that more is better for this metric."""
    return before - after if name in LOWER_IS_BETTER else after - before


def summarise(
    scores: HostScores,
    full: HostScores,
    weights: np.ndarray,
    *,
    prefix: str = "",
    seed: int = 0,
    samples: int = 2000,
) -> list[dict[str, Any]]:
    """One flat row per candidate: every mean, its change to the full model, the 95 % interval.

    scores are [candidates, examples, answers], full [examples, answers]. Keys are
    METRIC, METRIC_change, METRIC_change_low and METRIC_change_high after `prefix`; None where a
    candidate left the finite numbers.
    """
    rows: list[dict[str, Any]] = [{} for _ in next(iter(scores.values()))]
    for name, values in scores.items():
        means = statistics.weighted_mean(values, weights)
        change = statistics.paired_bootstrap(
            values - full[name], weights, seed=seed, samples=samples
        )
        for index, row in enumerate(rows):
            row[prefix + name] = or_none(means[index])
            row[f"{prefix}{name}_change"] = or_none(change.mean[index])
            row[f"{prefix}{name}_change_low"] = or_none(change.low[index])
            row[f"{prefix}{name}_change_high"] = or_none(change.high[index])
    return rows


def merit(scores: HostScores, weights: np.ndarray, objective: str) -> list[tuple[float, float]]:
    """What candidates are ranked by, higher first: the objective, ties broken by lower loss.

    One that left the finite numbers is below all others.
    """
    if objective not in scores:
        raise ValueError(f"objective {objective!r}: the model scores {' '.join(scores)}")
    sign = -1 if objective in LOWER_IS_BETTER else 1
    means = sign * statistics.weighted_mean(scores[objective], weights)
    losses = -statistics.weighted_mean(scores["loss"], weights)
    known = ~lost({name: scores[name] for name in (objective, "loss")}, weights)
    means, losses = (np.where(known, values, -np.inf) for values in (means, losses))
    return list(zip(means.tolist(), losses.tolist(), strict=True))


def within_noise(
    scores: HostScores,
    full: HostScores,
    weights: np.ndarray,
    chosen: int,
    objective: str,
    *,
    seed: int = 0,
    samples: int = 2000,
) -> str | None:
    """A sentence where the chosen candidate's gain could come from picking the best of many."""
    # Those that left the finite numbers were no competitors.
    known = ~lost(scores, weights)
    gains = gain(objective, scores[objective][known], full[objective][None])
    chosen = int(known[:chosen].sum())
    thresholds = statistics.noise_of_the_best(gains, weights, seed=seed, samples=samples)
    threshold = float(thresholds[chosen])
    best = float(statistics.weighted_mean(gains[chosen], weights))
    if best > threshold:
        return None
    return (
        f"the best of {len(gains)} candidates gains {best:.4g} in {objective}, within the "
        f"{threshold:.4g} expected by chance from {len(weights)} examples: "
        "it is not distinguishable from doing nothing"
    )


def ranking(
    scores: HostScores, full: HostScores, weights: np.ndarray, objective: str
) -> tuple[int, bool]:
    """Index of the best candidate, and whether it beats the full model.

    The index is of one that left the finite numbers only where all have.
    """
    ranked = merit(scores, weights, objective)
    winner = max(range(len(ranked)), key=ranked.__getitem__)
    baseline = merit({name: v[None] for name, v in full.items()}, weights, objective)[0]
    return winner, ranked[winner] > baseline
