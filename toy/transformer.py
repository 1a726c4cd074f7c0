"""The Transformer of noisy in-context recall as a Flax module: its weights and how they start.

One head, no norm, no biases, frozen embeddings, unless the options say otherwise:

    E, P ~ N(0, 1),   W_U ~ U(-1/sqrt d, 1/sqrt d)             stay as drawn
    W_K, W_V, W_O, W_in, W_out ~ U(-1/sqrt d_in, 1/sqrt d_in)   are learned; W_Q is the identity

Bietti et al., "Birth of a Transformer" (2023); Chen, Bruna and Bietti (2025). The module is split
once into two pure dicts, trained and frozen; the forward over them is toy/network.py.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from truncated_weights.toy import network
from truncated_weights.toy.layer import Weights as Weights
from truncated_weights.toy.transformer_config import TransformerConfig as TransformerConfig
from truncated_weights.truncation import address, notation


class Frozen(nnx.Variable):
    """A weight that stays as drawn."""


class LayerWeights(nnx.Module):
    """The matrices of one layer, those that its config names."""

    def __init__(self, config: TransformerConfig, index: int, rngs: nnx.Rngs):
        for name in config.names(index):
            shape = config.shape(index, name)
            kind = Frozen if f"{index}.{name}" in config.frozen else nnx.Param
            setattr(self, name, kind(_uniform(rngs.params(), shape, shape[0])))


class Transformer(nnx.Module):
    """The weights of all layers and the embeddings, drawn as the head of this file says."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
        self.config = config
        d_model, vocab_size = config.d_model, config.vocab_size
        embedding = nnx.Param if "embeddings" in config.trained else Frozen
        unembedding = nnx.Param if "unembedding" in config.trained else Frozen
        deviation = 1 / math.sqrt(d_model) if config.scaled_embeddings else 1.0
        draw = jax.random.normal(rngs.params(), (vocab_size, d_model))
        self.embed = embedding(deviation * draw)
        position = nnx.Param if config.positions == "learned" else Frozen
        self.position = position(deviation * _positions(rngs.params(), config))
        # Drawn even where it is tied, so that the option changes no other weight.
        unembed = _uniform(rngs.params(), (d_model, vocab_size), d_model)
        if not config.tied_output:
            self.unembed = unembedding(unembed)
        self.layers = nnx.List([LayerWeights(config, i, rngs) for i in range(config.num_layers)])

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length vocab"]:
        """Logits at every position."""
        return network.run(self.config, nnx.to_pure_dict(nnx.state(self)), tokens).logits


def init(config: TransformerConfig, key: PRNGKeyArray) -> tuple[Weights, Weights]:
    """Draw the weights: (trained, frozen), two pure dicts of arrays."""
    states: Any = nnx.split(Transformer(config, nnx.Rngs(key)), nnx.Param, ...)
    return nnx.to_pure_dict(states[1]), nnx.to_pure_dict(states[2])


def combine(params: Weights, frozen: Weights) -> Weights:
    """Trained and frozen weights as one tree: what interventions and probes work on."""
    merged = dict(frozen)
    for key, value in params.items():
        merged[key] = combine(value, frozen[key]) if key in frozen else value
    return merged


def matrices(config: TransformerConfig) -> dict[notation.Key, address.Address]:
    """Where every matrix lives in the combined weights, bottom layer first; ov comes last.

    Several heads have one product W_V W_O each and no ov; nor has an identity or diagonal W_V.
    """
    addresses: dict[notation.Key, address.Address] = {}
    for layer in range(config.num_layers):
        for name in config.names(layer):
            addresses[layer, name] = address.at_path("layers", layer, name)
        if config.num_heads == 1 and (layer, "v_proj") in addresses:
            addresses[layer, "ov"] = address.product(
                addresses[layer, "v_proj"], addresses[layer, "out_proj"], ("v_proj", "out_proj")
            )
    return addresses


def _uniform(key: PRNGKeyArray, shape: tuple[int, int], fan_in: int) -> Array:
    bound = 1 / math.sqrt(fan_in)
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def _positions(key: PRNGKeyArray, config: TransformerConfig) -> Float[Array, "length d"]:
    shape = (config.length, config.d_model)
    if config.positions in ("none", "rotary"):
        return jnp.zeros(shape)
    if config.positions == "sinusoidal":
        half = (config.d_model + 1) // 2
        rates = 10_000.0 ** (-jnp.arange(half) / half)
        angles = jnp.arange(config.length)[:, None] * rates[None]
        # sqrt 2 gives the unit variance that the other embeddings have.
        both = math.sqrt(2) * jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)
        return both[:, : config.d_model]
    return jax.random.normal(key, shape)
