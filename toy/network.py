"""The forward of the recall Transformer, written once, over plain weights.

    x^0_t = E[z_t] + P_t,   x^{l+1} = layer l (toy/layer.py),   logits = x^L W_U

`run` is all of it; `below` and `onward` are its two halves, cut between any two layers; `stop`
and `go_on` cut it in front of any matrix; `lead`, `settle` and `resume` run weights that differ
from one matrix on. All take the weights as one tree (trained and frozen together,
transformer.combine), the positions at which the last layer is wanted, which does no other work
(None: everywhere), and hooks {(layer, matrix): hook} that record or replace what a matrix reads
and gives:

    def hook(inputs, apply): return 0 * apply(inputs)       # this matrix gives nothing
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from toy.layer import NO_HOOKS, Hooks, Layer, Positions, Weights, take
from toy.transformer_config import TransformerConfig
from truncation import linear
from truncation.address import Key


class Stage(NamedTuple):
    """One layer of a forward, up to each of its parts; see `lead`.

    x: the stream entering it. rows: x where the layer is wanted. gathered: what attention brings
    there (Layer.gather). h: after attention. inner: what the last matrix of its feed-forward reads.
    """

    x: Float[Array, "batch length d"]
    rows: Float[Array, "batch _ d"]
    gathered: Float[Array, "batch _ d"]
    h: Float[Array, "batch _ d"]
    inner: Float[Array, "batch _ _"]


# Which part of a layer applies a matrix.
_LOOKS = ("q_proj", "k_proj")
_MOVES = ("v_proj", "out_proj", "ov")


class Trace(NamedTuple):
    """What a forward computed at the chosen positions; under jit, what nobody reads is free.

    contributions: what each block added to the residual stream: embedding (or the stream that
    entered the first layer run), then attention and feed-forward of each layer. With all residual
    connections on they sum to what the unembedding reads.
    patterns: attention of each layer run, over all positions below the last layer, of the
    chosen positions in it; averaged over heads.
    """

    logits: Float[Array, "batch _ vocab"]
    contributions: tuple[Float[Array, "batch _ d_model"], ...]
    patterns: tuple[Float[Array, "batch _ length"], ...]


def enter(
    config: TransformerConfig, weights: Weights, tokens: Int[Array, "batch length"]
) -> Float[Array, "batch length d"]:
    """x^0: what the first layer reads.

    Raises AssertionError at trace time for weights of another configuration.
    """
    # Weights of another run would broadcast or be clamped into a wrong answer without a word.
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
    """The whole forward."""
    return onward(config, weights, enter(config, weights, tokens), 0, positions, hooks)


def below(
    config: TransformerConfig,
    weights: Weights,
    tokens: Int[Array, "batch length"],
    layer: int,
    hooks: Hooks = NO_HOOKS,
) -> Float[Array, "batch length d"]:
    """The residual stream that enters `layer`: all that layers below it decide."""
    x = enter(config, weights, tokens)
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
    h = here.add_attention(x, here.move(here.gather(here.look(x, None), x)))
    return here.add_feed_forward(h, here.feed(here.reads(x, h)))


def onward(
    config: TransformerConfig,
    weights: Weights,
    x: Float[Array, "batch length d"],
    layer: int,
    positions: Positions = None,
    hooks: Hooks = NO_HOOKS,
) -> Trace:
    """From the stream entering `layer` to the logits at `positions`."""
    return walk(config, weights, x, layer, positions, hooks)[0]


def walk(
    config: TransformerConfig,
    weights: Weights,
    x: Float[Array, "batch length d"],
    layer: int,
    positions: Positions = None,
    hooks: Hooks = NO_HOOKS,
) -> tuple[Trace, tuple[Stage, ...]]:
    """`onward`, and what `lead` goes on from, for `layer` and each one above."""
    length, patterns, stages = x.shape[1], [], []
    contributions = [take(x, positions)]
    for index in range(layer, config.num_layers):
        here = Layer(config, weights, index, hooks)
        # Only the last layer is wanted at the positions alone.
        local = positions if here.is_last else None
        rows, pattern = take(x, local), here.look(x, local)
        gathered = here.gather(pattern, x)
        attention = here.move(gathered)
        h = here.add_attention(rows, attention)
        inner = here.open(here.reads(rows, h))
        feed = here.close(inner)
        stages.append(Stage(x, rows, gathered, h, inner))
        patterns.append(pattern.whole(length))
        if here.is_last:
            contributions += [attention, feed]
            logits = here.unembed(h, inner, feed)
        else:
            contributions += [take(attention, positions), take(feed, positions)]
            x = here.add_feed_forward(h, feed)
    return Trace(logits, tuple(contributions), tuple(patterns)), tuple(stages)


def part(config: TransformerConfig, key: Key) -> int:
    """How far into its layer a matrix comes: 0 gather, 1 move, 2 feed-forward, 3 its last matrix.

    Several heads mix what W_V gives, so that it belongs to what is gathered.
    """
    layer, name = key
    if name in _LOOKS or (name == "v_proj" and config.num_heads > 1):
        return 0
    if name in _MOVES:
        return 1
    return 3 if name == Layer(config, {}, layer, NO_HOOKS).last_matrix else 2


def lead(
    config: TransformerConfig, weights: Weights, stage: Stage, key: Key, positions: Positions
) -> Stage:
    """The last layer of other weights that differ in `key` and what comes after it, not before.

    stage is what these and the original weights have in common, from `walk` over the latter.
    """
    index, which = key[0], part(config, key)
    if which == 0:
        return walk(config, weights, stage.x, index, positions)[1][-1]
    here = Layer(config, weights, index, NO_HOOKS)
    h, inner = _after(here, stage, which)
    if here.is_last:
        return stage._replace(h=h, inner=inner)
    x = here.add_feed_forward(h, here.close(inner))
    return walk(config, weights, x, index + 1, positions)[1][-1]


def settle(config: TransformerConfig, weights: Weights, rows: Array, gathered: Array) -> Stage:
    """The last layer's stage from what it begins with, at any rows."""
    here = Layer(config, weights, config.num_layers - 1, NO_HOOKS)
    h = here.add_attention(rows, here.move(gathered))
    return Stage(rows, rows, gathered, h, here.open(here.reads(rows, h)))


