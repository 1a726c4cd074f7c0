"""Prunings compared on validation, the best measured on test with random ones of its size."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from truncated_weights.truncation.finite import lost
from truncated_weights.truncation.notation import Key
from truncated_weights.truncation.search import comparison
from truncated_weights.truncation.search.problem import (
    Choice,
    Outcome,
    SearchProblem,
    add_figures,
    conclude,
)
from truncated_weights.truncation.search.scorer import Scorer


class Pruning(NamedTuple):
    """The components kept of each matrix, and whether a bias makes up for those removed."""

    name: str
    masks: Mapping[Key, np.ndarray]
    biased: bool


def judge(
    problem: SearchProblem,
    variants: Sequence[Pruning],
    make: Callable[[Pruning, Scorer], Choice],
    with_biases: Scorer,
    *,
    mark: tuple[int, float],
    random_draws: int,
    objective: str,
    seed: Any,
    samples: int,
) -> Outcome:
    """The outcome of a rule that began at `mark` and has these prunings to offer.

    make turns a pruning into a choice on a scorer: the problem's, or `with_biases`, the same model
    with places for biases, for variants that have one.
    """
    scorer, validation = problem.scorer, problem.validation
    bootstrap = {"seed": seed, "samples": samples}
    full = scorer.full(validation)
    choices, each = [], []
    for one in variants:
        where = with_biases if one.biased else scorer
        # The parameters of all variants at once would fill memory; choices are small.
        choices.append(make(one, where))
        each.append(where.of_params(choices[-1].params(where.decompositions), validation))
    scores = {name: np.stack([found[name] for found in each]) for name in full}
    weights = scorer.weights(validation)
    gone = [one.name for one, bad in zip(variants, lost(scores, weights), strict=True) if bad]
    best, improves = comparison.ranking(scores, full, weights, objective)
    warning: str | None = f"no pruning improves {objective} on validation"
    if improves:
        warning = comparison.within_noise(scores, full, weights, best, objective, **bootstrap)

    rows: list[dict[str, Any]] = [{"intervention": "full", "removed": 0, "chosen": not improves}]
    for index, choice in enumerate(choices):
        chosen = improves and index == best
        rows.append({"intervention": choice.name, "removed": choice.removed, "chosen": chosen})
    add_figures(rows, scores, full, weights, prefix="validation/", **bootstrap)
    nearest = choices[best]
    if problem.test is not None:
        one = variants[best]
        tested, others = [rows[0], rows[best + 1]], [nearest]
        for draw in range(random_draws):
            label = f"{one.name}, random {draw}"
            # As many at random: if they do as well, the scores said nothing.
            others.append(make(one._replace(name=label, masks=shuffled(one.masks, draw)), scorer))
            rows.append({"intervention": label, "removed": nearest.removed, "chosen": False})
            tested.append(rows[-1])
        after = [scorer.of_params(o.params(scorer.decompositions), problem.test) for o in others]
        before = scorer.full(problem.test)
        stacked = {name: np.stack([found[name] for found in after]) for name in before}
        weights = scorer.weights(problem.test)
        add_figures(tested, stacked, before, weights, prefix="test/", **bootstrap)
        gone += [one.name for one, bad in zip(others, lost(stacked, weights), strict=True) if bad]
    return conclude(
        scorer.cost,
        mark,
        nearest=nearest,
        improves=improves,
        rows=rows,
        warning=warning,
        lost=gone,
    )


def shuffled(masks: Mapping[Key, np.ndarray], seed: Any) -> dict[Key, np.ndarray]:
    """Masks that keep as many components of each matrix, drawn at random.

    One generator serves the masks in their order.
    """
    generator = np.random.default_rng(seed)
    return {key: generator.permutation(mask) for key, mask in masks.items()}
