"""The forward of the recall Transformer, written once, over plain weights.

    x^0_t = E[z_t] + P_t,   x^{l+1} = layer l (toy/layer.py),   logits = x^L W_U

`run` is all of it, tokens to logits. It stops and resumes between two layers, in front of a
matrix W, and, for weights edited from a matrix on, wherever the two forwards part:

    embed                           tokens -> x^0
    prefix                          tokens -> x^l, the stream that enters layer l
    suffix                          x^l -> logits
    stop, resume                    x^l -> (inputs of W, rest);   (any outputs of W, rest) -> logits
    suffix_and_stages, branch       x^l -> Stages;   Stage of a layer, edited weights -> last Stage
    last_stage, logits_from         start of the last layer -> its Stage;   Stage -> logits

All take the weights as one tree (trained and frozen together, transformer.combine), the positions
at which the last layer is wanted, which does no other work (None: everywhere), and hooks
{(layer, matrix): hook} that record or replace what a matrix reads and gives:

    def hook(inputs, apply): return 0 * apply(inputs)       # this matrix gives nothing
"""

import enum
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from truncated_weights.toy.layer import NO_HOOKS, Hooks, Layer, Positions, Weights, take
from truncated_weights.toy.transformer_config import TransformerConfig
from truncated_weights.truncation import linear
from truncated_weights.truncation.address import Key


class Part(enum.IntEnum):
    """The parts of a layer in the order they are run; `part_of` says which one a matrix is in."""

    PATTERN = 0
    """The attention pattern and its weighted mean: W_Q, W_K, and W_V of several heads."""
    OUTPUT = 1
    """What becomes of the weighted mean: W_O, and W_V of one head."""
    FEED_FORWARD = 2
    """The feed-forward up to its nonlinearity."""
    LAST_MATRIX = 3
    """The matrix that the feed-forward ends in, whose output is added to the stream."""


class Stage(NamedTuple):
    """What one layer of a forward computed at the entrance of each Part.

    x: the stream entering the layer. rows: x where the layer is wanted. gathered: the
    attention-weighted mean there (Layer.gather), which OUTPUT reads. h: the stream after attention.
    inner: what LAST_MATRIX reads (Layer.inner).
    """

    x: Float[Array, "batch length d"]
    rows: Float[Array, "batch _ d"]
    gathered: Float[Array, "batch _ d"]
    h: Float[Array, "batch _ d"]
    inner: Float[Array, "batch _ _"]


_PATTERN = ("q_proj", "k_proj")
_OUTPUT = ("v_proj", "out_proj", "ov")


class Trace(NamedTuple):
    """What a forward computed at the chosen positions; under jit, what is not read costs nothing.

    contributions: what each block added to the residual stream: embedding (or the stream that
    entered the first layer run), then attention and feed-forward of each layer. With all residual
    connections on they sum to what the unembedding reads.
    patterns: attention of each layer run, over all positions below the last layer, of the
    chosen positions in it; averaged over heads.
    """

    logits: Float[Array, "batch _ vocab"]
    contributions: tuple[Float[Array, "batch _ d_model"], ...]
    patterns: tuple[Float[Array, "batch _ length"], ...]


def embed(
    config: TransformerConfig, weights: Weights, tokens: Int[Array, "batch length"]
) -> Float[Array, "batch length d"]:
    """x^0, the stream that enters layer 0.

    Raises AssertionError at trace time for weights of another configuration.
    """
    # Weights of another run would broadcast or be clamped into a wrong answer without an error.
    chex.assert_rank(tokens, 2)
    chex.assert_shape(weights["embed"], (config.vocab_size, config.d_model))
    x = weights["embed"][tokens]
    if config.positions in ("none", "rotary"):
        return x
    return x + weights["position"][None, : tokens.shape[1]]


def run(
    config: TransformerConfig,
    weights: Weights,
    tokens: Int[Array, "batch length"],
    positions: Positions = None,
    hooks: Hooks = NO_HOOKS,
) -> Trace:
    """The whole forward, tokens to logits."""
    return suffix(config, weights, embed(config, weights, tokens), 0, positions, hooks)


