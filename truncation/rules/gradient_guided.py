"""Search guided by one backward pass, after "Compress to Impress" (arXiv 2510.20800).

The loss L(m) as a function of the masks, W(m) = sum_i m_i sigma_i u_i v_i^T for every matrix:

    dL/dm_i at m = 1  =  sigma_i u_i^T (dL/dW) v_i  =  sum over inputs x of sigma_i (x u_i) (g v_i),

g = dL/dh of the outputs h = x W. Removing a set R of components moves m_i from 1 to 0 there, and

    L(after) - L(before)  =  - sum over R of dL/dm_i  +  remainder,     (the first-order prediction)
    remainder  =  1/2 sum over i, j in R of d^2L/dm_i dm_j  +  ...

The prediction is in nats, additive over components and matrices, and linear in what is removed: its
error is of second order in ||sum over R of sigma_i u_i v_i^T||, small for small singular values,
unreliable where a removal is large, and blind to components whose effects cancel at first order.

So one backward pass on a few examples, the cost of three forwards, ranks all candidates, however
many; only the most promising are evaluated.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from truncated_weights.truncation.finite import or_none
from truncated_weights.truncation.notation import Intervention, Key
from truncated_weights.truncation.rules import grid
from truncated_weights.truncation.search import comparison, network
from truncated_weights.truncation.search.cost import BACKWARD
from truncated_weights.truncation.search.effects import require_finite
from truncated_weights.truncation.search.problem import Outcome, SearchProblem
from truncated_weights.truncation.search.scorer import Scorer


def run(
    problem: SearchProblem,
    *,
    objective: str = "accuracy",
    seed: int = 0,
    samples: int = 2000,
    fraction: float = 0.25,
    num_gradient_examples: int = 100,
) -> Outcome:
    """Evaluate the most promising candidates only; the rows are the grid's for those.

    fraction bounds the cost relative to the grid on the same candidates, the backward pass
    (three forward passes on num_gradient_examples validation examples) included. Rows
    gain predicted_loss_change, and rows of candidates never evaluated follow the others
    with that figure alone.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction}: expected a number in (0, 1]")
    scorer, candidates, validation = problem.scorer, problem.candidates, problem.validation
    mark = scorer.cost.mark()
    chosen = np.sort(np.random.default_rng(seed).permutation(validation)[:num_gradient_examples])
    predicted = predicted_changes(
        scorer, candidates, component_gradients(scorer, problem.keys, chosen)
    )
    # The grid passes once over the full model and once per candidate.
    budget = fraction * (len(candidates) + 1) * len(validation) - BACKWARD * len(chosen)
    count = max(1, int(budget / len(validation)) - 1)
    order = np.argsort(predicted, kind="stable")
    promising = tuple(candidates[i] for i in order[:count])
    outcome = grid.run(
        dataclasses.replace(problem, candidates=promising),
        objective=objective,
        seed=seed,
        samples=samples,
    )
    rows = outcome.rows + grid.rows_of(scorer, [candidates[i] for i in order[count:]])[1:]
    for row, index in zip(rows[1:], order, strict=True):
        row["predicted_loss_change"] = or_none(predicted[index])
    evaluations, seconds = scorer.cost.since(mark)
    return dataclasses.replace(outcome, rows=rows, evaluations=evaluations, seconds=seconds)


def component_gradients(
    scorer: Scorer, keys: Sequence[Key], examples: np.ndarray
) -> dict[Key, np.ndarray]:
    """dL/dm_i [r] of every component of these matrices, L the mean loss over `examples`.

    One backward pass over the examples for all matrices together. Raises NotFiniteError.
    """
    components = scorer.decompositions.of(keys)
    matrices = scorer.network.matrices

    def total_loss(change: Mapping[Key, Any], data: Any, weights: Any) -> Any:
        params = scorer.params
        for key, delta in change.items():
            params = matrices[key].perturb(params, components[key], delta)
        return jnp.sum(network.scores(scorer.network, params, data)["loss"] * weights)

    gradient = jax.grad(total_loss)
    zero = {key: jnp.zeros_like(parts.s) for key, parts in components.items()}
    sums = {key: np.zeros(parts.s.shape, np.float64) for key, parts in components.items()}
    for batch in scorer.examples.batches(examples):
        for key, part in gradient(zero, batch.data, batch.weights).items():
            sums[key] += np.asarray(part, np.float64)
    scorer.cost.backward(len(examples))
    require_finite(scorer, "the gradient of the loss", sums.values(), examples)
    weight = scorer.weights(examples).sum(dtype=np.float64)
    return {key: total / weight for key, total in sums.items()}


def predicted_changes(
    scorer: Scorer, interventions: Sequence[Intervention], gradients: Mapping[Key, np.ndarray]
) -> np.ndarray:
    """First-order change of the loss [interventions]; negative promises improvement.

    Raises ValueError for a cut by entries, which removes no component, or by components that
    are measured by data, of which no gradient was taken.
    """
    for intervention in interventions:
        if measured := [cut for cut in intervention.cuts if cut.metric]:
            raise ValueError(f"{measured[0]}: guidance ranks plain components; use another rule")
    decompositions = scorer.decompositions
    return np.array(
        [
            -sum(
                float(np.sum((1 - decompositions.mask(cut)) * gradients[key]))
                for key, cut in decompositions.resolve(intervention).items()
            )
            for intervention in interventions
        ]
    )


def against_grid(
    guided: Outcome, full_grid: Outcome, *, objective: str = "accuracy"
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
    predicted = [
        row
        for row in guided.rows
        if row.get("predicted_loss_change") is not None
        and real[row["intervention"]]["validation/loss_change"] is not None
    ]
    correlation = stats.spearmanr(
        [row["predicted_loss_change"] for row in predicted],
        [real[row["intervention"]]["validation/loss_change"] for row in predicted],
    ).statistic
    return {
        "evaluations_saved": 1 - guided.evaluations / full_grid.evaluations,
        "missed": float(comparison.gain(objective, best[1], best[0])),
        "rank_correlation": float(correlation),
        "best_of_grid": str(full_grid.best),
        "best_guided": str(guided.best),
    }
