"""Grid search over (layer, matrix, rho), the selection rule of LASER (arXiv 2312.13558).

The choice is made on validation examples alone; the test examples then see the chosen
candidate once (or all, where the whole table is wanted).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from truncated_weights.truncation.finite import lost
from truncated_weights.truncation.notation import Intervention
from truncated_weights.truncation.search import comparison
from truncated_weights.truncation.search.problem import (
    NO_CHOICE,
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
    test_all: bool = False,
) -> Outcome:
    """Evaluate all candidates on validation, choose the best, and measure it on test.

    Rows hold validation/METRIC and test/METRIC with changes to the full model and paired
    bootstrap intervals; the first row is the full model, `chosen` marks the best. Only the
    chosen row has test figures unless test_all.
    """
    scorer, candidates, validation = problem.scorer, problem.candidates, problem.validation
    mark, bootstrap = scorer.cost.mark(), {"seed": seed, "samples": samples}
    full = scorer.full(validation)
    scores = scorer.evaluate(candidates, validation)
    weights = scorer.weights(validation)
    rows = rows_of(scorer, candidates)
    add_figures(rows, scores, full, weights, prefix="validation/", **bootstrap)

    gone = [str(candidates[i]) for i in np.flatnonzero(lost(scores, weights))]
    winner, improves = comparison.ranking(scores, full, weights, objective)
    warning: str | None = f"no candidate improves {objective} on validation"
    if improves:
        warning = comparison.within_noise(scores, full, weights, winner, objective, **bootstrap)
    for index, row in enumerate(rows):
        row["chosen"] = index == (winner + 1 if improves else 0)

    if problem.test is not None:
        wanted = list(range(len(candidates))) if test_all else [winner] * improves
        tested = [rows[0], *(rows[i + 1] for i in wanted)]
        before = scorer.full(problem.test)
        after = {name: v[None][:0] for name, v in before.items()}
        if wanted:
            after = scorer.evaluate([candidates[i] for i in wanted], problem.test)
        weights = scorer.weights(problem.test)
        add_figures(tested, after, before, weights, prefix="test/", **bootstrap)
        gone += [str(candidates[wanted[i]]) for i in np.flatnonzero(lost(after, weights))]
    nearest = intervene(scorer.decompositions, candidates[winner])
    return conclude(
        scorer.cost,
        mark,
        nearest=nearest,
        improves=improves,
        rows=rows,
        warning=warning,
        lost=gone,
    )


def rows_of(scorer: Scorer, interventions: Sequence[Intervention]) -> list[dict[str, Any]]:
    """What each row is about: first the full model, then each intervention.

    kept and rank count components, or entries where a cut is by magnitude.
    """
    rows: list[dict[str, Any]] = [{"intervention": "full"}]
    for intervention in interventions:
        cut = intervention.cuts[0]
        kept, rank = scorer.decompositions.count(intervention)
        row = {"layer": cut.layer, "matrix": cut.matrix, "rho": cut.rho}
        rows.append({"intervention": str(intervention), **row, "kept": kept, "rank": rank})
    return rows


def among(
    problem: SearchProblem, whole: Outcome, members: Sequence[int], *, objective: str
) -> Outcome:
    """What the grid would have chosen from some of its candidates, and what that costs.

    whole is the grid's outcome on `problem`, members are indices of candidates. Scores of
    candidates do not depend on each other, so nothing is run again; evaluations count the full
    model and the members.
    """
    column = f"validation/{objective}"
    rows = [whole.rows[0], *(whole.rows[i + 1] for i in members)]
    share = len(rows) / len(whole.rows)
    found = dataclasses.replace(
        whole,
        choice=NO_CHOICE,
        nearest=NO_CHOICE,
        rows=rows,
        evaluations=len(rows) * len(problem.validation),
        seconds=share * whole.seconds,
        warning=None,
        lost=tuple(row["intervention"] for row in rows if row["intervention"] in whole.lost),
    )
    known = [i for i in members if whole.rows[i + 1]["intervention"] not in whole.lost]
    if not known:
        return found
    best = max(
        known,
        key=lambda i: (
            comparison.gain(objective, whole.rows[i + 1][column], 0.0),
            -whole.rows[i + 1]["validation/loss"],
        ),
    )
    change = comparison.gain(objective, whole.rows[best + 1][column], whole.rows[0][column])
    choice = intervene(problem.scorer.decompositions, problem.candidates[best])
    return dataclasses.replace(found, choice=choice if change > 0 else NO_CHOICE, nearest=choice)