def prefix(
    config: TransformerConfig,
    weights: Weights,
    tokens: Int[Array, "batch length"],
    layer: int,
    hooks: Hooks = NO_HOOKS,
) -> Float[Array, "batch length d"]:
    """The residual stream that enters `layer`, from the tokens."""
    x = embed(config, weights, tokens)
    for index in range(layer):
        x = step(config, weights, index, x, hooks)
    return x


def step(
    config: TransformerConfig,
    weights: Weights,
    index: int,
    x: Float[Array, "batch length d"],
    hooks: Hooks = NO_HOOKS,
) -> Float[Array, "batch length d"]:
    """The residual stream after one layer, at every position."""
    here = Layer(config, weights, index, hooks)
    h = here.add_attention(x, here.attention_output(here.gather(here.pattern(x, None), x)))
    return here.add_feed_forward(h, here.feed_forward(here.feed_forward_input(x, h)))


def suffix(
    config: TransformerConfig,
    weights: Weights,
    x: Float[Array, "batch length d"],
    layer: int,
    positions: Positions = None,
    hooks: Hooks = NO_HOOKS,
) -> Trace:
    """From the stream that enters `layer` to the logits at `positions`."""
    return suffix_and_stages(config, weights, x, layer, positions, hooks)[0]


def suffix_and_stages(
    config: TransformerConfig,
    weights: Weights,
    x: Float[Array, "batch length d"],
    layer: int,
    positions: Positions = None,
    hooks: Hooks = NO_HOOKS,
) -> tuple[Trace, tuple[Stage, ...]]:
    """`suffix`, and the Stage of `layer` and of each one above, from which `branch` goes on."""
    length, patterns, stages = x.shape[1], [], []
    contributions = [take(x, positions)]
    for index in range(layer, config.num_layers):
        here = Layer(config, weights, index, hooks)
        # Only the last layer is wanted at the positions alone.
        local = positions if here.is_last else None
        rows, pattern = take(x, local), here.pattern(x, local)
        gathered = here.gather(pattern, x)
        attention = here.attention_output(gathered)
        h = here.add_attention(rows, attention)
        inner = here.inner(here.feed_forward_input(rows, h))
        feed = here.from_inner(inner)
        stages.append(Stage(x, rows, gathered, h, inner))
        patterns.append(pattern.whole(length))
        if here.is_last:
            contributions += [attention, feed]
            logits = here.unembed(h, inner, feed)
        else:
            contributions += [take(attention, positions), take(feed, positions)]
            x = here.add_feed_forward(h, feed)
    return Trace(logits, tuple(contributions), tuple(patterns)), tuple(stages)


def part_of(config: TransformerConfig, key: Key) -> Part:
    """The part of its layer that applies a matrix.

    Several heads mix what W_V gives, so that it comes before the weighted mean.
    """
    layer, name = key
    if name in _PATTERN or (name == "v_proj" and config.num_heads > 1):
        return Part.PATTERN
    if name in _OUTPUT:
        return Part.OUTPUT
    is_last = name == Layer(config, {}, layer, NO_HOOKS).last_matrix
    return Part.LAST_MATRIX if is_last else Part.FEED_FORWARD


def branch(
    config: TransformerConfig, weights: Weights, stage: Stage, key: Key, positions: Positions
) -> Stage:
    """The last layer's Stage of edited weights, the first edited matrix being `key`.

    stage: of the layer of `key`, by `suffix_and_stages` of the original weights. What it holds up
    to that matrix is the same for both and not computed again.
    """
    index, part = key[0], part_of(config, key)
    if part == Part.PATTERN:
        return suffix_and_stages(config, weights, stage.x, index, positions)[1][-1]
    here = Layer(config, weights, index, NO_HOOKS)
    h, inner = _from_part(here, stage, part)
    if here.is_last:
        return stage._replace(h=h, inner=inner)
    x = here.add_feed_forward(h, here.from_inner(inner))
    return suffix_and_stages(config, weights, x, index + 1, positions)[1][-1]


def last_stage(config: TransformerConfig, weights: Weights, rows: Array, gathered: Array) -> Stage:
    """The last layer's Stage from what it begins with, at any rows [batch, rows, d]."""
    here = Layer(config, weights, config.num_layers - 1, NO_HOOKS)
    h = here.add_attention(rows, here.attention_output(gathered))
    return Stage(rows, rows, gathered, h, here.inner(here.feed_forward_input(rows, h)))


