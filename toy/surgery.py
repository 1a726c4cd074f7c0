"""The Transformer as a truncation.Model: it stops in front of any matrix and goes on.

The same function as toy/transformer.py, over plain weights whose matrices may also be stored
as factors or have a bias (truncation/linear.py). In the last layer everything but the keys is
computed at scored positions only. A bias on the keys shifts all scores of a query alike
and so changes nothing.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from toy import probes, transformer
from toy.recall import Batch, Task
from toy.transformer import TransformerConfig, Weights
from truncation import linear
from truncation.address import Key
from truncation.search.model import Entry, Examples, Model, Scores

Positions = Int[Array, "batch scored"] | None


def model(
    task: Task, config: TransformerConfig, batch: Batch, *, batch_size: int | None = None
) -> Model:
    """The architecture of `config` on these sequences; one answer per scored position.

    Its params are the combined weights (transformer.combine); scores are those of
    probes.predictions: p_correct, p_noise, accuracy, loss.
    """

    def scores(logits: Array, examples: Examples) -> Scores:
        return probes.predictions(task, logits, Batch(**examples, dropped=jnp.int32(0)))

    def prefix(weights: Weights, layer: int, examples: Examples) -> Array:
        x = weights["embed"][examples["tokens"]]
        x = x + weights["position"][None, : x.shape[1]]
        for below in range(layer):
            x = _layer(config, weights, below, x, None)
        return x

    def enter(weights: Weights, key: Key, examples: Examples, x: Array) -> Entry:
        layer, name = key
        last = layer == config.num_layers - 1
        inputs, rest = _stop(
            config, weights, layer, name, x, examples["positions"] if last else None
        )
        everywhere = not last or name == "k_proj"
        valid = jnp.ones(inputs.shape[:2], bool) if everywhere else examples["weights"] > 0
        return Entry(inputs, valid, rest)

    def leave(weights: Weights, key: Key, outputs: Array, rest: Any, examples: Examples) -> Scores:
        layer, name = key
        positions = examples["positions"]
        here = positions if layer == config.num_layers - 1 else None
        x = _resume(config, weights, layer, name, outputs, rest, here)
        for above in range(layer + 1, config.num_layers):
            x = _layer(
                config, weights, above, x, positions if above == config.num_layers - 1 else None
            )
        return scores(x @ weights["unembed"], examples)

    def logits(weights: Weights, examples: Examples) -> Array:
        last = config.num_layers - 1
        x = prefix(weights, last, examples)
        return _layer(config, weights, last, x, examples["positions"]) @ weights["unembed"]

    return Model(
        matrices=transformer.matrices(config),
        examples={k: v for k, v in batch._asdict().items() if k != "dropped"},
        weights=np.asarray(batch.weights),
        scores=lambda weights, examples: scores(logits(weights, examples), examples),
        enter=enter,
        leave=leave,
        prefix=prefix,
        probabilities=lambda weights, examples: jax.nn.softmax(logits(weights, examples)),
        batch_size=batch_size,
    )


def _layer(
    config: TransformerConfig, weights: Weights, layer: int, x: Array, positions: Positions
) -> Array:
    """One whole layer, at `positions` only where they are given."""
    matrices = weights["layers"][layer]
    query = _rows(x, positions)
    attention = _values(matrices, _mix(config, matrices, query, x, positions))
    return _resume(config, weights, layer, "ov", attention, query, positions)


def _stop(
    config: TransformerConfig,
    weights: Weights,
    layer: int,
    name: str,
    x: Array,
    positions: Positions,
) -> tuple[Array, Array]:
    """Inputs of a matrix of this layer, and the stream `_resume` needs to go on."""
    matrices = weights["layers"][layer]
    query = _rows(x, positions)
    if name in ("q_proj", "k_proj"):
        return (query if name == "q_proj" else x), x
    mixed = _mix(config, matrices, query, x, positions)
    if name in ("v_proj", "ov"):
        return mixed, query
    value = linear.apply(matrices["v_proj"], mixed)
    if name == "out_proj":
        return value, query
    h = _add(query, linear.apply(matrices["out_proj"], value), config.attention_residual)
    if name == "fc_in":
        return h, h
    return jax.nn.relu(linear.apply(matrices["fc_in"], h)), h


def _resume(
    config: TransformerConfig,
    weights: Weights,
    layer: int,
    name: str,
    outputs: Array,
    rest: Array,
    positions: Positions,
) -> Array:
    """The stream after this layer, from what one of its matrices gave."""
    matrices, kind = weights["layers"][layer], config.feed_forward[layer]
    if name in ("q_proj", "k_proj"):
        x, rest = rest, _rows(rest, positions)
        if name == "q_proj":
            mixed = _mix(config, {**matrices, "q_proj": None}, outputs, x, positions)
        else:
            query = linear.apply(matrices["q_proj"], rest) if config.learned_query else rest
            mixed = _attend(config, query, outputs, x, positions)
        outputs, name = _values(matrices, mixed), "ov"
    if name == "v_proj":
        outputs, name = linear.apply(matrices["out_proj"], outputs), "out_proj"
    if name in ("out_proj", "ov"):
        h = _add(rest, outputs, config.attention_residual)
        if kind == "none":
            return h
        rest, outputs, name = h, linear.apply(matrices["fc_in"], h), "fc_in"
    if name == "fc_in" and kind == "mlp":
        outputs = linear.apply(matrices["fc_out"], jax.nn.relu(outputs))
    return _add(rest, outputs, config.feed_forward_residual)


def _mix(
    config: TransformerConfig, matrices: Weights, query: Array, x: Array, positions: Positions
) -> Float[Array, "batch _ d"]:
    """Attention-weighted means of x: what the values' matrix multiplies.

    Scores are (x_t W_Q W_K^T) x_s: one projection of the queries, none of the keys. A
    q_proj of None means that `query` is projected already.
    """
    if config.learned_query and matrices["q_proj"] is not None:
        query = linear.apply(matrices["q_proj"], query)
    keys = matrices["k_proj"]
    if isinstance(keys, Mapping) and "kernel_in" in keys:
        pulled = _flat(_flat(query, keys["kernel_out"].T), keys["kernel_in"].T)
    else:
        pulled = _flat(query, linear.dense(keys).T)
    return _attend(config, pulled, x, x, positions)


def _values(matrices: Weights, mixed: Array) -> Array:
    """mixed W_V W_O, as one product where both are plain matrices."""
    value, output = matrices["v_proj"], matrices["out_proj"]
    if isinstance(value, Mapping) or isinstance(output, Mapping):
        return linear.apply(output, linear.apply(value, mixed))
    return _flat(mixed, value @ output)


def _attend(
    config: TransformerConfig, query: Array, keys: Array, x: Array, positions: Positions
) -> Float[Array, "batch _ d"]:
    scores = jnp.einsum("bqd,bsd->bqs", query / math.sqrt(config.d_model), keys)
    length = jnp.arange(x.shape[1])
    where = length[None] if positions is None else positions
    causal = length[None, None] <= where[:, :, None]
    pattern = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf), axis=-1)
    return jnp.einsum("bqs,bsd->bqd", pattern, x)


def _rows(x: Array, positions: Positions) -> Array:
    return x if positions is None else jnp.take_along_axis(x, positions[:, :, None], axis=1)


def _add(stream: Array, block: Array, residual: bool) -> Array:
    return stream + block if residual else block


def _flat(x: Array, weight: Array) -> Array:
    return (x.reshape(-1, x.shape[-1]) @ weight).reshape(*x.shape[:-1], weight.shape[-1])
