"""How far the first step's gradient strays from its mean, over batches.

    first_step/deviation   standard deviation over mean of g . gbar / |gbar|^2, g the gradient of
                           one batch, gbar the mean of other batches'
    first_step/labels      scored positions of a batch, on average

The prediction is theory.lazy.label_deviation.
"""

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

        def gradient(key: PRNGKeyArray) -> Weights:
            return jax.grad(problem.loss)(params, frozen, key, lambda batch: batch)

        def add(total: Weights, key: PRNGKeyArray) -> tuple[Weights, None]:
            return jax.tree.map(jnp.add, total, gradient(key)), None

        # Half of the batches say where the mean points, the others how far they stray from it.
        total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), keys[:draws])

        def along(key: PRNGKeyArray) -> Array:
            products = jax.tree.map(lambda g, m: jnp.sum(g * m), gradient(key), total)
            return sum(jax.tree.leaves(products), jnp.zeros(()))

        def labels(key: PRNGKeyArray) -> Array:
            batch = recall.sample(problem.task, key, batch_size=problem.batch_size)
            return jnp.sum(batch.weights)

        strays = jax.lax.map(along, keys[draws:])
        return {
            "first_step/deviation": jnp.std(strays, ddof=1) / jnp.mean(strays),
            "first_step/labels": jnp.mean(jax.lax.map(labels, keys[draws:])),
        }

    return one
