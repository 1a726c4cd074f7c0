"""Every family's forward, once, as pure functions of a parameter tree and a Config.

    params = {"embed_in": {"embedding" [vocab, d]},
              "positions": {"embedding"}, "token_types", "embed_norm"     where there are any
              "layers": [{"attn_norm", "mlp_norm": {"scale" [d], "bias"},
                          "q_proj" [d, He], "k_proj", "v_proj" [d, Ge], "out_proj" [He, d],
                          "fc_in", "fc_gate" [d, d_ff], "fc_out" [d_ff, d]}, ...],
              "final_norm": {"scale", "bias"}, "transform", "transform_norm"
              "embed_out": {"kernel" [d, vocab], "bias"}}     no kernel when embeddings are tied

for H heads and G key and value heads of e dimensions. A matrix is {"kernel", "bias"}, or has
"kernel_in" and "kernel_out" for its kernel; biases are there where the family has them. The
columns of q_proj, k_proj and v_proj are ordered [head, dimension]. With n a norm's output:

    parallel   x + attention(n x) + feed-forward(n' x)         n' is n where the norm is shared
    pre        y = x + attention(n x), y + feed-forward(n' y)
    post       y = n(x + attention x), n'(y + feed-forward y)

In a parallel layer a change to the feed-forward leaves attention's output as it was:
`attention` and `after_attention` are the two halves. `enter` stops in front of any matrix of
a layer, `leave` goes on from its output. `layer` takes one layer's parameters and the
Config.of_layer, so one compilation serves all layers with the same window.

Activations have the dtype of x: kernels are cast to it, norms, softmax and logits are
float32. float32 products use the highest precision unless jax_default_matmul_precision is
set. Source: the papers named in bridge/families, and transformers for what they leave open.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bridge.config import Config
from bridge.families.angles import rotate

Params = Mapping[str, Any]
Activations = Float[Array, "batch length d_model"]
Heads = Float[Array, "batch length groups head_dim"]
_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
}
READ_EVERYWHERE = ("k_proj", "v_proj")
_FEED_FORWARD = ("fc_in", "fc_gate", "fc_out")


class Context(NamedTuple):
    """What attention knows of a batch: where each token stands and which tokens are real."""

    positions: Int[Array, "batch length"]
    mask: Bool[Array, "batch length"]

    @property
    def lengths(self) -> Int[Array, " batch"]:
        """How many real tokens each sequence has."""
        return jnp.sum(self.mask, axis=1)


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

    The bias, if there is one, is [d_out], or has the shape of the result; its gradient is
    then the gradient with respect to this matrix's output, position by position.
    """
    names = ("kernel",) if "kernel" in linear else ("kernel_in", "kernel_out")
    for name in names:
        x = jnp.matmul(x, linear[name].astype(x.dtype), precision=_precision())
    return add_bias(linear, x)


def add_bias(linear: Params, x: Float[Array, "*batch d_out"]) -> Float[Array, "*batch d_out"]:
    """x + b, or x where the matrix has no bias."""
    if "bias" not in linear:
        return x
    return x + jnp.broadcast_to(linear["bias"].astype(x.dtype), x.shape)


def normalise(
    norm: Params, config: Config, x: Float[Array, "*batch d"]
) -> Float[Array, "*batch d"]:
    """The family's norm, computed in float32.

    layer: (x - mean) / sqrt(variance + eps) * scale + bias; rms: x / sqrt(mean x^2 + eps) * scale.
    """
    wide = x.astype(jnp.float32)
    if config.norm == "layer":
        wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
    square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    normed = wide * jax.lax.rsqrt(square + config.norm_eps)
    normed = normed * jnp.broadcast_to(norm["scale"], x.shape)
    return add_bias(norm, normed).astype(x.dtype)


def _heads(linear: Params, x: Activations, count: int) -> Heads:
    return apply_linear(linear, x).reshape(*x.shape[:2], count, -1)


def attention_inputs(layer_params: Params, config: Config, x: Activations) -> Activations:
    """What q_proj, k_proj and v_proj read of the residual stream x."""
    return x if config.residual == "post" else normalise(layer_params["attn_norm"], config, x)


def keys_and_values(
    layer_params: Params, config: Config, inputs: Activations
) -> tuple[Heads, Heads]:
    """Keys, not yet rotated, and values at every position of the inputs."""
    return (
        _heads(layer_params["k_proj"], inputs, config.groups),
        _heads(layer_params["v_proj"], inputs, config.groups),
    )


