"""One layer of the recall Transformer: the formulas that toy/network.py runs.

    h  = x + Attn(x),   Attn(x)_t = sum_{s <= t} softmax_s(x_t W_Q (x_s W_K)^T / sqrt d) x_s W_V W_O
    x' = h + FF(h)

and the options of transformer_config.py. Matrices that follow each other are multiplied once,
since products associate: scores are (x (W_Q W_K^T)) x^T, attention gives (A x)(W_V W_O) for its
pattern A, and the last feed-forward matrix of all becomes W_out W_U. That costs a product of two
matrices once and saves one of them at every position. A hook on one of two matrices keeps them
apart. A leaf of the weights may be an array, thin factors or have a bias (truncation/linear.py).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from truncated_weights.toy import parts
from truncated_weights.toy.transformer_config import TransformerConfig
from truncated_weights.truncation import linear
from truncated_weights.truncation.address import Key

Weights = dict[str, Any]
# hook(inputs, apply) -> outputs stands where a matrix is applied: it may record the inputs,
# change them, call apply, change the outputs, or replace them without calling apply at all.
Hook = Callable[[Array, Callable[[Array], Array]], Array]
Hooks = Mapping[Key, Hook]
NO_HOOKS: Hooks = {}
_RELU = ("mlp", "relu")
# Where the last layer is wanted; everywhere where None.
Positions = Int[Array, "batch scored"] | None


class Pattern(NamedTuple):
    """Attention of consecutive groups of queries, each over the keys it can see.

    A group is [batch, heads, queries, keys] over the first `keys` positions: later ones are
    in the future of the whole group.
    """

    groups: tuple[Float[Array, "batch heads _ _"], ...]

    def mix(self, values: Float[Array, "batch length heads d"]) -> Array:
        """Attention-weighted means of values, [batch, queries, heads, d]."""
        means = [
            jnp.einsum("bhqs,bshd->bqhd", group, values[:, : group.shape[-1]])
            for group in self.groups
        ]
        return means[0] if len(means) == 1 else jnp.concatenate(means, axis=1)

    def whole(self, length: int) -> Float[Array, "batch queries length"]:
        """One array over all keys, averaged over heads."""
        padded = [
            jnp.pad(group.mean(axis=1), ((0, 0), (0, 0), (0, length - group.shape[-1])))
            for group in self.groups
        ]
        return jnp.concatenate(padded, axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """One layer of the forward, part by part.

    x -> pattern -> gather -> attention_output -> add_attention: h
    h -> feed_forward_input -> inner -> from_inner -> add_feed_forward: x of the next layer
    """

    config: TransformerConfig
    weights: Weights
    index: int
    hooks: Hooks

    @property
    def is_last(self) -> bool:
        """Whether the unembedding reads what this layer gives."""
        return self.index == self.config.num_layers - 1

    @property
    def _matrices(self) -> Weights:
        return self.weights["layers"][self.index]

    def _apply(self, name: str, inputs: Array) -> Array:
        hook = self.hooks.get((self.index, name))
        if hook is None:
            return self._multiply(name, inputs)
        return hook(inputs, functools.partial(self._multiply, name))

    def _multiply(self, name: str, inputs: Array) -> Array:
        return _rows(lambda x: linear.apply(self._matrices[name], x), inputs)

    def _foldable(self, name: str) -> bool:
        hooked = (self.index, name) in self.hooks
        return not hooked and not isinstance(self._matrices[name], Mapping)

    def _read(self, x: Array) -> Array:
        return normalise(x) if self.config.layer_norm else x

    def pattern(self, x: Float[Array, "batch length d"], positions: Positions) -> Pattern:
        """The attention pattern of the queries at `positions`, of all where None."""
        config, length = self.config, x.shape[1]
        x = self._read(x)
        query = take(x, positions)
        if config.learned_query:
            query = self._apply("q_proj", query)
        scale = 1 / math.sqrt(config.d_model // config.num_heads) if config.scaled_scores else 1.0
        rotary = config.positions == "rotary"
        hooked = (self.index, "k_proj") in self.hooks
        leaf = self._matrices["k_proj"]
        biased = config.attention != "softmax" and isinstance(leaf, Mapping) and "bias" in leaf
        if config.num_heads == 1 and not rotary and not hooked and not biased:
            # x_t W_Q W_K^T once per query spares a projection of every key. A bias on the keys
            # would shift all scores of a query alike, which the softmax does not see.
            query, keys = _times_keys(self._matrices["k_proj"], query, scale), x
        else:
            query, keys = query * scale, self._apply("k_proj", x)
        query, keys = self._split(query), self._split(keys)
        times = jnp.arange(length)[None]
        where = times if positions is None else positions
        if rotary:
            query, keys = _rotate(query, where), _rotate(keys, times)
        if positions is not None or length < 2:
            return Pattern((self._attend(query, keys, where),))
        # The first half of the queries sees no key of the second: a quarter of the work.
        half = length // 2
        early = self._attend(query[:, :half], keys[:, :half], where[:, :half])
        return Pattern((early, self._attend(query[:, half:], keys, where[:, half:])))

    def _attend(
        self,
        query: Float[Array, "batch queries heads d"],
        keys: Float[Array, "batch length heads d"],
        where: Int[Array, "_ queries"],
    ) -> Float[Array, "batch heads queries length"]:
        scores = jnp.einsum("bqhd,bshd->bhqs", query, keys)
        causal = jnp.arange(keys.shape[1])[None, None] <= where[:, :, None]
        return parts.attention(self.config.attention)(scores, causal[:, None])

    def _split(self, x: Array) -> Float[Array, "batch _ heads d_head"]:
        return x.reshape(*x.shape[:2], self.config.num_heads, -1)

    def gather(
        self, pattern: Pattern, x: Float[Array, "batch length d"]
    ) -> Float[Array, "batch _ d"]:
        """The attention-weighted mean at each query, which `attention_output` projects.

        One head: of the stream itself, A x, because (A x) W_V = A (x W_V) and W_V is then applied
        at the queries alone. Several heads: of their values.
        """
        x = self._read(x)
        if self.config.num_heads > 1:
            return self.mix(self._value(x), pattern)
        return pattern.mix(x[:, :, None])[:, :, 0]

    def mix(self, values: Float[Array, "batch length d"], pattern: Pattern) -> Array:
        """Attention-weighted means of several heads, each of its own part of the values."""
        mixed = pattern.mix(self._split(values))
        return mixed.reshape(*mixed.shape[:2], -1)

    def attention_output(self, gathered: Float[Array, "batch _ d"]) -> Float[Array, "batch _ d"]:
        """What attention adds to the stream: gathered W_V W_O of one head, W_O of several."""
        hook = self.hooks.get((self.index, "ov"))
        return self._project(gathered) if hook is None else hook(gathered, self._project)

    def _project(self, gathered: Float[Array, "batch _ d"]) -> Array:
        config = self.config
        if config.num_heads > 1:
            return self._apply("out_proj", gathered)
        if config.learned_value and self._foldable("v_proj") and self._foldable("out_proj"):
            folded = self._matrices["v_proj"] @ self._matrices["out_proj"]
            return _rows(lambda x: x @ folded, gathered)
        return self._apply("out_proj", self._value(gathered))

    def _value(self, x: Float[Array, "batch _ d"]) -> Float[Array, "batch _ d"]:
        if self.config.learned_value:
            return self._apply("v_proj", x)
        return scale_by_diagonal(self.config, x)

    def through_value(self, columns: Float[Array, "d _"]) -> Float[Array, "d _"]:
        """W_V columns: columns that multiply the values, as what multiplies the stream."""
        if not self.config.learned_value:
            return scale_by_diagonal(self.config, columns.T).T
        return jnp.matmul(self._matrices["v_proj"], columns, precision=linear.PRECISE)

    def add_attention(self, x: Array, attention: Array) -> Array:
        """The residual stream after attention."""
        alone = self.is_last and self.config.feed_forward[self.index] == "none"
        if not self.config.attention_residual or (alone and not self.config.last_residual):
            return attention
        return x + attention

    @property
    def last_matrix(self) -> str | None:
        """The matrix that the feed-forward ends in, if it ends in one."""
        names = self.config.feed_forward_names(self.index)
        return names[-1] if names and self.config.feed_forward[self.index] != "relu" else None

    def inner(self, h: Float[Array, "*batch d"]) -> Float[Array, "*batch _"]:
        """What the last matrix of the feed-forward multiplies: d or d_hidden numbers a row.

        Without a last matrix (none, relu) it is h or the output itself.
        """
        if self.config.feed_forward[self.index] in ("none", "linear"):
            return self._read(h)
        return self.nonlinearity(self.fc_in_output(h))

    def fc_in_output(self, h: Float[Array, "*batch d"]) -> Float[Array, "*batch d_hidden"]:
        """What fc_in gives, in a feed-forward that does not end in it."""
        return self._apply("fc_in", self._read(h))

    def nonlinearity(self, hidden: Float[Array, "*batch _"]) -> Float[Array, "*batch _"]:
        """The nonlinearity, where the feed-forward has one."""
        if self.config.feed_forward[self.index] not in _RELU:
            return hidden
        return parts.activation(self.config.activation)(hidden)

    def from_inner(self, inner: Float[Array, "*batch _"]) -> Float[Array, "*batch d"]:
        """The feed-forward output from what `inner` gave; zero where the layer has none."""
        if self.config.feed_forward[self.index] == "none":
            return jnp.zeros_like(inner)
        return inner if self.last_matrix is None else self._apply(self.last_matrix, inner)

    def feed_forward(self, h: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
        """The feed-forward output."""
        return self.from_inner(self.inner(h))

    def add_feed_forward(self, h: Array, feed: Array) -> Array:
        """The residual stream after the feed-forward; a layer without one passes on."""
        kind = self.config.feed_forward[self.index]
        return h + feed if kind == "none" or self.config.feed_forward_residual else feed

    def feed_forward_input(self, rows: Array, h: Array) -> Array:
        """The stream that the feed-forward reads: before attention where parallel, else after."""
        return rows if self.config.parallel else h

    def unembed(self, h: Array, inner: Array, feed: Array) -> Float[Array, "*batch vocab"]:
        """Logits of the last layer: h before its feed-forward, inner and feed of it.

        inner is what `inner` gave and feed what `from_inner` made of that; feed is not read, and
        under jit not computed, where the last matrix is multiplied into W_U.
        """
        config, out = self.config, unembedding(self.config, self.weights)
        hooked = (self.index, self.last_matrix) in self.hooks
        if hooked or config.layer_norm or not self._folds:
            stream = self._read(self.add_feed_forward(h, feed))
            return _rows(lambda x: x @ out, stream)
        written = self.feed_forward_logits(inner)
        return self.residual_logits(h) + written if config.feed_forward_residual else written

    def feed_forward_logits(self, inner: Array) -> Float[Array, "*batch vocab"]:
        """FF(h) W_U: what the feed-forward adds to the logits, before any normalisation.

            (inner W_out) W_U = inner (W_out W_U)

        The product in brackets on the right costs d_hidden d vocab once, and each row then
        d_hidden vocab instead of d_hidden d + d vocab: less where the vocabulary is no larger
        than the width, which is when it is made.
        """
        out, last = unembedding(self.config, self.weights), self.last_matrix
        if last is None or not self._folds:
            return _rows(lambda x: x @ out, self.from_inner(inner))
        folded = linear.followed_by(self._matrices[last], out)
        return _rows(lambda x: linear.apply(folded, x), inner)

    def residual_logits(self, h: Array) -> Float[Array, "*batch vocab"]:
        """h W_U: logits of what the residual connection carries past the feed-forward.

        Zero where there is no such connection; before any normalisation.
        """
        if not self.config.feed_forward_residual:
            return jnp.zeros((*h.shape[:-1], self.config.vocab_size), h.dtype)
        out = unembedding(self.config, self.weights)
        return _rows(lambda x: x @ out, h)

    @property
    def _folds(self) -> bool:
        return self.last_matrix is not None and self.config.vocab_size <= self.config.d_model


def unembedding(config: TransformerConfig, weights: Weights) -> Float[Array, "d vocab"]:
    """W_U as it is applied: tied and scaled where the options say so."""
    out = weights["embed"].T if config.tied_output else weights["unembed"]
    return out / math.sqrt(config.d_model) if config.scaled_logits else out


def scale_by_diagonal(
    config: TransformerConfig, x: Float[Array, "*batch d"]
) -> Float[Array, "*batch d"]:
    """x W_V where W_V is not learned: the identity, or a falling diagonal."""
    if not config.diagonal_value:
        return x
    diagonal = jnp.arange(1, config.d_model + 1, dtype=x.dtype) ** -config.diagonal_value
    return _rows(lambda x: x * diagonal[None], x)


def take(x: Float[Array, "batch length d"], positions: Positions) -> Float[Array, "batch _ d"]:
    """The rows of x at `positions`, all of them where None."""
    if positions is None:
        return x
    return jnp.take_along_axis(x, positions[:, :, None], axis=1)


def normalise(x: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """Each row less its mean, over its standard deviation (plus 1e-5 in the variance)."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)


