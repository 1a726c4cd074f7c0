"""How far the first step's gradient deviates from its mean, over batches.

    deviation   standard deviation over mean of g . gbar / |gbar|^2, g the gradient of one batch,
                gbar the mean of other batches'
    labels      scored positions of a batch, on average

The prediction is theory.lazy.label_deviation.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from truncated_weights.toy import recall
from truncated_weights.toy.layer import Weights
from truncated_weights.toy.recall_problem import RecallProblem
from truncated_weights.training.records import Name, name
from truncated_weights.training.trainer import Measure


def measure(draws: int) -> Measure:
    """The Measure of both from 2 draws gradients: half give gbar, the other half g."""

    def one(
        problem: RecallProblem, params: Weights, frozen: Weights, key: PRNGKeyArray
    ) -> dict[Name, Array]:
        keys = jax.random.split(key, 2 * draws)

        def pass_over(total: Weights, drawn: tuple[Array, PRNGKeyArray]) -> tuple[Weights, Any]:
            index, key = drawn
            gradient = jax.grad(problem.loss)(params, frozen, key, lambda batch: batch)
            # Half of the batches give the mean, the others their deviations from it. Both in one
            # loop: the gradient takes longer to compile than to run.
            first = index < draws
            total = jax.tree.map(lambda t, g: jnp.where(first, t + g, t), total, gradient)
            products = jax.tree.map(lambda g, m: jnp.sum(g * m), gradient, total)
            batch = recall.sample(problem.task, key, batch_size=problem.batch_size)
            along = sum(jax.tree.leaves(products), jnp.zeros(()))
            return total, (along, jnp.sum(batch.weights))

        nothing = jax.tree.map(jnp.zeros_like, params)
        _, (along, labels) = jax.lax.scan(pass_over, nothing, (jnp.arange(2 * draws), keys))
        measured = along[draws:]
        return {
            name("deviation"): jnp.std(measured, ddof=1) / jnp.mean(measured),
            name("labels"): jnp.mean(labels[draws:]),
        }

    return one
