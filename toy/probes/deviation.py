"""How far the first step's gradient strays from its mean, over batches.

    first_step/deviation   standard deviation over mean of g . gbar / |gbar|^2, g the gradient of
                           one batch, gbar the mean of other batches'
    first_step/labels      scored positions of a batch, on average

The prediction is theory.lazy.label_deviation.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from toy import recall
from toy.layer import Weights
from toy.recall_problem import RecallProblem
from training.trainer import Measure


def measure(draws: int) -> Measure:
    """A measure of the two columns from 2 x draws gradients."""

    def one(
        problem: RecallProblem, params: Weights, frozen: Weights, key: PRNGKeyArray
    ) -> dict[str, Array]:
        keys = jax.random.split(key, 2 * draws)

        def pass_over(total: Weights, drawn: tuple[Array, PRNGKeyArray]) -> tuple[Weights, Any]:
            index, key = drawn
            gradient = jax.grad(problem.loss)(params, frozen, key, lambda batch: batch)
            # Half of the batches say where the mean points, the others how far they stray from
            # it. Both in one loop: the gradient takes longer to compile than to run.
            first = index < draws
            total = jax.tree.map(lambda t, g: jnp.where(first, t + g, t), total, gradient)
            products = jax.tree.map(lambda g, m: jnp.sum(g * m), gradient, total)
            batch = recall.sample(problem.task, key, batch_size=problem.batch_size)
            along = sum(jax.tree.leaves(products), jnp.zeros(()))
            return total, (along, jnp.sum(batch.weights))

        nothing = jax.tree.map(jnp.zeros_like, params)
        _, (along, labels) = jax.lax.scan(pass_over, nothing, (jnp.arange(2 * draws), keys))
        strays = along[draws:]
        return {
            "first_step/deviation": jnp.std(strays, ddof=1) / jnp.mean(strays),
            "first_step/labels": jnp.mean(labels[draws:]),
        }

    return one
