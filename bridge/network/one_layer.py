"""One layer of any family, and the parts that it is made of.

With n a norm's output a layer is

    parallel   x + attention(n x) + feed-forward(n' x)         n' is n where the norm is shared
    pre        y = x + attention(n x), y + feed-forward(n' y)
    post       y = n(x + attention x), n'(y + feed-forward y)

and where norms stand behind what a part adds (norm_place), with m and m' theirs,

    after      y = x + m attention(x), y + m' feed-forward(y)
    both       y = x + m attention(n x), y + m' feed-forward(n' y)

`layer` takes one layer's parameters and the Config.of_layer, so one compilation serves all
layers with the same window. In a parallel layer a change to the feed-forward leaves attention's
output as it was, so `attention` and `after_attention` are the two halves.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from truncated_weights.bridge.config import Config
from truncated_weights.bridge.families.angles import rotate

Params = Mapping[str, Any]
Activations = Float[Array, "batch length d_model"]
Heads = Float[Array, "batch length groups head_dim"]
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
}


class RowBlock(NamedTuple):
    """Some rows of a batch, cut off behind the longest of them, and the node at each place."""

    rows: Int[Array | np.ndarray, " block"]
    nodes: Int[Array | np.ndarray, "block shorter"]


class PrefixTree(NamedTuple):
    """The distinct beginnings of a batch's rows: places of one beginning have the same activations.

    A node is one beginning. nodes: the node at each place; at padding any. first: for each node
    a place that holds it, as row * length + column. blocks: the rows by their lengths, all of
    them, so that attention looks at less padding. in_blocks: for each node a place of the blocks
    that holds it, their places counted one block after another. See bridge/packing.py.
    """

    nodes: Int[Array | np.ndarray, "rows length"]
    first: Int[Array | np.ndarray, " nodes"]
    blocks: tuple[RowBlock, ...]
    in_blocks: Int[Array | np.ndarray, " nodes"]


class Context(NamedTuple):
    """What attention knows of a batch: where each token stands and which tokens are real.

    With a tree the stream is [1, nodes, d_model]: whatever looks at one place at a time runs
    once for each node, and only attention, where places meet, sees the rows.
    """

    positions: Int[Array, "rows length"]
    mask: Bool[Array, "rows length"]
    tree: PrefixTree | None = None

    @property
    def lengths(self) -> Int[Array, "rows 1"]:
        """How many real tokens each sequence has."""
        return jnp.sum(self.mask, axis=1, keepdims=True)

    def turn(self, x: Heads, config: Config) -> Heads:
        """Queries or keys at all places of the stream, rotated by the angles of where they stand.

        A node stands at one position, so what rows share is rotated once.
        """
        if self.tree is None:
            return rotate(x, self.positions, self.lengths, config)
        first, width = self.tree.first, self.mask.shape[1]
        positions, lengths = self.positions.reshape(-1)[first], self.lengths[first // width, 0]
        return rotate(x, positions[None], lengths[None], config)

    def spread(
        self, x: Float[Array, "1 nodes heads head_dim"], block: RowBlock
    ) -> Float[Array, "block shorter heads head_dim"]:
        """From nodes to the rows of a block."""
        heads = jnp.arange(x.shape[2])
        # Copied head by head, as attention multiplies them, so that nothing is copied once more;
        # and copied as they are: whatever is fused with a copy is computed element by element.
        places = block.nodes[:, None, :] * x.shape[2] + heads[None, :, None]
        (found,) = jax.lax.optimization_barrier((_take(x.reshape(-1, x.shape[-1]), places),))
        return jnp.moveaxis(found, 1, 2)

    def of(self, block: RowBlock) -> "Context":
        """What there is to know of the rows of a block."""
        rows, length = block.rows, block.nodes.shape[1]
        return Context(self.positions[rows, :length], self.mask[rows, :length])

    def collect(self, blocks: Sequence[Float[Array, "_ _ d"]]) -> Float[Array, "1 nodes d"]:
        """From the rows of every block to nodes: [block, shorter, d] -> [1, nodes, d]."""
        assert self.tree is not None
        places = jnp.concatenate([x.reshape(-1, x.shape[-1]) for x in blocks])
        return _take(places, self.tree.in_blocks)[None]

    def in_order(self, blocks: Sequence[Float[Array, "_ n d"]]) -> Float[Array, "rows n d"]:
        """The rows of every block in the order of the batch."""
        assert self.tree is not None
        rows = jnp.concatenate([block.rows for block in self.tree.blocks])
        return jnp.concatenate(blocks)[jnp.argsort(rows)]

    def gather(
        self, x: Float[Array, "_ _ d"], at: Int[Array, "rows n"]
    ) -> Float[Array, "rows n d"]:
        """x at the columns `at` of each row."""
        if self.tree is None:
            return gather(x, at)
        return jnp.take(x[0], jnp.take_along_axis(self.tree.nodes, at, axis=1), axis=0)


def _take(
    x: Float[Array, "n d"], places: Int[Array | np.ndarray, "*shape"]
) -> Float[Array, "*shape d"]:
    """Rows of x at places that a prefix tree gives, which are there: no bound is checked."""
    return x.at[places].get(mode="promise_in_bounds")


def context_of(mask: Bool[Array, "rows length"], tree: PrefixTree | None = None) -> Context:
    """Positions counted over the real tokens only, so padding on either side is the same."""
    return Context(jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0), mask, tree)


def gather(
    x: Float[Array, "batch length d"], at: Int[Array, "batch n"]
) -> Float[Array, "batch n d"]:
    """The rows of x at positions `at` of each sequence."""
    return jnp.take_along_axis(x, at[:, :, None], axis=1)


def precision() -> jax.lax.Precision | None:
    """The highest, or what the user asked JAX for."""
    asked = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return None if asked is not None else jax.lax.Precision.HIGHEST


def apply_linear(linear: Params, x: Float[Array, "*batch d_in"]) -> Float[Array, "*batch d_out"]:
    """x W + b with W = kernel, or kernel_in [d_in, r] kernel_out [r, d_out] when factored.

    The bias, if there is one, is [d_out], or has the shape of the result; its gradient is
    then the gradient with respect to this matrix's output, position by position.
    """
    names = ("kernel",) if "kernel" in linear else ("kernel_in", "kernel_out")
    for name in names:
        x = _product(x, linear[name].astype(x.dtype))
    return add_bias(linear, x)


def _product(x: Float[Array, "*batch a"], matrix: Float[Array, "a b"]) -> Float[Array, "*batch b"]:
    """x times the matrix, summed in float32 whatever the two are, in the dtype of x."""
    # Sums are float32 inside every product of halves. Asked for as such they cost a CPU a
    # quarter of the time: its fast products of halves return nothing narrower.
    wide = jnp.promote_types(x.dtype, jnp.float32) if jax.default_backend() == "cpu" else None
    found = jnp.matmul(x, matrix, precision=precision(), preferred_element_type=wide)
    return found.astype(x.dtype)


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
    scale = norm["scale"].astype(jnp.float32) + config.norm_offset
    normed = normed * jnp.broadcast_to(scale, x.shape)
    return add_bias(norm, normed).astype(x.dtype)


def soft_cap(x: Float[Array, "*shape"], cap: float) -> Float[Array, "*shape"]:
    """cap tanh(x / cap); x where the cap is 0."""
    return cap * jnp.tanh(x / cap) if cap else x


def _heads(linear: Params, x: Activations, count: int) -> Heads:
    return apply_linear(linear, x).reshape(*x.shape[:2], count, -1)


def attention_inputs(layer_params: Params, config: Config, x: Activations) -> Activations:
    """What q_proj, k_proj and v_proj read of the residual stream x."""
    if config.residual == "post" or config.norm_place == "after":
        return x
    return normalise(layer_params["attn_norm"], config, x)


def keys_and_values(
    layer_params: Params, config: Config, inputs: Activations
) -> tuple[Heads, Heads]:
    """Keys, not yet rotated, and values at every position of the inputs."""
    return (
        _normed(layer_params, config, "k", inputs),
        _heads(layer_params["v_proj"], inputs, config.groups),
    )


def queries(layer_params: Params, config: Config, inputs: Activations) -> Heads:
    """Queries, not yet rotated, at every position of the inputs."""
    return _normed(layer_params, config, "q", inputs)


def _normed(
    layer_params: Params, config: Config, which: Literal["q", "k"], inputs: Activations
) -> Heads:
    """Queries or keys, normalised where the family does so."""
    linear, count = layer_params[f"{which}_proj"], config.num_heads
    count = config.groups if which == "k" else count
    if config.query_norm == "whole":
        whole = normalise(layer_params[f"{which}_norm"], config, apply_linear(linear, inputs))
        return whole.reshape(*inputs.shape[:2], count, -1)
    heads = _heads(linear, inputs, count)
    return normalise(layer_params[f"{which}_norm"], config, heads) if config.query_norm else heads


def attend(
    config: Config,
    query: Float[Array, "batch n heads head_dim"],
    rows: Int[Array, "batch n"],
    keys: Heads,
    values: Heads,
    context: Context,
) -> Float[Array, "batch n width"]:
    """The input of out_proj: every head's mixture of values, heads side by side.

    query and keys are rotated; a query is asked at the columns `rows` of the context, keys and
    values are those of all its columns. Scores are q k times the layer's scale, capped where the
    family does so, over real tokens: the earlier ones and the token itself, within the window if
    there is one, or all if the model is masked.
    """
    batch, count = rows.shape
    positions = jnp.take_along_axis(context.positions, rows, axis=1)
    # Query heads side by side under the key head they share, so that no key is repeated.
    query = query.reshape(batch, count, config.groups, -1, config.head_dim)
    product = functools.partial(jnp.einsum, precision=precision())
    scores = product("bqghe,bkge->bghqk", query, keys, preferred_element_type=jnp.float32)
    scores = soft_cap(scores * config.score_scale, config.score_cap)
    visible = context.mask[:, None, :]
    if not config.masked:
        columns = jnp.arange(keys.shape[1])
        visible = visible & (columns[None, None] <= rows[:, :, None])
        if config.window is not None:
            oldest = positions[:, :, None] - config.window
            visible = visible & (context.positions[:, None, :] > oldest)
    # A row that sees nothing (left padding) must stay finite, so not minus infinity.
    scores = jnp.where(visible[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(query.dtype)
    # Heads in front and sums left wide: so a CPU multiplies these many small matrices faster.
    mixed = product("bghqk,bkge->bghqe", weights, values, preferred_element_type=jnp.float32)
    return jnp.moveaxis(mixed.astype(query.dtype), 3, 1).reshape(batch, count, -1)


def mixed_values(
    layer_params: Params,
    config: Config,
    inputs: Activations,
    context: Context,
    at: Int[Array, "rows n"] | None = None,
) -> Float[Array, "_ _ width"]:
    """The input of out_proj at all positions or only at `at`, from attention_inputs."""
    keys, values = keys_and_values(layer_params, config, inputs)
    keys = context.turn(keys, config)
    if at is None:
        query = context.turn(queries(layer_params, config, inputs), config)
    else:
        query = queries(layer_params, config, context.gather(inputs, at))
        where = jnp.take_along_axis(context.positions, at, axis=1)
        query = rotate(query, where, context.lengths, config)
    if context.tree is None:
        columns = _columns(context) if at is None else at
        return attend(config, query, columns, keys, values, context)
    # Every block by itself: in one rectangle most places would be padding behind short rows.
    blocks = []
    for block in context.tree.blocks:
        here = context.of(block)
        if at is None:
            asked, columns = context.spread(query, block), _columns(here)
        else:
            asked, columns = query[block.rows], at[block.rows]
        keys_here, values_here = context.spread(keys, block), context.spread(values, block)
        blocks.append(attend(config, asked, columns, keys_here, values_here, here))
    return context.collect(blocks) if at is None else context.in_order(blocks)


def _columns(context: Context) -> Int[Array, "rows length"]:
    return jnp.broadcast_to(jnp.arange(context.mask.shape[1]), context.mask.shape)


def attention(
    layer_params: Params,
    config: Config,
    x: Activations,
    context: Context,
    at: Int[Array, "rows n"] | None = None,
) -> Float[Array, "_ _ d_model"]:
    """What attention adds to the residual stream x, at all positions or only at `at`."""
    inputs = attention_inputs(layer_params, config, x)
    mixed = mixed_values(layer_params, config, inputs, context, at)
    return apply_linear(layer_params["out_proj"], mixed)


def activate(config: Config, x: Float[Array, "*batch d_ff"]) -> Float[Array, "*batch d_ff"]:
    """The feed-forward's activation, computed in float32 at least and rounded once."""
    # Step by step in bfloat16 every step would be rounded, which takes a CPU three times as long.
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return ACTIVATIONS[config.activation](wide).astype(x.dtype)