def attend(
    layer_params: Params,
    config: Config,
    asking: Float[Array, "batch n d_model"],
    rows: Int[Array, "batch n"],
    keys: Heads,
    values: Heads,
    context: Context,
) -> Float[Array, "batch n width"]:
    """The input of out_proj: every head's mixture of values, heads side by side.

    asking are the inputs at the columns `rows` of the context, keys (rotated) and values
    those of all its columns. Scores are q k / sqrt(head_dim), over real tokens: the earlier
    ones and the token itself, within the window if there is one, or all if the model is masked.
    """
    batch, count, _ = asking.shape
    positions = jnp.take_along_axis(context.positions, rows, axis=1)
    query = _heads(layer_params["q_proj"], asking, config.num_heads)
    query = rotate(query, positions, context.lengths, config)
    # Query heads side by side under the key head they share, so that no key is repeated.
    query = query.reshape(batch, count, config.groups, -1, config.head_dim)
    product = functools.partial(jnp.einsum, precision=_precision())
    scores = product("bqghe,bkge->bghqk", query, keys, preferred_element_type=jnp.float32)
    visible = context.mask[:, None, :]
    if not config.masked:
        columns = jnp.arange(keys.shape[1])
        visible = visible & (columns[None, None] <= rows[:, :, None])
        if config.window is not None:
            oldest = positions[:, :, None] - config.window
            visible = visible & (context.positions[:, None, :] > oldest)
    # A row that sees nothing (left padding) must stay finite, so not minus infinity.
    scores = jnp.where(
        visible[:, None, None], scores * config.head_dim**-0.5, jnp.finfo(jnp.float32).min
    )
    weights = jax.nn.softmax(scores, axis=-1).astype(asking.dtype)
    mixed = product("bghqk,bkge->bqghe", weights, values)
    return mixed.reshape(batch, count, -1)


def mixed_values(
    layer_params: Params,
    config: Config,
    inputs: Activations,
    context: Context,
    at: Int[Array, "batch n"] | None = None,
) -> Float[Array, "batch n width"]:
    """The input of out_proj at all positions or only at `at`, from attention_inputs."""
    keys, values = keys_and_values(layer_params, config, inputs)
    keys = rotate(keys, context.positions, context.lengths, config)
    if at is None:
        rows = jnp.broadcast_to(jnp.arange(inputs.shape[1]), inputs.shape[:2])
        return attend(layer_params, config, inputs, rows, keys, values, context)
    return attend(layer_params, config, gather(inputs, at), at, keys, values, context)


def attention(
    layer_params: Params,
    config: Config,
    x: Activations,
    context: Context,
    at: Int[Array, "batch n"] | None = None,
) -> Float[Array, "batch n d_model"]:
    """What attention adds to the residual stream x, at all positions or only at `at`."""
    inputs = attention_inputs(layer_params, config, x)
    mixed = mixed_values(layer_params, config, inputs, context, at)
    return apply_linear(layer_params["out_proj"], mixed)


def mlp_inputs(
    layer_params: Params, config: Config, x: Activations, attended: Activations
) -> Activations:
    """What fc_in and fc_gate read, from the stream x and attention's output beside it."""
    if config.residual == "parallel":
        norm = "attn_norm" if config.shared_norm else "mlp_norm"
        return normalise(layer_params[norm], config, x)
    norm = "attn_norm" if config.residual == "post" else "mlp_norm"
    return normalise(layer_params[norm], config, attended + x)


def mlp_hidden(
    layer_params: Params, config: Config, inputs: Activations
) -> Float[Array, "batch n d_ff"]:
    """The input of fc_out, from mlp_inputs: act(fc_in), or act(fc_gate) * fc_in."""
    up = apply_linear(layer_params["fc_in"], inputs)
    if not config.gated:
        return _ACTIVATIONS[config.activation](up)
    return _ACTIVATIONS[config.activation](apply_linear(layer_params["fc_gate"], inputs)) * up


def _sum(
    layer_params: Params,
    config: Config,
    x: Activations,
    attended: Activations,
    inputs: Activations,
    added: Activations,
) -> Activations:
    """The layer's output, from what the feed-forward read (inputs) and adds."""
    if config.residual == "post":
        return normalise(layer_params["mlp_norm"], config, added + inputs)
    return added + attended + x if config.residual == "parallel" else added + (attended + x)


def after_attention(
    layer_params: Params, config: Config, x: Activations, attended: Activations
) -> Activations:
    """The layer's output from its input x and attention's output, at the same positions."""
    inputs = mlp_inputs(layer_params, config, x, attended)
    added = apply_linear(layer_params["fc_out"], mlp_hidden(layer_params, config, inputs))
    return _sum(layer_params, config, x, attended, inputs, added)


@functools.partial(jax.jit, static_argnames="config")
def layer(
    layer_params: Params,
    config: Config,
    x: Activations,
    context: Context,
    at: Int[Array, "batch n"] | None = None,
) -> Float[Array, "batch n d_model"]:
    """One layer: the residual stream after it, at all positions or only at `at`.

    config is Config.of_layer. Raises ValueError where layers have windows of their own and
    it is not.
    """
    attended = attention(layer_params, config, x, context, at)
    return after_attention(layer_params, config, x if at is None else gather(x, at), attended)


