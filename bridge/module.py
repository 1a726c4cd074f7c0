"""GPT-NeoX as a Flax NNX module: which parameters there are, and how training starts them.

The module is split once; the mathematics is in bridge.network, as functions of the split
parameters, so that one layer, or half of one, can run alone.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from bridge import network as model
from bridge.config import Config


class Norm(nnx.Module):
    """Scale one, bias zero."""

    def __init__(self, d: int) -> None:
        self.scale = nnx.Param(jnp.ones(d))
        self.bias = nnx.Param(jnp.zeros(d))


class Linear(nnx.Module):
    """A [d_in, d_out] kernel, normal with standard deviation std, and a zero bias."""

    def __init__(self, d_in: int, d_out: int, std: float, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(std * jax.random.normal(rngs.params(), (d_in, d_out)))
        self.bias = nnx.Param(jnp.zeros(d_out))


class Layer(nnx.Module):
    """Two norms and six matrices, named as the interventions name them."""

    def __init__(self, config: Config, rngs: nnx.Rngs) -> None:
        d, d_ff = config.d_model, config.d_ff
        small = math.sqrt(2 / (5 * d))
        wang = 2 / (config.num_layers * math.sqrt(d))
        self.attn_norm = Norm(d)
        self.mlp_norm = Norm(d)
        self.q_proj = Linear(d, d, small, rngs)
        self.k_proj = Linear(d, d, small, rngs)
        self.v_proj = Linear(d, d, small, rngs)
        self.out_proj = Linear(d, d, wang, rngs)
        self.fc_in = Linear(d, d_ff, small, rngs)
        self.fc_out = Linear(d_ff, d, wang, rngs)


class Embedding(nnx.Module):
    """One row per token."""

    def __init__(self, rows: int, d: int, std: float, rngs: nnx.Rngs) -> None:
        self.embedding = nnx.Param(std * jax.random.normal(rngs.params(), (rows, d)))


class Unembedding(nnx.Module):
    """One column per token, without bias."""

    def __init__(self, d: int, columns: int, std: float, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(std * jax.random.normal(rngs.params(), (d, columns)))


class GPTNeoX(nnx.Module):
    """The whole model, started as the published Pythia configurations start it.

    Matrices and embeddings are normal with standard deviation sqrt(2 / (5 d)) (small_init,
    Nguyen and Salazar, arXiv 1910.05895); those that write to the residual stream
    2 / (layers sqrt(d)) (wang_init, Wang and Komatsuzaki's GPT-J). Norms are the identity
    and biases zero.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        small = math.sqrt(2 / (5 * config.d_model))
        self.config = config
        self.embed_in = Embedding(config.vocab_size, config.d_model, small, rngs)
        self.layers = nnx.List([Layer(config, rngs) for _ in range(config.num_layers)])
        self.final_norm = Norm(config.d_model)
        if not config.tied_embeddings:
            self.embed_out = Unembedding(config.d_model, config.vocab_size, small, rngs)

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length vocab"]:
        """float32 logits."""
        return model.forward(split(self), self.config, tokens)


def split(module: GPTNeoX) -> dict[str, Any]:
    """The module's parameters as the tree that bridge.network computes with."""
    params = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    params["layers"] = [params["layers"][index] for index in range(len(params["layers"]))]
    return params


@functools.lru_cache(maxsize=16)
def _shapes(config: Config) -> dict[str, Any]:
    return split(nnx.eval_shape(lambda: GPTNeoX(config, rngs=nnx.Rngs(params=0))))


def shapes(config: Config) -> dict[str, Any]:
    """The parameter tree with a jax.ShapeDtypeStruct in place of each array; no device used."""
    return jax.tree.map(lambda shape: shape, _shapes(config))


def init_params(config: Config, *, key: PRNGKeyArray) -> dict[str, Any]:
    """A fresh model's float32 parameters; a pure function of the key."""
    return split(GPTNeoX(config, rngs=nnx.Rngs(params=key)))