def resume(
    config: TransformerConfig, weights: Weights, stage: Stage, which: int = 1
) -> Float[Array, "batch _ vocab"]:
    """Logits from the last layer's stage, of weights that differ from part `which` on; not 0."""
    here = Layer(config, weights, config.num_layers - 1, NO_HOOKS)
    h, inner = _after(here, stage, which)
    return here.unembed(h, inner, here.close(inner))


def _after(here: Layer, stage: Stage, which: int) -> tuple[Array, Array]:
    """h and inner of weights that differ from part `which` on."""
    h, inner = stage.h, stage.inner
    if which == 1:
        h = here.add_attention(stage.rows, here.move(stage.gathered))
    if which < 3:
        inner = here.open(here.reads(stage.rows, h))
    return h, inner


def _finish(here: Layer, h: Array, inner: Array, positions: Positions) -> Array:
    """From the feed-forward's last matrix of a layer to the logits."""
    feed = here.close(inner)
    if here.is_last:
        return here.unembed(h, inner, feed)
    x = here.add_feed_forward(h, feed)
    return onward(here.config, here.weights, x, here.index + 1, positions).logits


def stop(
    config: TransformerConfig,
    weights: Weights,
    key: Key,
    x: Float[Array, "batch length d"],
    positions: Positions,
) -> tuple[Array, Any]:
    """What the matrix `key` multiplies, and what `go_on` needs; x is the stream entering its layer.

    positions is for the last layer; a layer below is run everywhere.
    """
    index, name = key
    seen: list[Array] = []

    def record(inputs: Array, apply: Callable[[Array], Array]) -> Array:
        seen.append(inputs)
        return apply(inputs)

    here = Layer(config, weights, index, {key: record})
    positions = positions if here.is_last else None
    rows, pattern = take(x, positions), here.look(x, positions)
    if name in _LOOKS:
        return seen[0], x
    attention = here.move(here.gather(pattern, x))
    if name in _MOVES:
        # Several heads mix after W_V, so that going on from there needs the pattern again.
        return seen[0], (rows, pattern if name == "v_proj" and config.num_heads > 1 else None)
    h = here.add_attention(rows, attention)
    here.feed(here.reads(rows, h))
    return seen[0], (rows, h)


def go_on(
    config: TransformerConfig,
    weights: Weights,
    key: Key,
    outputs: Array,
    rest: Any,
    positions: Positions,
) -> Float[Array, "batch _ vocab"]:
    """Logits at `positions`, as if matrix `key` had returned `outputs` before its bias."""
    index, name = key
    here_only = positions if index == config.num_layers - 1 else None
    matrices = weights["layers"][index]
    for part in ("v_proj", "out_proj") if name == "ov" else (name,):
        leaf = matrices.get(part)
        if isinstance(leaf, Mapping) and "bias" in leaf:
            bias = leaf["bias"]
            if (name, part) == ("ov", "v_proj"):
                # A product's bias is what its two factors make of nothing.
                bias = bias @ linear.dense(matrices["out_proj"])
            outputs = outputs + jnp.broadcast_to(bias, outputs.shape)
    here = Layer(config, weights, index, {key: lambda inputs, apply: outputs})
    if name in _LOOKS:
        x = rest
        rows, pattern = take(x, here_only), here.look(x, here_only)
        h = here.add_attention(rows, here.move(here.gather(pattern, x)))
    elif name in _MOVES:
        rows, pattern = rest
        gathered = outputs if pattern is None else here.mix(outputs, pattern)
        h = here.add_attention(rows, here.move(gathered))
    else:
        rows, h = rest
    return _finish(here, h, here.open(here.reads(rows, h)), positions)
