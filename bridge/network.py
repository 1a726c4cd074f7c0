"""GPT-NeoX as pure functions of a parameter tree, in pieces that can be recomputed alone.

    params = {"embed_in": {"embedding" [vocab, d]},
              "layers": [{"attn_norm", "mlp_norm": {"scale", "bias" [d]},
                          "q_proj", "k_proj", "v_proj": {"kernel" [d, d], "bias" [d]},
                          "out_proj", "fc_in" [d, d_ff], "fc_out" [d_ff, d]}, ...],
              "final_norm": {"scale", "bias"},
              "embed_out": {"kernel" [d, vocab]}}          absent when embeddings are tied

The columns of q_proj, k_proj and v_proj are ordered [head, head_dim]. A layer, with
parallel residual, is x + attention(norm x) + feed-forward(norm' x), so a change to fc_in or
fc_out leaves attention's output as it was: `attention` and `after_attention` are the two
halves. `layer` takes one layer's parameters, so one compilation serves all layers.

Activations have the dtype of x: kernels are cast to it, norms, softmax and logits are
float32. float32 products use the highest precision unless jax_default_matmul_precision is
set. Source: Black et al., arXiv 2204.06745, section 2.1.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bridge.config import Config

Params = Mapping[str, Any]
Activations = Float[Array, "batch length d_model"]


class Context(NamedTuple):
    """What attention knows of a batch: where each token stands and which tokens are real."""

    positions: Int[Array, "batch length"]
    mask: Bool[Array, "batch length"]


def context_of(mask: Bool[Array, "batch length"]) -> Context:
    """Positions counted over the real tokens only, so padding on either side is the same."""
    return Context(jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0), mask)


def gather(
    x: Float[Array, "batch length d"], at: Int[Array, "batch n"]
) -> Float[Array, "batch n d"]:
    """The rows of x at positions `at` of each sequence."""
    return jnp.take_along_axis(x, at[:, :, None], axis=1)


def _precision() -> jax.lax.Precision | None:
    asked = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return None if asked is not None else jax.lax.Precision.HIGHEST


def apply_linear(linear: Params, x: Float[Array, "*batch d_in"]) -> Float[Array, "*batch d_out"]:
    """x W + b with W = kernel, or kernel_in [d_in, r] kernel_out [r, d_out] when factored.

    The bias is [d_out], or has the shape of the result; its gradient is then the gradient
    with respect to this matrix's output, position by position.
    """
    names = ("kernel",) if "kernel" in linear else ("kernel_in", "kernel_out")
    for name in names:
        x = jnp.matmul(x, linear[name].astype(x.dtype), precision=_precision())
    return x + jnp.broadcast_to(linear["bias"].astype(x.dtype), x.shape)


def layer_norm(norm: Params, x: Float[Array, "*batch d"], eps: float) -> Float[Array, "*batch d"]:
    """(x - mean) / sqrt(variance + eps) * scale + bias, computed in float32."""
    wide = x.astype(jnp.float32)
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    normed = centred * jax.lax.rsqrt(variance + eps)
    scale, bias = (jnp.broadcast_to(norm[name], x.shape) for name in ("scale", "bias"))
    return (normed * scale + bias).astype(x.dtype)


def _rotate(
    x: Float[Array, "batch n heads head_dim"], positions: Int[Array, "batch n"], config: Config
) -> Float[Array, "batch n heads head_dim"]:
    half = config.rotary_dim // 2
    exponents = jnp.arange(half, dtype=jnp.float32) / half
    angles = (
        positions[:, :, None].astype(jnp.float32) * (config.rotary_base**-exponents)[None, None]
    )
    cos, sin = (
        jnp.broadcast_to(f(angles)[:, :, None], (*x.shape[:3], half)) for f in (jnp.cos, jnp.sin)
    )
    first, second, rest = jnp.split(x.astype(jnp.float32), (half, 2 * half), axis=-1)
    rotated = (first * cos - second * sin, second * cos + first * sin, rest)
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)


def mixed_values(
    layer_params: Params,
    config: Config,
    normed: Activations,
    context: Context,
    at: Int[Array, "batch n"] | None = None,
) -> Float[Array, "batch n d_model"]:
    """The input of out_proj: every head's mixture of values, heads side by side.

    normed is the input of q_proj, k_proj and v_proj. Scores are q k / sqrt(head_dim) after
    the rotation, over earlier real tokens and the token itself.
    """
    batch, length, _ = normed.shape
    columns = jnp.arange(length)
    asking, rows, positions = normed, jnp.broadcast_to(columns, (batch, length)), context.positions
    if at is not None:
        asking, rows = gather(normed, at), at
        positions = jnp.take_along_axis(context.positions, at, axis=1)

    def heads(name: str, x: Array) -> Array:
        return apply_linear(layer_params[name], x).reshape(*x.shape[:2], config.num_heads, -1)

    query = _rotate(heads("q_proj", asking), positions, config)
    key = _rotate(heads("k_proj", normed), context.positions, config)
    product = functools.partial(jnp.einsum, precision=_precision())
    scores = product("bqhe,bkhe->bhqk", query, key, preferred_element_type=jnp.float32)
    visible = (columns[None, None] <= rows[:, :, None]) & context.mask[:, None, :]
    # A row that sees nothing (left padding) must stay finite, so not minus infinity.
    scores = jnp.where(visible[:, None], scores * config.head_dim**-0.5, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(normed.dtype)
    mixed = product("bhqk,bkhe->bqhe", weights, heads("v_proj", normed))
    return mixed.reshape(batch, -1, config.d_model)


def attention(
    layer_params: Params,
    config: Config,
    x: Activations,
    context: Context,
    at: Int[Array, "batch n"] | None = None,
) -> Float[Array, "batch n d_model"]:
    """What attention adds to the residual stream x, at all positions or only at `at`."""
    normed = layer_norm(layer_params["attn_norm"], x, config.layer_norm_eps)
    mixed = mixed_values(layer_params, config, normed, context, at)
    return apply_linear(layer_params["out_proj"], mixed)


def mlp_hidden(
    layer_params: Params, config: Config, x: Activations
) -> Float[Array, "batch n d_ff"]:
    """The input of fc_out: gelu(fc_in(norm x)) with the exact (erf) gelu."""
    normed = layer_norm(layer_params["mlp_norm"], x, config.layer_norm_eps)
    return jax.nn.gelu(apply_linear(layer_params["fc_in"], normed), approximate=False)


def mlp(layer_params: Params, config: Config, x: Activations) -> Activations:
    """What the feed-forward adds to the residual stream x."""
    return apply_linear(layer_params["fc_out"], mlp_hidden(layer_params, config, x))


def after_attention(
    layer_params: Params, config: Config, x: Activations, attended: Activations
) -> Activations:
    """The layer's output from its input x and attention's output, at the same positions."""
    if config.parallel_residual:
        return mlp(layer_params, config, x) + attended + x
    x = attended + x
    return mlp(layer_params, config, x) + x


@functools.partial(jax.jit, static_argnames="config")
def layer(
    layer_params: Params,
    config: Config,
    x: Activations,
    context: Context,
    at: Int[Array, "batch n"] | None = None,
) -> Float[Array, "batch n d_model"]:
    """One layer: the residual stream after it, at all positions or only at `at`."""
    attended = attention(layer_params, config, x, context, at)
    return after_attention(layer_params, config, x if at is None else gather(x, at), attended)


@functools.partial(jax.jit, static_argnames="config")
def matrix_inputs(
    layer_params: Params, config: Config, x: Activations, context: Context
) -> dict[str, Float[Array, "batch length _"]]:
    """What each of the six matrices of a layer reads when the layer's input is x."""
    normed = layer_norm(layer_params["attn_norm"], x, config.layer_norm_eps)
    mixed = mixed_values(layer_params, config, normed, context)
    if not config.parallel_residual:
        x = x + apply_linear(layer_params["out_proj"], mixed)
    return {
        **dict.fromkeys(("q_proj", "k_proj", "v_proj"), normed),
        "out_proj": mixed,
        "fc_in": layer_norm(layer_params["mlp_norm"], x, config.layer_norm_eps),
        "fc_out": mlp_hidden(layer_params, config, x),
    }


