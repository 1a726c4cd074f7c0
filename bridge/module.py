"""Every family as one Flax NNX module: which parameters there are, and how training starts.

The module is split once; the mathematics is in bridge.network, as functions of the split
parameters, so that one layer, or half of one, can run alone.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from truncated_weights.bridge import network as model
from truncated_weights.bridge.config import Config


class Norm(nnx.Module):
    """Scale one (less the offset) and, for layer norm, bias zero; of the stream or `size` wide."""

    def __init__(self, config: Config, size: int = 0) -> None:
        self.scale = nnx.Param(jnp.full(size or config.d_model, 1 - config.norm_offset))
        if config.norm == "layer":
            self.bias = nnx.Param(jnp.zeros(size or config.d_model))


class Linear(nnx.Module):
    """A [d_in, d_out] kernel, normal with standard deviation std, and perhaps a zero bias."""

    def __init__(
        self, d_in: int, d_out: int, std: float, rngs: nnx.Rngs, *, bias: bool = True
    ) -> None:
        self.kernel = nnx.Param(std * jax.random.normal(rngs.params(), (d_in, d_out)))
        if bias:
            self.bias = nnx.Param(jnp.zeros(d_out))


class Layer(nnx.Module):
    """One norm or two, and the matrices, named as the interventions name them."""

    def __init__(self, config: Config, rngs: nnx.Rngs) -> None:
        small = math.sqrt(2 / (5 * config.d_model))
        wang = 2 / (config.num_layers * math.sqrt(config.d_model))
        if config.norm_place != "after":
            self.attn_norm = Norm(config)
            if not config.shared_norm:
                self.mlp_norm = Norm(config)
        if config.norm_place != "before":
            self.attn_after, self.mlp_after = Norm(config), Norm(config)
        if config.query_norm:
            whole = config.query_norm == "whole"
            heads = (config.num_heads, config.groups) if whole else (1, 1)
            self.q_norm, self.k_norm = (Norm(config, n * config.head_dim) for n in heads)
        for name in config.matrices:
            std = wang if name in ("out_proj", "fc_out") else small
            d_in, d_out = config.matrix_shape(name)
            setattr(self, name, Linear(d_in, d_out, std, rngs, bias=name in config.biases))


class Embedding(nnx.Module):
    """One row per token, or per position."""

    def __init__(self, rows: int, d: int, std: float, rngs: nnx.Rngs) -> None:
        self.embedding = nnx.Param(std * jax.random.normal(rngs.params(), (rows, d)))


class Unembedding(nnx.Module):
    """One column per token unless the embedding serves for it, and perhaps a zero bias."""

    def __init__(self, config: Config, std: float, rngs: nnx.Rngs) -> None:
        d, columns = config.d_model, config.vocab_size
        if not config.tied_embeddings:
            self.kernel = nnx.Param(std * jax.random.normal(rngs.params(), (d, columns)))
        if config.head_bias:
            self.bias = nnx.Param(jnp.zeros(columns))


class LanguageModel(nnx.Module):
    """The whole model, of any family, started as the published Pythia configurations are.

    Matrices and embeddings are normal with standard deviation sqrt(2 / (5 d)) (small_init,
    Nguyen and Salazar, arXiv 1910.05895); those that write to the residual stream
    2 / (layers sqrt(d)) (wang_init, Wang and Komatsuzaki's GPT-J). Norms are the identity
    and biases zero.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        d, small = config.d_model, math.sqrt(2 / (5 * config.d_model))
        self.config = config
        self.embed_in = Embedding(config.vocab_size, d, small, rngs)
        if config.learned_positions:
            rows = config.max_positions + config.position_offset
            self.positions = Embedding(rows, d, small, rngs)
        if config.token_types:
            self.token_types = Embedding(config.token_types, d, small, rngs)
        if config.masked:
            self.embed_norm = Norm(config)
        self.layers = nnx.List([Layer(config, rngs) for _ in range(config.num_layers)])
        if config.masked:
            self.transform = Linear(d, d, small, rngs)
            self.transform_norm = Norm(config)
        if config.residual != "post":
            self.final_norm = Norm(config)
        if config.head_bias or not config.tied_embeddings:
            self.embed_out = Unembedding(config, small, rngs)

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length vocab"]:
        """float32 logits."""
        return model.forward(split(self), self.config, tokens)


def split(module: LanguageModel) -> dict[str, Any]:
    """The module's parameters as the tree that bridge.network computes with."""
    params = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    params["layers"] = [params["layers"][index] for index in range(len(params["layers"]))]
    return params


@functools.lru_cache(maxsize=16)
def _shapes(config: Config) -> dict[str, Any]:
    # Layers are alike, so one is enough: tracing all 36 of a large model takes seconds.
    one = dataclasses.replace(config.of_layer(0), num_layers=1)
    found = split(nnx.eval_shape(lambda: LanguageModel(one, rngs=nnx.Rngs(params=0))))
    return found | {"layers": found["layers"] * config.num_layers}


def shapes(config: Config) -> dict[str, Any]:
    """The parameter tree with a jax.ShapeDtypeStruct in place of each array; no device used."""
    return jax.tree.map(lambda shape: shape, _shapes(config))


def init_params(config: Config, *, key: PRNGKeyArray) -> dict[str, Any]:
    """A fresh model's float32 parameters; a pure function of the key."""
    return split(LanguageModel(config, rngs=nnx.Rngs(params=key)))
