"""The Transformer as a truncation.Model: it stops in front of any matrix and goes on.

The forward is toy/network.py; its matrices may also be stored as factors or have a bias. In the
last layer everything but the keys is computed at scored positions only.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from toy import network, transformer
from toy.layer import Weights
from toy.probes.outputs import predictions
from toy.recall import Batch, Task
from toy.transformer_config import TransformerConfig
from truncation.address import Key
from truncation.search.model import Entry, Examples, Model, Scores


def model(
    task: Task, config: TransformerConfig, batch: Batch, *, batch_size: int | None = None
) -> Model:
    """The architecture of `config` on these sequences; one answer per scored position.

    Its params are the combined weights (transformer.combine); scores are those of
    outputs.predictions: p_correct, p_noise, accuracy, loss.
    """

    def scores(logits: Array, examples: Examples) -> Scores:
        return predictions(task, logits, Batch(**examples, dropped=jnp.int32(0)))

    def logits(weights: Weights, examples: Examples) -> Array:
        return network.run(config, weights, examples["tokens"], examples["positions"]).logits

    def enter(weights: Weights, key: Key, examples: Examples, x: Array) -> Entry:
        inputs, rest = network.stop(config, weights, key, x, examples["positions"])
        layer, name = key
        whole = name == "k_proj" or (name == "v_proj" and config.num_heads > 1)
        everywhere = whole or layer < config.num_layers - 1
        valid = jnp.ones(inputs.shape[:2], bool) if everywhere else examples["weights"] > 0
        return Entry(inputs, valid, rest)

    def leave(weights: Weights, key: Key, outputs: Array, rest: Any, examples: Examples) -> Scores:
        found = network.go_on(config, weights, key, outputs, rest, examples["positions"])
        return scores(found, examples)

    return Model(
        matrices=transformer.matrices(config),
        examples={k: v for k, v in batch._asdict().items() if k != "dropped"},
        weights=np.asarray(batch.weights),
        scores=lambda weights, examples: scores(logits(weights, examples), examples),
        enter=enter,
        leave=leave,
        prefix=lambda weights, layer, examples: network.below(
            config, weights, examples["tokens"], layer
        ),
        probabilities=lambda weights, examples: jax.nn.softmax(logits(weights, examples)),
        batch_size=batch_size,
    )
