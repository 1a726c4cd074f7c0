"""The whole network: tokens in at the bottom, layers in between, logits out at the top."""

import functools
import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from truncated_weights.bridge.config import Config
from truncated_weights.bridge.network.bounds import check_length
from truncated_weights.bridge.network.one_layer import (
    Activations,
    Context,
    Params,
    add_bias,
    apply_linear,
    context_of,
    layer,
    normalise,
    precision,
    soft_cap,
)

# glibc gives a block of more than 32 MB back to the system as soon as it is freed.
_GIVEN_BACK = 2**25
_TOGETHER = 8


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def embed(
    params: Params,
    config: Config,
    tokens: Int[Array, "batch n"],
    positions: Int[Array, "batch n"],
    dtype: str | None = None,
) -> Activations:
    """x^0, the residual stream that enters layer 0, in dtype (default: that of the embedding)."""
    embedding = params["embed_in"]["embedding"]
    x = embedding[tokens].astype(dtype or embedding.dtype)
    if config.embed_scale != 1:
        x = x * jnp.asarray(config.embed_scale, x.dtype)
    if config.learned_positions:
        rows = positions + config.position_offset
        x = x + params["positions"]["embedding"][rows].astype(x.dtype)
    if config.token_types:
        x = x + jnp.broadcast_to(params["token_types"]["embedding"][0].astype(x.dtype), x.shape)
    return normalise(params["embed_norm"], config, x) if config.masked else x


def run_layers(
    params: Params,
    config: Config,
    x: Activations,
    context: Context,
    start: int = 0,
    end: int | None = None,
    at: Int[Array, "rows n"] | None = None,
) -> Float[Array, "_ _ d_model"]:
    """The residual stream after layers start, ..., end - 1, from the stream x before them.

    `at` restricts the last of these layers to those positions of each sequence.
    """
    chosen = range(config.num_layers)[start:end]
    for index in chosen:
        here = at if index == chosen[-1] else None
        x = layer(params["layers"][index], config.of_layer(index), x, context, here)
    return x if chosen or at is None else context.gather(x, at)


def run_layers_fused(
    params: Params, config: Config, x: Activations, context: Context, start: int, end: int
) -> Activations:
    """`run_layers` at all positions, compiled: several layers to a program where that pays.

    Every call of a program allocates what the program needs besides its results. On a CPU a large
    block of that is paged in again each time, a sixth of the time of a layer on 2,000 tokens;
    layers in one program use the block in turn. They are two, four or eight, so that few programs
    are compiled.
    """
    # A layer holds its hidden activations about four times, once in float32.
    block = 4 * 4 * x.shape[0] * x.shape[1] * config.d_ff
    most = _TOGETHER if jax.default_backend() == "cpu" and block > _GIVEN_BACK else 1
    for here, alike in itertools.groupby(range(start, end), key=config.of_layer):
        rest = [params["layers"][index] for index in alike]
        while rest:
            count = min(most, 1 << (len(rest).bit_length() - 1))
            now, rest = tuple(rest[:count]), rest[count:]
            x = layer(*now, here, x, context) if count == 1 else _run(now, here, x, context)
    return x


@functools.partial(jax.jit, static_argnames="config")
def _run(
    layers: tuple[Params, ...], config: Config, x: Activations, context: Context
) -> Activations:
    for params in layers:
        x = layer(params, config, x, context)
    return x


def final_norm(params: Params, config: Config, x: Activations) -> Activations:
    """The input of the unembedding from the residual stream after the last layer."""
    if config.masked:
        # This gelu is the exact one, whatever activation the layers have.
        x = jax.nn.gelu(apply_linear(params["transform"], x), approximate=False)
        return normalise(params["transform_norm"], config, x)
    return normalise(params["final_norm"], config, x)


@functools.partial(jax.jit, static_argnames="config")
def final_logits(
    params: Params, config: Config, x: Activations
) -> Float[Array, "batch length vocab"]:
    """float32 logits from the residual stream after the last layer, at the positions in x."""
    x = final_norm(params, config, x)
    product = functools.partial(
        jnp.einsum, precision=precision(), preferred_element_type=jnp.float32
    )
    head = params.get("embed_out", {})
    if "kernel" in head:
        logits = product("bnd,dv->bnv", x, head["kernel"].astype(x.dtype))
    else:
        logits = product("bnd,vd->bnv", x, params["embed_in"]["embedding"].astype(x.dtype))
    return soft_cap(add_bias(head, logits), config.logit_cap)


def outer_params(params: Params) -> Params:
    """The parameters outside the layers: all that the ends of the network read."""
    return {name: value for name, value in params.items() if name != "layers"}


def forward(
    params: Params,
    config: Config,
    tokens: Int[Array, "batch length"],
    mask: Bool[Array, "batch length"] | None = None,
    at: Int[Array, "batch n"] | None = None,
    dtype: str | None = None,
) -> Float[Array, "batch n vocab"]:
    """float32 logits at all positions, or only at `at`; differentiable, and fit for jit.

    mask is true at real tokens (default: all). dtype is that of the activations. Raises
    ValueError where all tokens are real and more than the positions; of a mask, and of ids, that
    cannot be known under jit: check_tokens asks.
    """
    _check_length(config, tokens, mask)
    context = context_of(jnp.ones(tokens.shape, bool) if mask is None else mask)
    # Only what the two ends read goes in, so that `layers` is not flattened again.
    outer = outer_params(params)
    x = embed(outer, config, tokens, context.positions, dtype)
    return final_logits(outer, config, run_layers(params, config, x, context, at=at))


def _check_length(config: Config, tokens: Array, mask: Array | None) -> None:
    if mask is None:
        check_length(config, tokens.shape[1])


def residual_streams(
    params: Params,
    config: Config,
    tokens: Int[Array, "batch length"],
    mask: Bool[Array, "batch length"] | None = None,
    dtype: str | None = None,
) -> list[Activations]:
    """The stream before each layer and, last, after all of them (before the final norm)."""
    _check_length(config, tokens, mask)
    context = context_of(jnp.ones(tokens.shape, bool) if mask is None else mask)
    streams = [embed(outer_params(params), config, tokens, context.positions, dtype)]
    for index, layer_params in enumerate(params["layers"]):
        streams.append(layer(layer_params, config.of_layer(index), streams[-1], context))
    return streams