def logits_from(
    config: TransformerConfig, weights: Weights, stage: Stage, part: Part = Part.OUTPUT
) -> Float[Array, "batch _ vocab"]:
    """Logits of the last layer, run from `part` on; stage holds what was computed before it.

    part is not PATTERN, which reads all positions: `branch` is for that.
    """
    here = Layer(config, weights, config.num_layers - 1, NO_HOOKS)
    h, inner = _from_part(here, stage, part)
    return here.unembed(h, inner, here.from_inner(inner))


def _from_part(here: Layer, stage: Stage, part: Part) -> tuple[Array, Array]:
    """h and inner, computed again from `part` on."""
    h, inner = stage.h, stage.inner
    if part == Part.OUTPUT:
        h = here.add_attention(stage.rows, here.attention_output(stage.gathered))
    if part < Part.LAST_MATRIX:
        inner = here.inner(here.feed_forward_input(stage.rows, h))
    return h, inner


def _from_inner(here: Layer, h: Array, inner: Array, positions: Positions) -> Array:
    """Logits from what the last matrix of a layer's feed-forward reads."""
    feed = here.from_inner(inner)
    if here.is_last:
        return here.unembed(h, inner, feed)
    x = here.add_feed_forward(h, feed)
    return suffix(here.config, here.weights, x, here.index + 1, positions).logits


def stop(
    config: TransformerConfig,
    weights: Weights,
    key: Key,
    x: Float[Array, "batch length d"],
    positions: Positions,
) -> tuple[Array, Any]:
    """What the matrix `key` multiplies, and the rest that `resume` needs.

    x: the stream that enters its layer, from `prefix`. positions: where the last layer is run; the
    layers below are run everywhere.
    """
    index, name = key
    seen: list[Array] = []

    def record(inputs: Array, apply: Callable[[Array], Array]) -> Array:
        seen.append(inputs)
        return apply(inputs)

    here = Layer(config, weights, index, {key: record})
    positions = positions if here.is_last else None
    rows, pattern = take(x, positions), here.pattern(x, positions)
    if name in _PATTERN:
        return seen[0], x
    attention = here.attention_output(here.gather(pattern, x))
    if name in _OUTPUT:
        # Several heads mix after W_V, so that resuming there needs the pattern again.
        return seen[0], (rows, pattern if name == "v_proj" and config.num_heads > 1 else None)
    h = here.add_attention(rows, attention)
    here.feed_forward(here.feed_forward_input(rows, h))
    return seen[0], (rows, h)


def resume(
    config: TransformerConfig,
    weights: Weights,
    key: Key,
    outputs: Array,
    rest: Any,
    positions: Positions,
) -> Float[Array, "batch _ vocab"]:
    """Logits at `positions`, as if matrix `key` had returned `outputs` before its bias."""
    index, name = key
    local = positions if index == config.num_layers - 1 else None
    matrices = weights["layers"][index]
    for factor in ("v_proj", "out_proj") if name == "ov" else (name,):
        leaf = matrices.get(factor)
        if isinstance(leaf, Mapping) and "bias" in leaf:
            bias = leaf["bias"]
            if (name, factor) == ("ov", "v_proj"):
                # b_V W_O: the product maps x to (x W_V + b_V) W_O + b_O.
                bias = bias @ linear.dense(matrices["out_proj"])
            outputs = outputs + jnp.broadcast_to(bias, outputs.shape)
    here = Layer(config, weights, index, {key: lambda inputs, apply: outputs})
    if name in _PATTERN:
        x = rest
        rows, pattern = take(x, local), here.pattern(x, local)
        h = here.add_attention(rows, here.attention_output(here.gather(pattern, x)))
    elif name in _OUTPUT:
        rows, pattern = rest
        gathered = outputs if pattern is None else here.mix(outputs, pattern)
        h = here.add_attention(rows, here.attention_output(gathered))
    else:
        rows, h = rest
    return _from_inner(here, h, here.inner(here.feed_forward_input(rows, h)), positions)
