"""Data-free ranks: keep what rises above the noise edge of a random matrix.

A matrix W = signal + noise with iid noise of standard deviation sigma has, of the noise
alone, no singular value beyond sigma (sqrt d_in + sqrt d_out) (Marchenko and Pastur). Where
sigma is known (an initialisation that training hardly moved), that edge is the threshold;
where it is not, Gavish and Donoho give the threshold that minimises the squared error of
the kept part. No example is looked at.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from truncated_weights.truncation import spectrum
from truncated_weights.truncation.finite import lost
from truncated_weights.truncation.notation import Intervention, Key, keep_top
from truncated_weights.truncation.rules import grid
from truncated_weights.truncation.search.problem import (
    Outcome,
    SearchProblem,
    add_figures,
    conclude,
    intervene,
)
from truncated_weights.truncation.search.scorer import Scorer


def run(
    problem: SearchProblem,
    *,
    objective: str = "accuracy",
    seed: Any = 0,
    samples: int = 2000,
    sigma: Mapping[Key, float] | None = None,
    single: bool = False,
) -> Outcome:
    """Cut every matrix of the candidates to its edge, all of them together.

    sigma: the noise level of each matrix, where it is known. single: cut only one matrix, the
    one that is best on validation (one pass per matrix); without it no validation example is
    looked at, and the choice is made whether or not it helps, unless it leaves the finite numbers
    on the test examples. Rows are the grid's.
    """
    scorer = problem.scorer
    mark = scorer.cost.mark()
    cuts = tuple(interventions(scorer, problem.keys, sigma))
    if single:
        alone = dataclasses.replace(problem, candidates=cuts)
        return grid.run(alone, objective=objective, seed=seed, samples=samples)
    together = Intervention(tuple(cut for one in cuts for cut in one.cuts))
    rows = grid.rows_of(scorer, [together])
    rows[0]["chosen"], rows[1]["chosen"] = False, True
    gone: list[str] = []
    if problem.test is not None:
        after, weights = scorer.evaluate([together], problem.test), scorer.weights(problem.test)
        gone = [str(together)] * bool(lost(after, weights)[0])
        add_figures(
            rows,
            after,
            scorer.full(problem.test),
            weights,
            prefix="test/",
            seed=seed,
            samples=samples,
        )
    choice = intervene(scorer.decompositions, together)
    return conclude(
        scorer.cost, mark, nearest=choice, improves=True, rows=rows, warning=None, lost=gone
    )


def num_kept(
    scorer: Scorer, keys: Sequence[Key], sigma: Mapping[Key, float] | None = None
) -> dict[Key, int]:
    """How many components of each matrix exceed the edge (sigma known) or the threshold."""
    counts = {}
    for key, parts in scorer.decompositions.of(keys).items():
        shape = (parts.u.shape[0], parts.vt.shape[1])
        if sigma is not None:
            threshold = spectrum.marchenko_pastur_edge(shape, sigma[key])
        else:
            threshold = float(spectrum.gavish_donoho_threshold(parts.s, shape))
        counts[key] = int(np.sum(np.asarray(parts.s) > threshold))
    return counts


def interventions(
    scorer: Scorer, keys: Sequence[Key], sigma: Mapping[Key, float] | None = None
) -> list[Intervention]:
    """One intervention per matrix that keeps what `num_kept` counts."""
    return [
        Intervention((keep_top(*key, count, len(scorer.decompositions[key].s)),))
        for key, count in num_kept(scorer, keys, sigma).items()
    ]
