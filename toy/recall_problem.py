"""Training the Transformer on noisy in-context recall: what the loss is."""

import dataclasses
from collections.abc import Mapping
from typing import Any

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
    """A training problem (see training/trainer.py): mean cross-entropy at scored positions."""

    task: Task
    config: TransformerConfig
    batch_size: int

    def init(self, key: PRNGKeyArray) -> tuple[Weights, Weights]:
        """Trained and frozen weights at the start."""
        return transformer.init(self.config, key)

    def given(self, values: Mapping[str, Array]) -> "RecallProblem":
        """The same problem with another law: any of alpha, initial, transition, traced."""
        names = {"alpha", "initial", "transition"} & set(values)
        known: dict[str, Any] = {name: values[name] for name in names}
        return dataclasses.replace(self, task=dataclasses.replace(self.task, **known))

    def loss(
        self, params: Weights, frozen: Weights, data: PRNGKeyArray, shard: Shard
    ) -> Float[Array, ""]:
        """Cross-entropy in nats on a fresh noisy batch."""
        batch = shard(recall.sample(self.task, data, batch_size=self.batch_size))
        weights = transformer.combine(params, frozen)
        trace = network.run(self.config, weights, batch.tokens, batch.positions)
        log_p = jax.nn.log_softmax(trace.logits, axis=-1)
        labels = batch.labels[:, :, None]
        return -recall.mean(jnp.take_along_axis(log_p, labels, axis=-1)[:, :, 0], batch)
