"""Grid search over (layer, matrix, rho), the selection rule of LASER (arXiv 2312.13558).

Every candidate is a single cut. The choice is made on validation examples alone; the
test examples then see the chosen candidate once (or all, where the whole table is wanted).
"""

import time
from collections.abc import Sequence

import numpy as np

from truncation.intervention import Intervention
from truncation.search import comparison
from truncation.search import evaluator as search


def run(
    evaluator: search.Evaluator,
    interventions: Sequence[Intervention],
    validation: np.ndarray,
    test: np.ndarray | None = None,
    *,
    objective: str = "accuracy",
    test_all: bool = False,
    seed: int = 0,
    samples: int = 2000,
) -> search.Outcome:
    """Evaluate all on `validation`, choose the best, and measure it on `test`.

    validation and test are indices of the model's examples (statistics.split). Rows hold
    validation/METRIC and test/METRIC with changes to the full model and paired bootstrap
    intervals; the first row is the full model, `chosen` marks the best. Only the
    chosen row has test figures unless test_all.
    """
    started, spent = time.perf_counter(), evaluator.spent
    full = evaluator.full(validation)
    scores = evaluator.evaluate(interventions, validation)
    weights = evaluator.weights(validation)
    rows = rows_of(evaluator, interventions)
    bootstrap = {"seed": seed, "samples": samples}
    with_full = {name: np.concatenate([full[name][None], v]) for name, v in scores.items()}
    for row, figures in zip(
        rows,
        comparison.summarise(with_full, full, weights, prefix="validation/", **bootstrap),
        strict=True,
    ):
        row.update(figures)

    winner = comparison.best_of(interventions, scores, full, weights, objective)
    warning: str | None = f"no candidate improves {objective} on validation"
    if winner is not None:
        warning = comparison.within_noise(scores, full, weights, winner, objective, **bootstrap)
    for index, row in enumerate(rows):
        row["chosen"] = index == (0 if winner is None else winner + 1)

    if test is not None:
        wanted = range(len(interventions)) if test_all else [i for i in [winner] if i is not None]
        add_test_figures(evaluator, rows, interventions, wanted, test, **bootstrap)
    best = search.NOTHING if winner is None else interventions[winner]
    return search.Outcome(
        best, rows, evaluator.spent - spent, time.perf_counter() - started, warning
    )


def rows_of(
    evaluator: search.Evaluator, interventions: Sequence[Intervention]
) -> list[dict[str, object]]:
    """What each row is about: first the full model, then each intervention."""
    rows: list[dict[str, object]] = [{"intervention": "full"}]
    for intervention in interventions:
        cut = intervention.cuts[0]
        masks = {str(c): evaluator.mask(c) for c in evaluator.expanded(intervention).cuts}
        rows.append(
            {
                "intervention": str(intervention),
                "layer": cut.layer,
                "matrix": cut.matrix,
                "rho": str(cut).partition("@")[2],
                "kept": int(sum(mask.sum() for mask in masks.values())),
                "rank": int(sum(mask.size for mask in masks.values())),
            }
        )
    return rows


def add_test_figures(
    evaluator: search.Evaluator,
    rows: list[dict[str, object]],
    interventions: Sequence[Intervention],
    wanted: Sequence[int],
    test: np.ndarray,
    *,
    seed: int,
    samples: int,
) -> None:
    """Fill test/METRIC into the full model's row (the first) and those of `wanted`."""
    full = evaluator.full(test)
    scores = {name: values[None] for name, values in full.items()}
    if wanted:
        chosen = evaluator.evaluate([interventions[i] for i in wanted], test)
        scores = {name: np.concatenate([v, chosen[name]]) for name, v in scores.items()}
    figures = comparison.summarise(
        scores, full, evaluator.weights(test), prefix="test/", seed=seed, samples=samples
    )
    for index, values in zip([0, *(i + 1 for i in wanted)], figures, strict=True):
        rows[index].update(values)
