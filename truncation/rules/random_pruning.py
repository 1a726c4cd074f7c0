"""Random pruning: a given number of components of each matrix removed, drawn at random.

What eigenpruning must beat: if removing the same number at random does as well, its scores said
nothing.
"""

from typing import Any

import numpy as np

from truncated_weights.truncation.finite import lost
from truncated_weights.truncation.kept import all_but_first
from truncated_weights.truncation.notation import Key
from truncated_weights.truncation.search.problem import (
    Choice,
    Outcome,
    SearchProblem,
    add_figures,
    conclude,
)
from truncated_weights.truncation.search.prunings import shuffled


def run(
    problem: SearchProblem,
    *,
    objective: str = "accuracy",
    seed: Any = 0,
    samples: int = 2000,
    like: Choice | None = None,
    fraction: float = 0.1,
) -> Outcome:
    """One draw; no validation example is looked at, so it is chosen whether or not it helps.

    Only where it leaves the finite numbers on the test examples nothing is chosen.

    like: another rule's choice of components, whose size is copied; without it the share
    `fraction` of every matrix of the candidates goes.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction}: expected a number in (0, 1]")
    scorer = problem.scorer
    mark = scorer.cost.mark()
    name = f"{like.name}, at random" if like is not None else f"random {fraction:g}"
    masks = like.masks if like is not None else _evenly(problem, fraction)
    choice = Choice(name, None, shuffled(masks, seed))
    rows: list[dict[str, Any]] = [
        {"intervention": "full", "removed": 0, "chosen": False},
        {"intervention": name, "removed": choice.removed, "chosen": True},
    ]
    gone: list[str] = []
    if problem.test is not None:
        after = scorer.of_params(choice.params(scorer.decompositions), problem.test)
        gone = [name] * bool(lost(after, scorer.weights(problem.test)))
        add_figures(
            rows,
            {metric: values[None] for metric, values in after.items()},
            scorer.full(problem.test),
            scorer.weights(problem.test),
            prefix="test/",
            seed=seed,
            samples=samples,
        )
    return conclude(
        scorer.cost, mark, nearest=choice, improves=True, rows=rows, warning=None, lost=gone
    )


def _evenly(problem: SearchProblem, fraction: float) -> dict[Key, np.ndarray]:
    components = problem.scorer.decompositions.of(problem.keys)
    return {k: all_but_first(np.arange(len(c.s)), fraction) for k, c in components.items()}