def mlp_inputs(
    layer_params: Params, config: Config, x: Activations, attended: Activations
) -> Activations:
    """What fc_in and fc_gate read, from the stream x and attention's output beside it."""
    if config.norm_place != "before":
        h = normalise(layer_params["attn_after"], config, attended) + x
        both = config.norm_place == "both"
        return normalise(layer_params["mlp_norm"], config, h) if both else h
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
        return activate(config, up)
    return activate(config, apply_linear(layer_params["fc_gate"], inputs)) * up


def layer_sum(
    layer_params: Params,
    config: Config,
    x: Activations,
    attended: Activations,
    inputs: Activations,
    added: Activations,
) -> Activations:
    """The layer's output, from what the feed-forward read (inputs) and adds."""
    if config.norm_place != "before":
        attended = normalise(layer_params["attn_after"], config, attended)
        added = normalise(layer_params["mlp_after"], config, added)
    if config.residual == "post":
        return normalise(layer_params["mlp_norm"], config, added + inputs)
    return added + attended + x if config.residual == "parallel" else added + (attended + x)


def after_attention(
    layer_params: Params, config: Config, x: Activations, attended: Activations
) -> Activations:
    """The layer's output from its input x and attention's output, at the same positions."""
    inputs = mlp_inputs(layer_params, config, x, attended)
    added = apply_linear(layer_params["fc_out"], mlp_hidden(layer_params, config, inputs))
    return layer_sum(layer_params, config, x, attended, inputs, added)


@functools.partial(jax.jit, static_argnames="config")
def layer(
    layer_params: Params,
    config: Config,
    x: Activations,
    context: Context,
    at: Int[Array, "rows n"] | None = None,
) -> Float[Array, "_ _ d_model"]:
    """One layer: the residual stream after it, at all positions or only at `at`.

    config is Config.of_layer. Raises ValueError where layers have windows of their own and
    it is not.
    """
    attended = attention(layer_params, config, x, context, at)
    here = x if at is None else context.gather(x, at)
    return after_attention(layer_params, config, here, attended)