def _times_keys(keys: linear.Leaf, query: Array, scale: float) -> Array:
    """query W_K^T times scale, through the factors where W_K is stored as factors."""
    if isinstance(keys, Mapping) and "kernel_in" in keys:
        out = keys["kernel_out"].T * scale
        return _rows(lambda x: (x @ out) @ keys["kernel_in"].T, query)
    return _rows(lambda x: x @ (linear.dense(keys).T * scale), query)


def _rotate(
    x: Float[Array, "batch queries heads d"], where: Int[Array, "_ queries"]
) -> Float[Array, "batch queries heads d"]:
    """Turn the pair (x_i, x_{i + d/2}) at position t by the angle t 10000^(-2 i / d)."""
    half = x.shape[-1] // 2
    rates = 10_000.0 ** (-jnp.arange(half) / half)
    angles = where[:, :, None, None] * rates[None, None, None]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second = x[..., :half], x[..., half:]
    turned = [first * cos - second * sin, first * sin + second * cos]
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def _rows(function: Callable[[Array], Array], x: Array) -> Array:
    # Flattened, because the gradient of a product over several leading axes makes XLA's CPU
    # backend transpose the activations, which costs as much as the product.
    flat = function(x.reshape(-1, x.shape[-1]))
    return flat.reshape(*x.shape[:-1], flat.shape[-1])
