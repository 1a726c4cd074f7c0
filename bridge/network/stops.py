"""One layer, stopped in front of any of its matrices and resumed from any output of it.

With W the matrix `name` of a layer, x the stream that enters the layer, W' any matrix of its shape:

    inputs, rest = stop(layer_params, config, name, x, context)
    resume(layer_params, config, name, inputs W', rest, context) = the layer with W' in place of W

so that for all W' what lies in front of the matrix is computed once. Both functions are made of
those of bridge/network/one_layer.py: no equation of a layer stands twice.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from truncated_weights.bridge.config import Config
from truncated_weights.bridge.network.one_layer import (
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
# the two, so that the sum has no one input: a layer is stopped behind it.
_STOPPED_BEHIND = "ov"
_FEED_FORWARD = ("fc_in", "fc_gate", "fc_out")


def without_bias(linear: Params) -> Params:
    """The parameters of a linear map without its bias."""
    return {name: value for name, value in linear.items() if name != "bias"}


@functools.partial(jax.jit, static_argnames=("config", "name"))
def stop(
    layer_params: Params,
    config: Config,
    name: str,
    x: Activations,
    context: Context,
    at: Int[Array, "rows n"] | None = None,
) -> tuple[Float[Array, "_ _ d_in"], Any]:
    """What the matrix `name` multiplies where x enters the layer, and the rest for `resume`.

    at: the columns of each row where the layer's output is needed; inputs are then given there
    alone, except those of k_proj and v_proj (READ_EVERYWHERE), which every query reads. Of ov what
    is given is its output before the bias (truncation.address.SummedProductAddress).
    """
    if name == _STOPPED_BEHIND:
        mixed, rest = stop(layer_params, config, "out_proj", x, context, at)
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
def resume(
    layer_params: Params,
    config: Config,
    name: str,
    outputs: Float[Array, "_ _ d_out"],
    rest: Any,
    context: Context,
    at: Int[Array, "rows n"] | None = None,
) -> Float[Array, "_ _ d_model"]:
    """The stream after the layer, as if its matrix `name` gave `outputs` before its bias.

    rest: from `stop` of the same name and `at`. Attention runs again where a matrix of it was
    stopped at; of the feed-forward only what stands behind the matrix does.
    """
    name = "out_proj" if name == _STOPPED_BEHIND else name
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