@functools.partial(jax.jit, static_argnames="dtype")
def embed(
    params: Params, tokens: Int[Array, "batch length"], dtype: str | None = None
) -> Activations:
    """The residual stream before layer 0, in dtype (default: that of the parameters)."""
    embedding = params["embed_in"]["embedding"]
    return embedding[tokens].astype(dtype or embedding.dtype)


def run_layers(
    params: Params,
    config: Config,
    x: Activations,
    context: Context,
    start: int = 0,
    stop: int | None = None,
    at: Int[Array, "batch n"] | None = None,
) -> Float[Array, "batch n d_model"]:
    """The residual stream after layers start, ..., stop - 1, from the stream x before them.

    `at` restricts the last of these layers to those positions of each sequence.
    """
    layers = params["layers"][start:stop]
    for index, layer_params in enumerate(layers):
        x = layer(layer_params, config, x, context, at if index == len(layers) - 1 else None)
    return x if layers or at is None else gather(x, at)


def final_norm(params: Params, config: Config, x: Activations) -> Activations:
    """The input of the unembedding from the residual stream after the last layer."""
    return layer_norm(params["final_norm"], x, config.layer_norm_eps)


@functools.partial(jax.jit, static_argnames="config")
def final_logits(
    params: Params, config: Config, x: Activations
) -> Float[Array, "batch length vocab"]:
    """float32 logits from the residual stream after the last layer, at the positions in x."""
    x = final_norm(params, config, x)
    product = functools.partial(
        jnp.einsum, precision=_precision(), preferred_element_type=jnp.float32
    )
    if "embed_out" in params:
        return product("bnd,dv->bnv", x, params["embed_out"]["kernel"].astype(x.dtype))
    return product("bnd,vd->bnv", x, params["embed_in"]["embedding"].astype(x.dtype))


def forward(
    params: Params,
    config: Config,
    tokens: Int[Array, "batch length"],
    mask: Bool[Array, "batch length"] | None = None,
    at: Int[Array, "batch n"] | None = None,
    dtype: str | None = None,
) -> Float[Array, "batch n vocab"]:
    """float32 logits at all positions, or only at `at`; differentiable, and fit for jit.

    mask is true at real tokens (default: all). dtype is that of the activations.
    """
    context = context_of(jnp.ones(tokens.shape, bool) if mask is None else mask)
    x = run_layers(params, config, embed(params, tokens, dtype), context, at=at)
    # Only what the unembedding reads goes in, so that `layers` is not flattened again.
    outer = {name: value for name, value in params.items() if name != "layers"}
    return final_logits(outer, config, x)


def residual_streams(
    params: Params,
    config: Config,
    tokens: Int[Array, "batch length"],
    mask: Bool[Array, "batch length"] | None = None,
    dtype: str | None = None,
) -> list[Activations]:
    """The stream before each layer and, last, after all of them (before the final norm)."""
    context = context_of(jnp.ones(tokens.shape, bool) if mask is None else mask)
    streams = [embed(params, tokens, dtype)]
    for index in range(config.num_layers):
        streams.append(layer(params["layers"][index], config, streams[-1], context))
    return streams
