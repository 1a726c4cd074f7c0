"""A layer stopped in front of any of its matrices, and gone on with from that one's output.

`enter` runs a layer up to what a matrix reads; `leave` goes on from whatever the matrix is said
to return. What lies below a cut is then never computed twice, and what a matrix reads is there
to be looked at. Both are uses of bridge.network.one_layer.py: nothing of a layer is written again.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bridge.config import Config
from bridge.network.one_layer import (
    Activations,
    Context,
    Params,
    activate,
    add_bias,
    apply_linear,
    attention,
    attention_inputs,
    layer,
    layer_sum,
    mixed_values,
    mlp_hidden,
    mlp_inputs,
)

READ_EVERYWHERE = ("k_proj", "v_proj")
# The sum over heads of v_proj times out_proj. Every head mixes positions in its own way between
# the two, so nothing stands in front of it: a layer stops behind it.
BEHIND = "ov"
_FEED_FORWARD = ("fc_in", "fc_gate", "fc_out")


def without_bias(linear: Params) -> Params:
    """The matrix alone."""
    return {name: value for name, value in linear.items() if name != "bias"}


@functools.partial(jax.jit, static_argnames=("config", "name"))
def enter(
    layer_params: Params,
    config: Config,
    name: str,
    x: Activations,
    context: Context,
    at: Int[Array, "rows n"] | None = None,
) -> tuple[Float[Array, "_ _ d_in"], Any]:
    """What a matrix of the layer reads when the layer's input is x, and the rest for `leave`.

    With `at` only the layer's outputs at those positions are wanted, and so are the inputs,
    except those of k_proj and v_proj, which are read everywhere. Of ov it is what ov returns
    that is given, before the bias (truncation.address.SummedProductAddress).
    """
    if name == BEHIND:
        mixed, rest = enter(layer_params, config, "out_proj", x, context, at)
        return apply_linear(without_bias(layer_params["out_proj"]), mixed), rest
    here = x if at is None else context.gather(x, at)
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
        other = activate(config, apply_linear(layer_params["fc_gate"], inputs))
    elif config.gated:
        other = apply_linear(layer_params["fc_in"], inputs)
    return inputs, (here, attended, other)


@functools.partial(jax.jit, static_argnames=("config", "name"))
def leave(
    layer_params: Params,
    config: Config,
    name: str,
    outputs: Float[Array, "_ _ d_out"],
    rest: Any,
    context: Context,
    at: Int[Array, "rows n"] | None = None,
) -> Float[Array, "_ _ d_model"]:
    """The stream after the layer whose matrix `name` returns `outputs`, before its bias."""
    name = "out_proj" if name == BEHIND else name
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
        hidden = outputs if name == "fc_in" and other is not None else activate(config, outputs)
        hidden = hidden if other is None else hidden * other
        outputs = apply_linear(layer_params["fc_out"], hidden)
    inputs = mlp_inputs(layer_params, config, here, attended)
    return layer_sum(layer_params, config, here, attended, inputs, outputs)
