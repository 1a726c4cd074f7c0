"""The Transformer of noisy in-context recall: one head, no norm, no biases, frozen embeddings.

    x^0_t = E[z_t] + P_t
    h = x + softmax_s(x_t W_Q (x_s W_K)^T / sqrt d, s <= t) x W_V W_O
    x' = h + FF(h),   FF(h) = 0, h W_in, or relu(h W_in) W_out
    logits = x^L W_U

E, P ~ N(0, 1) and W_U ~ U(-1/sqrt d, 1/sqrt d) stay as drawn; W_Q is the identity unless it
is learned; learned matrices start U(-1/sqrt d_in, 1/sqrt d_in). Bietti et al., "Birth of a
Transformer" (2023); Chen, Bruna and Bietti (2025).

Two forwards of the same function: `__call__` is the text above, every position, one matrix
at a time; `at` gives the logits at chosen positions only and does no other work in the last
layer. They agree to float precision.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from toy.transformer_config import TransformerConfig as TransformerConfig
from truncation import intervention

# hook(layer, matrix, inputs, outputs) -> outputs, called where each matrix is applied
Hook = Callable[[int, str, Array, Array], Array]
Weights = dict[str, Any]


class Frozen(nnx.Variable):
    """A weight that stays as drawn."""


class Trace(NamedTuple):
    """What a forward computed at the chosen positions; what nobody reads costs nothing.

    contributions: what each block added to the residual stream: embedding, then attention
    and feed-forward of each layer (num_layers * 2 + 1 arrays). With both residual connections
    on they sum to what the unembedding reads. patterns: attention, over all positions below
    the last layer, of the chosen positions in it.
    """

    logits: Float[Array, "batch scored vocab"]
    contributions: tuple[Float[Array, "batch scored d_model"], ...]
    patterns: tuple[Float[Array, "batch _ length"], ...]


class Layer(nnx.Module):
    """Attention and feed-forward of one layer; it has the matrices that its config names."""

    q_proj: nnx.Variable
    k_proj: nnx.Variable
    v_proj: nnx.Variable
    out_proj: nnx.Variable
    fc_in: nnx.Variable
    fc_out: nnx.Variable

    def __init__(self, config: TransformerConfig, index: int, rngs: nnx.Rngs):
        self.config, self.index = config, index
        for name in config.names(index):
            shape = config.shape(index, name)
            kind = Frozen if f"{index}.{name}" in config.frozen else nnx.Param
            setattr(self, name, kind(_uniform(rngs.params(), shape, shape[0])))

    def attend(
        self, x: Float[Array, "batch length d"], positions: Int[Array, "batch scored"] | None
    ) -> tuple[Float[Array, "batch _ d"], Float[Array, "batch _ length"]]:
        """Attention output and pattern at `positions` (all where None), folding products.

        Scores are (x_t W_Q W_K^T) x_s: one projection of the queries, none of the keys.
        Values are (sum_s a_ts x_s) (W_V W_O): one projection where a result is wanted.
        """
        query = x if positions is None else _take(x, positions)
        if self.config.learned_query:
            query = _linear(query, self.q_proj[...])
        pulled = _linear(query, self.k_proj[...].T / math.sqrt(self.config.d_model))
        length = x.shape[1]
        if positions is None and length > 1:
            # The first half of the queries sees no key of the second: a quarter of the work.
            half = length // 2
            times = jnp.arange(length)[None]
            early, below = _mix(pulled[:, :half], x[:, :half], times[:, :half])
            late, beside = _mix(pulled[:, half:], x, times[:, half:])
            mixed = jnp.concatenate([early, late], axis=1)
            unseen = ((0, 0), (0, 0), (0, length - half))
            pattern = jnp.concatenate([jnp.pad(below, unseen), beside], axis=1)
        else:
            where = jnp.arange(length)[None] if positions is None else positions
            mixed, pattern = _mix(pulled, x, where)
        return _linear(mixed, self.v_proj[...] @ self.out_proj[...]), pattern

    def feed(self, h: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
        """The feed-forward output, zero where the layer has none."""
        kind = self.config.feed_forward[self.index]
        if kind == "none":
            return jnp.zeros_like(h)
        if kind == "linear":
            return _linear(h, self.fc_in[...])
        return _linear(jax.nn.relu(_linear(h, self.fc_in[...])), self.fc_out[...])

    def add_attention(self, x: Array, attention: Array) -> Array:
        """The residual stream after attention."""
        return x + attention if self.config.attention_residual else attention

    def add_feed_forward(self, h: Array, feed: Array) -> Array:
        """The residual stream after the feed-forward; a layer without one passes on."""
        if self.config.feed_forward[self.index] == "none" or self.config.feed_forward_residual:
            return h + feed
        return feed

    def __call__(self, x: Float[Array, "batch length d"], hook: Hook) -> Array:
        """The whole layer at every position, each matrix applied by itself."""

        def linear(name: str, inputs: Array) -> Array:
            return hook(self.index, name, inputs, inputs @ getattr(self, name)[...])

        query = linear("q_proj", x) if self.config.learned_query else x
        keys, values = linear("k_proj", x), linear("v_proj", x)
        scores = jnp.einsum("bqd,bsd->bqs", query, keys) / math.sqrt(self.config.d_model)
        causal = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        pattern = jax.nn.softmax(jnp.where(causal[None], scores, -jnp.inf), axis=-1)
        h = self.add_attention(x, linear("out_proj", jnp.einsum("bqs,bsd->bqd", pattern, values)))
        kind = self.config.feed_forward[self.index]
        feed = jnp.zeros_like(h)
        if kind == "linear":
            feed = linear("fc_in", h)
        elif kind == "mlp":
            feed = linear("fc_out", jax.nn.relu(linear("fc_in", h)))
        return self.add_feed_forward(h, feed)


class Transformer(nnx.Module):
    """See the head of this file."""

    def __init__(self, config: TransformerConfig, rngs: nnx.Rngs):
        self.config = config
        d_model, vocab_size = config.d_model, config.vocab_size
        embedding = nnx.Param if "embeddings" in config.trained else Frozen
        unembedding = nnx.Param if "unembedding" in config.trained else Frozen
        self.embed = embedding(jax.random.normal(rngs.params(), (vocab_size, d_model)))
        position = nnx.Param if config.positions == "learned" else Frozen
        self.position = position(_positions(rngs.params(), config))
        self.unembed = unembedding(_uniform(rngs.params(), (d_model, vocab_size), d_model))
        self.layers = nnx.List([Layer(config, i, rngs) for i in range(config.num_layers)])

    def enter(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length d"]:
        """x^0."""
        return self.embed[...][tokens] + self.position[...][None, : tokens.shape[1]]

    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        hook: Hook = lambda layer, name, inputs, outputs: outputs,
    ) -> Float[Array, "batch length vocab"]:
        """Logits at every position, in the plain formulation.

        hook(layer, matrix, inputs, outputs) sees, and may replace, what each matrix gives.
        """
        x = self.enter(tokens)
        for layer in self.layers:
            x = layer(x, hook)
        return x @ self.unembed[...]

    def prefix(
        self, tokens: Int[Array, "batch length"], layer: int
    ) -> Float[Array, "batch length d"]:
        """The residual stream that enters `layer`: all that layers below it decide."""
        x = self.enter(tokens)
        for below in self.layers[:layer]:
            h = below.add_attention(x, below.attend(x, None)[0])
            x = below.add_feed_forward(h, below.feed(h))
        return x

    def at(
        self, tokens: Int[Array, "batch length"], positions: Int[Array, "batch scored"]
    ) -> Trace:
        """The forward at chosen positions only."""
        return self.suffix(self.enter(tokens), 0, positions)

    def suffix(
        self, x: Float[Array, "batch length d"], layer: int, positions: Int[Array, "batch scored"]
    ) -> Trace:
        """From the stream entering `layer` to the logits at `positions`.

        contributions begin with that stream instead of the embedding where layer > 0.
        """
        contributions, patterns = [_take(x, positions)], []
        for below in self.layers[layer:-1]:
            attention, pattern = below.attend(x, None)
            h = below.add_attention(x, attention)
            feed = below.feed(h)
            x = below.add_feed_forward(h, feed)
            contributions += [_take(attention, positions), _take(feed, positions)]
            patterns.append(pattern)
        last = self.layers[-1]
        attention, pattern = last.attend(x, positions)
        h = last.add_attention(_take(x, positions), attention)
        feed = last.feed(h)
        logits = last.add_feed_forward(h, feed) @ self.unembed[...]
        return Trace(logits, (*contributions, attention, feed), (*patterns, pattern))


def init(config: TransformerConfig, key: PRNGKeyArray) -> tuple[Weights, Weights]:
    """Draw the weights: (trained, frozen), two pure dicts of arrays."""
    states: Any = nnx.split(Transformer(config, nnx.Rngs(key)), nnx.Param, ...)
    return nnx.to_pure_dict(states[1]), nnx.to_pure_dict(states[2])


@functools.lru_cache(maxsize=64)
def _graphdef(config: TransformerConfig) -> Any:
    return nnx.split(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))[0]


def bind(config: TransformerConfig, weights: Weights) -> Transformer:
    """The module over these weights (trained and frozen together, see combine)."""
    return nnx.merge(_graphdef(config), weights)


def combine(params: Weights, frozen: Weights) -> Weights:
    """Trained and frozen weights as one tree: what interventions and probes work on."""
    merged = dict(frozen)
    for key, value in params.items():
        merged[key] = combine(value, frozen[key]) if key in frozen else value
    return merged


def matrices(config: TransformerConfig) -> dict[intervention.Key, intervention.Address]:
    """Where every matrix lives in the combined weights, bottom layer first; ov comes last."""
    addresses: dict[intervention.Key, intervention.Address] = {}
    for layer in range(config.num_layers):
        for name in config.names(layer):
            addresses[layer, name] = intervention.at_path("layers", layer, name)
        addresses[layer, "ov"] = intervention.product(
            addresses[layer, "v_proj"], addresses[layer, "out_proj"], ("v_proj", "out_proj")
        )
    return addresses


def _mix(
    pulled: Float[Array, "batch queries d"],
    x: Float[Array, "batch length d"],
    positions: Int[Array, "_ queries"],
) -> tuple[Float[Array, "batch queries d"], Float[Array, "batch queries length"]]:
    """What queries at these positions attend to of x, and their attention pattern."""
    scores = jnp.einsum("bqd,bsd->bqs", pulled, x)
    causal = jnp.arange(x.shape[1])[None, None] <= positions[:, :, None]
    pattern = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf), axis=-1)
    return jnp.einsum("bqs,bsd->bqd", pattern, x), pattern


def _linear(x: Float[Array, "*batch d_in"], weight: Float[Array, "d_in d_out"]) -> Array:
    # Flattened, because the gradient of a product over several leading axes makes XLA's CPU
    # backend transpose the activations, which costs as much as the product.
    flat = x.reshape(-1, x.shape[-1]) @ weight
    return flat.reshape(*x.shape[:-1], weight.shape[-1])


def _take(x: Float[Array, "batch length d"], positions: Int[Array, "batch scored"]) -> Array:
    return jnp.take_along_axis(x, positions[:, :, None], axis=1)


def _uniform(key: PRNGKeyArray, shape: tuple[int, int], fan_in: int) -> Array:
    bound = 1 / math.sqrt(fan_in)
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def _positions(key: PRNGKeyArray, config: TransformerConfig) -> Float[Array, "length d"]:
    shape = (config.length, config.d_model)
    if config.positions == "none":
        return jnp.zeros(shape)
    if config.positions == "sinusoidal":
        half = (config.d_model + 1) // 2
        rates = 10_000.0 ** (-jnp.arange(half) / half)
        angles = jnp.arange(config.length)[:, None] * rates[None]
        # sqrt 2 gives the unit variance that the other embeddings have.
        both = math.sqrt(2) * jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)
        return both[:, : config.d_model]
    return jax.random.normal(key, shape)
