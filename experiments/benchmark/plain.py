"""The plain formulation of the Transformer, its loss and its records, as the public code has them.

Every position, every matrix by itself, nothing folded or spared: what ours is measured against.
It knows the published architecture alone: one head, two feed-forwards that are MLPs.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from truncated_weights.toy import recall, transformer
from truncated_weights.toy.layer import Weights
from truncated_weights.toy.probes import outputs
from truncated_weights.toy.probes.records import evaluation_sets
from truncated_weights.toy.recall_problem import RecallProblem
from truncated_weights.training.records import Name, name
from truncated_weights.training.trainer import Measure
from truncated_weights.truncation import curves
from truncated_weights.truncation.notation import Intervention


def logits(weights: Weights, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length v"]:
    """Logits at every position."""
    length, d_model = tokens.shape[1], weights["embed"].shape[1]
    x = weights["embed"][tokens] + weights["position"][None, :length]
    causal = jnp.tril(jnp.ones((length, length), bool))[None]
    for index in sorted(weights["layers"]):
        layer = weights["layers"][index]
        keys, values = x @ layer["k_proj"], x @ layer["v_proj"]
        scores = jnp.einsum("bqd,bsd->bqs", x, keys) / math.sqrt(d_model)
        pattern = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf), axis=-1)
        x = x + jnp.einsum("bqs,bsd->bqd", pattern, values) @ layer["out_proj"]
        x = x + jax.nn.relu(x @ layer["fc_in"]) @ layer["fc_out"]
    return x @ weights["unembed"]


class PlainProblem(RecallProblem):
    """The same loss by the plain forward."""

    def loss(self, params: Any, frozen: Any, key: Any, shard: Any) -> Array:
        """Cross-entropy in nats on a fresh noisy batch."""
        batch = recall.sample(self.task, key, batch_size=self.batch_size)
        everywhere = logits(transformer.combine(params, frozen), batch.tokens)
        log_p = jax.nn.log_softmax(everywhere, axis=-1)
        here = jnp.take_along_axis(log_p, batch.positions[:, :, None], axis=1)
        return -recall.mean(
            jnp.take_along_axis(here, batch.labels[:, :, None], axis=-1)[:, :, 0], batch
        )


def measure_models(cuts: Sequence[Intervention], *, batch_size: int) -> Measure:
    """Means on clean and noisy sequences: one whole forward for each model, nothing shared.

    Named by set and model, as those of toy.probes.records.measure_models.
    """

    def measure(
        problem: RecallProblem, params: Weights, frozen: Weights, key: Array
    ) -> Mapping[Name, Array]:
        weights = transformer.combine(params, frozen)
        sets = evaluation_sets(problem.task, key, batch_size=batch_size)

        def evaluate(edited: Weights) -> dict[str, dict[str, Array]]:
            found = {}
            # Without the barrier the compiler moves the layers below a cut out of the loop over
            # cuts: a sharing that belongs to ours.
            edited, again = jax.lax.optimization_barrier((edited, sets))
            for part, batch in again.items():
                everywhere = logits(edited, batch.tokens)
                scored = jnp.take_along_axis(everywhere, batch.positions[:, :, None], axis=1)
                found[part] = outputs.means(problem.task, scored, batch)
            return found

        where = transformer.matrices(problem.config)
        cut = curves.evaluate_all(evaluate, weights, cuts, where, at_once=1)
        found = {
            name(metric, set=part, model="full"): value
            for part, metrics in evaluate(weights).items()
            for metric, value in metrics.items()
        }
        for part, metrics in cut.items():
            for metric, values in metrics.items():
                found |= {name(metric, set=part, model=c): values[i] for i, c in enumerate(cuts)}
        return found

    return measure
