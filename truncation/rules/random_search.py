"""Random search: the best on validation of a few candidates drawn at random.

What any cleverer rule must beat at the same price.
"""

import dataclasses
from typing import Any

import numpy as np

from truncated_weights.truncation.rules import grid
from truncated_weights.truncation.search.problem import Outcome, SearchProblem


def run(
    problem: SearchProblem,
    *,
    objective: str = "accuracy",
    seed: Any = 0,
    samples: int = 2000,
    count: int = 0,
    known: Outcome | None = None,
) -> Outcome:
    """The grid on `count` candidates drawn without replacement; 0 means a quarter of them.

    known: the grid's outcome on the same problem. Its scores are then used again and nothing is
    run; evaluations and seconds are what running would have cost.
    """
    total = len(problem.candidates)
    count = count or max(1, total // 4)
    if not 0 < count <= total:
        raise ValueError(f"count {count}: there are {total} candidates")
    members = np.sort(np.random.default_rng(seed).choice(total, count, replace=False)).tolist()
    if known is not None:
        return grid.among(problem, known, members, objective=objective)
    few = dataclasses.replace(problem, candidates=tuple(problem.candidates[i] for i in members))
    return grid.run(few, objective=objective, seed=seed, samples=samples)
