"""Training the Transformer on noisy in-context recall: what the loss is."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from toy import network, recall, transformer
from toy.layer import Weights
from toy.recall import Task
from toy.transformer_config import TransformerConfig
from training.trainer import Shard


@dataclasses.dataclass(frozen=True, eq=False)
class RecallProblem:
    """A training problem (see training/trainer.py).

    Mean cross-entropy at scored positions, or of every next token where loss_on is all.
    """

    task: Task
    config: TransformerConfig
    batch_size: int
    loss_on: Literal["triggers", "all"] = "triggers"
    initial_scale: float | Float[Array, ""] = 1.0

    def init(self, key: PRNGKeyArray) -> tuple[Weights, Weights]:
        """Trained and frozen weights at the start, learned matrices scaled by initial_scale."""
        params, frozen = transformer.init(self.config, key)
        layers = jax.tree.map(lambda w: self.initial_scale * w, params.get("layers", []))
        return params | ({"layers": layers} if "layers" in params else {}), frozen

    def given(self, values: Mapping[str, Array]) -> "RecallProblem":
        """The same problem with other numbers, traced.

        Any of alpha, initial, transition (of the law) and initial_scale.
        """
        names = {"alpha", "initial", "transition"} & set(values)
        known: dict[str, Any] = {name: values[name] for name in names}
        scale = values.get("initial_scale", self.initial_scale)
        task = dataclasses.replace(self.task, **known)
        return dataclasses.replace(self, task=task, initial_scale=scale)

    def loss(
        self, params: Weights, frozen: Weights, data: PRNGKeyArray, shard: Shard
    ) -> Float[Array, ""]:
        """Cross-entropy in nats on a fresh noisy batch."""
        batch = shard(recall.sample(self.task, data, batch_size=self.batch_size))
        weights = transformer.combine(params, frozen)
        if self.loss_on == "all":
            logits = network.run(self.config, weights, batch.tokens).logits
            return -jnp.mean(recall.log_likelihood(logits, batch.following))
        trace = network.run(self.config, weights, batch.tokens, batch.positions)
        return -recall.mean(recall.log_likelihood(trace.logits, batch.labels), batch)