@functools.partial(jax.jit, static_argnames=("config", "name"))
def enter(
    layer_params: Params,
    config: Config,
    name: str,
    x: Activations,
    context: Context,
    at: Int[Array, "batch n"] | None = None,
) -> tuple[Float[Array, "batch read d_in"], Any]:
    """What a matrix of the layer reads when the layer's input is x, and the rest for `leave`.

    With `at` only the layer's outputs at those positions are wanted, and so are the inputs,
    except those of k_proj and v_proj, which are read everywhere.
    """
    here = x if at is None else gather(x, at)
    if name not in ("out_proj", *_FEED_FORWARD):
        everywhere = at is None or name in READ_EVERYWHERE
        return attention_inputs(layer_params, config, x if everywhere else here), (x,)
    if name == "out_proj":
        inputs = attention_inputs(layer_params, config, x)
        return mixed_values(layer_params, config, inputs, context, at), (x,)
    attended = attention(layer_params, config, x, context, at)
    inputs = mlp_inputs(layer_params, config, here, attended)
    if name == "fc_out":
        return mlp_hidden(layer_params, config, inputs), (here, attended, None)
    # The other factor of a gated product is not changed by a cut of this one.
    other = None
    if config.gated and name == "fc_in":
        gate = apply_linear(layer_params["fc_gate"], inputs)
        other = _ACTIVATIONS[config.activation](gate)
    elif config.gated:
        other = apply_linear(layer_params["fc_in"], inputs)
    return inputs, (here, attended, other)


@functools.partial(jax.jit, static_argnames=("config", "name"))
def leave(
    layer_params: Params,
    config: Config,
    name: str,
    outputs: Float[Array, "batch read d_out"],
    rest: Any,
    context: Context,
    at: Int[Array, "batch n"] | None = None,
) -> Float[Array, "batch n d_model"]:
    """The stream after the layer whose matrix `name` returns `outputs`, before its bias."""
    linear = layer_params[name]
    outputs = add_bias(linear, outputs)
    if name not in _FEED_FORWARD:
        # A matrix of rank zero whose bias is the output, position by position, gives any
        # output whatever its input; what only fed the matrix is then dead code.
        d_in = linear.get("kernel", linear.get("kernel_in")).shape[0]
        fixed = {
            "kernel_in": jnp.zeros((d_in, 0), outputs.dtype),
            "kernel_out": jnp.zeros((0, outputs.shape[-1]), outputs.dtype),
            "bias": outputs,
        }
        return layer({**layer_params, name: fixed}, config, rest[0], context, at)
    here, attended, other = rest
    if name != "fc_out":
        act = _ACTIVATIONS[config.activation]
        hidden = outputs if name == "fc_in" and other is not None else act(outputs)
        hidden = hidden if other is None else hidden * other
        outputs = apply_linear(layer_params["fc_out"], hidden)
    inputs = mlp_inputs(layer_params, config, here, attended)
    return _sum(layer_params, config, here, attended, inputs, outputs)


@functools.partial(jax.jit, static_argnames="config")
def matrix_inputs(
    layer_params: Params, config: Config, x: Activations, context: Context
) -> dict[str, Float[Array, "batch length _"]]:
    """What each of the matrices of a layer reads when the layer's input is x."""
    return {name: enter(layer_params, config, name, x, context)[0] for name in config.matrices}


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def first_stream(
    params: Params,
    config: Config,
    tokens: Int[Array, "batch n"],
    positions: Int[Array, "batch n"],
    dtype: str | None = None,
) -> Activations:
    """The residual stream before layer 0, in dtype (default: that of the parameters)."""
    embedding = params["embed_in"]["embedding"]
    x = embedding[tokens].astype(dtype or embedding.dtype)
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
    stop: int | None = None,
    at: Int[Array, "batch n"] | None = None,
) -> Float[Array, "batch n d_model"]:
    """The residual stream after layers start, ..., stop - 1, from the stream x before them.

    `at` restricts the last of these layers to those positions of each sequence.
    """
    chosen = range(config.num_layers)[start:stop]
    for index in chosen:
        here = at if index == chosen[-1] else None
        x = layer(params["layers"][index], config.of_layer(index), x, context, here)
    return x if chosen or at is None else gather(x, at)


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
        jnp.einsum, precision=_precision(), preferred_element_type=jnp.float32
    )
    head = params.get("embed_out", {})
    if "kernel" in head:
        logits = product("bnd,dv->bnv", x, head["kernel"].astype(x.dtype))
    else:
        logits = product("bnd,vd->bnv", x, params["embed_in"]["embedding"].astype(x.dtype))
    return add_bias(head, logits)


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

    mask is true at real tokens (default: all). dtype is that of the activations.
    """
    context = context_of(jnp.ones(tokens.shape, bool) if mask is None else mask)
    # Only what the two ends read goes in, so that `layers` is not flattened again.
    outer = outer_params(params)
    x = first_stream(outer, config, tokens, context.positions, dtype)
    return final_logits(outer, config, run_layers(params, config, x, context, at=at))


def residual_streams(
    params: Params,
    config: Config,
    tokens: Int[Array, "batch length"],
    mask: Bool[Array, "batch length"] | None = None,
    dtype: str | None = None,
) -> list[Activations]:
    """The stream before each layer and, last, after all of them (before the final norm)."""
    context = context_of(jnp.ones(tokens.shape, bool) if mask is None else mask)
    streams = [first_stream(outer_params(params), config, tokens, context.positions, dtype)]
    for index, layer_params in enumerate(params["layers"]):
        streams.append(layer(layer_params, config.of_layer(index), streams[-1], context))
    return streams
