"""Training the Transformer on noisy in-context recall: what the loss is."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from truncated_weights.toy import network, recall, transformer
from truncated_weights.toy.layer import Weights
from truncated_weights.toy.recall import Task
from truncated_weights.toy.transformer_config import TransformerConfig
from truncated_weights.training import slices
from truncated_weights.training.trainer import Shard

# Numbers in the largest temporary of a slice of a training batch, on a processor: 16 MB.
SLICE_NUMBERS = 2**22


@dataclasses.dataclass(frozen=True, eq=False)
class RecallProblem:
    """A training problem (see training/trainer.py).

    Mean cross-entropy at scored positions, or of every next token where loss_on is all.
    last_residual_steps: steps after which the residual connection around the last layer's
    attention is off, for a last layer without feed-forward; 0 means never. Only the loss depends
    on it: the model is measured with the connection, and without it as variant no_last_residual.
    step: of training, which `at` sets.
    """

    task: Task
    config: TransformerConfig
    batch_size: int
    loss_on: Literal["triggers", "all"] = "triggers"
    initial_scale: float | Float[Array, ""] = 1.0
    last_residual_steps: int = 0
    step: int | Int[Array, ""] = 0

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

    def at(self, step: Int[Array, ""]) -> "RecallProblem":
        """The same problem at a step of training, traced."""
        return dataclasses.replace(self, step=step)

    def loss(
        self, params: Weights, frozen: Weights, data: PRNGKeyArray, shard: Shard
    ) -> Float[Array, ""]:
        """Cross-entropy in nats on a fresh noisy batch."""
        batch = shard(recall.sample(self.task, data, batch_size=self.batch_size))
        early = jnp.asarray(self.step) < self.last_residual_steps
        switches = bool(self.last_residual_steps)
        function = functools.partial(_summed, self.config, self.loss_on == "all", switches)
        pieces = {name: getattr(batch, name) for name in _READ}
        counted = batch.tokens.size if self.loss_on == "all" else jnp.sum(batch.weights)
        summed = slices.summed(function, params, (frozen, early), pieces, self._slices())
        return summed / jnp.maximum(counted, 1)

    def _slices(self) -> int:
        """In how many slices the batch is read, the fewest that are small enough."""
        config = self.config
        each = config.length * max(config.hidden_size, config.length)
        return slices.fewest(self.batch_size, each, SLICE_NUMBERS)


# What the loss reads of a batch.
_READ = ("tokens", "following", "positions", "weights", "labels")


def _summed(
    config: TransformerConfig,
    everywhere: bool,
    switches: bool,
    params: Weights,
    rest: tuple[Weights, Array],
    batch: Mapping[str, Array],
) -> Float[Array, ""]:
    """Cross-entropies of a batch, added up; rest: frozen weights, and whether it is still early."""
    frozen, early = rest
    weights = transformer.combine(params, frozen)
    positions = None if everywhere else batch["positions"]

    def run(config: TransformerConfig) -> Array:
        return network.run(config, weights, batch["tokens"], positions).logits

    if switches:
        without = dataclasses.replace(config, last_residual=False)
        # A branch, so that only the forward of this step is computed.
        logits = jax.lax.cond(early, lambda: run(config), lambda: run(without))
    else:
        logits = run(config)
    if everywhere:
        return -jnp.sum(recall.log_likelihood(logits, batch["following"]))
    return -jnp.sum(recall.log_likelihood(logits, batch["labels"]) * batch["weights"])
