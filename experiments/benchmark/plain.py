"""The plain formulation of the Transformer and its loss, as the public code computes them.

Every position, every matrix by itself, nothing folded or spared: what ours is measured against.
It knows the published architecture alone: one head, two feed-forwards that are MLPs.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from toy import recall, transformer
from toy.layer import Weights
from toy.recall_problem import RecallProblem


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
