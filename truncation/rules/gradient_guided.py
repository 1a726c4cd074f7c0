"""Search guided by one backward pass, after "Compress to Impress" (arXiv 2510.20800).

With W = sum_i m_i sigma_i u_i v_i^T at m = 1, the derivative of the loss with respect to
m_i is sigma_i dL/dsigma_i = sigma_i u_i^T (dL/dW) v_i. Removing a set R of components moves
m_i from 1 to 0 for i in R, so to first order

    loss after - loss before = - sum over R of dL/dm_i.

One backward pass on a few examples ranks every candidate; only the most promising are
evaluated. The estimate is local: exact as sigma_i -> 0, unreliable where a removal is large.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from truncation.intervention import Intervention, Key
from truncation.rules import grid
from truncation.search import evaluator as search

# A backward pass costs about two forward passes on top of its own.
BACKWARD_COST = 3


def component_gradients(
    evaluator: search.Evaluator, keys: Sequence[Key], examples: np.ndarray
) -> dict[Key, np.ndarray]:
    """dL/dm_i [r] of every component of these matrices, L the mean loss over `examples`.

    One backward pass over the examples for all matrices together.
    """
    model, params = evaluator.model, evaluator.params
    components = evaluator.decompositions(list(keys))

    def total_loss(change: Any, params: Any, components: Any, batch: Any, weights: Any) -> Any:
        for key, delta in change.items():
            params = model.matrices[key].perturb(params, components[key], delta)
        return jnp.sum(model.scores(params, batch)["loss"] * weights)

    gradient = evaluator.compiled(("gradient", *keys), jax.grad(total_loss))
    zero = {key: jnp.zeros_like(parts.s) for key, parts in components.items()}
    sums = {key: np.zeros(parts.s.shape, np.float64) for key, parts in components.items()}
    for batch in model.batches(examples):
        parts = gradient(zero, params, components, batch.examples, batch.weights)
        for key, part in parts.items():
            sums[key] += np.asarray(part, np.float64)
    evaluator.spent += BACKWARD_COST * len(examples)
    weight = evaluator.weights(examples).sum(dtype=np.float64)
    return {key: total / weight for key, total in sums.items()}


def predicted_changes(
    evaluator: search.Evaluator,
    interventions: Sequence[Intervention],
    gradients: Mapping[Key, np.ndarray],
) -> np.ndarray:
    """First-order change of the loss [interventions]; negative promises improvement."""
    return np.array(
        [
            -sum(
                float(np.sum((1 - evaluator.mask(cut)) * gradients[cut.layer, cut.matrix]))
                for cut in evaluator.expanded(intervention).cuts
            )
            for intervention in interventions
        ]
    )


def run(
    evaluator: search.Evaluator,
    interventions: Sequence[Intervention],
    validation: np.ndarray,
    test: np.ndarray | None = None,
    *,
    objective: str = "accuracy",
    fraction: float = 0.25,
    num_gradient_examples: int = 100,
    seed: int = 0,
    samples: int = 2000,
) -> search.Outcome:
    """Evaluate the most promising candidates only; the rows are the grid's for those.

    fraction bounds the cost relative to the grid on the same candidates, the backward pass
    (three forward passes on num_gradient_examples validation examples) included. Rows
    gain predicted_loss_change, and rows of candidates never evaluated follow the others
    with that figure alone.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction}: expected a number in (0, 1]")
    started, spent = time.perf_counter(), evaluator.spent
    chosen = np.sort(np.random.default_rng(seed).permutation(validation)[:num_gradient_examples])
    keys = {
        (cut.layer, cut.matrix): None
        for intervention in interventions
        for cut in evaluator.expanded(intervention).cuts
    }
    predicted = predicted_changes(
        evaluator, interventions, component_gradients(evaluator, list(keys), chosen)
    )
    # The grid passes once over the full model and once per candidate.
    budget = fraction * (len(interventions) + 1) * len(validation) - BACKWARD_COST * len(chosen)
    count = max(1, int(budget / len(validation)) - 1)
    order = np.argsort(predicted, kind="stable")
    outcome = grid.run(
        evaluator,
        [interventions[i] for i in order[:count]],
        validation,
        test,
        objective=objective,
        seed=seed,
        samples=samples,
    )
    rows = outcome.rows + grid.rows_of(evaluator, [interventions[i] for i in order[count:]])[1:]
    for row, index in zip(rows[1:], order, strict=True):
        row["predicted_loss_change"] = float(predicted[index])
    return search.Outcome(
        outcome.best,
        rows,
        evaluator.spent - spent,
        time.perf_counter() - started,
        outcome.warning,
    )


def against_grid(
    guided: search.Outcome, full_grid: search.Outcome, *, objective: str = "accuracy"
) -> dict[str, float | str]:
    """What the guided search saved, and what it missed, on the validation examples.

    missed is how much better the grid's best is in the objective (0 or more, whatever its
    sign convention); rank_correlation is Spearman's, of predicted against real changes of
    loss over all candidates of the grid.
    """
    real = {row["intervention"]: row for row in full_grid.rows}
    column = f"validation/{objective}"
    best = [
        next(float(row[column]) for row in outcome.rows if row.get("chosen"))
        for outcome in (guided, full_grid)
    ]
    predicted = [row for row in guided.rows if "predicted_loss_change" in row]
    correlation = stats.spearmanr(
        [row["predicted_loss_change"] for row in predicted],
        [real[row["intervention"]]["validation/loss_change"] for row in predicted],
    ).statistic
    return {
        "evaluations_saved": 1 - guided.evaluations / full_grid.evaluations,
        "missed": float(search.gain(objective, best[1], best[0])),
        "rank_correlation": float(correlation),
        "best_of_grid": str(full_grid.best),
        "best_guided": str(guided.best),
    }
