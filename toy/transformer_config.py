"""Shapes and options of the recall Transformer (toy/transformer.py)."""

import dataclasses
from typing import Literal, get_args

FeedForward = Literal["none", "linear", "mlp", "linear_mlp", "relu"]
Positions = Literal["gaussian", "sinusoidal", "learned", "rotary", "none"]

# The matrices of each kind of feed-forward, in the order they are applied.
_INNER: dict[str, tuple[str, ...]] = {
    "none": (),
    "linear": ("fc_in",),
    "mlp": ("fc_in", "fc_out"),
    "linear_mlp": ("fc_in", "fc_out"),
    "relu": ("fc_in",),
}


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Shapes and options; hashable, so that it names a compiled function.

    feed_forward: one entry per layer, and so the number of layers:
        none, linear (h W_in), mlp (relu(h W_in) W_out), linear_mlp (h W_in W_out, two matrices
        without a ReLU), relu (relu(h W_in), one matrix).
    d_hidden: width of an MLP; 0 means 4 d_model.
    attention, activation: from scores to the pattern, and the nonlinearity where `relu` stands
        above; names or import paths (toy/parts.py).
    positions: added to the embeddings, or rotary: queries and keys turn with their position.
    identity_value: W_V is the identity and not learned. diagonal_value: where positive, W_V is the
        diagonal i^-diagonal_value, i from 1 to d_model, and not learned either.
    scaled_scores: scores are divided by sqrt(d_model / num_heads).
    scaled_embeddings: embeddings and positions start with variance 1/d_model instead of 1.
    scaled_logits: logits are divided by sqrt(d_model).
    tied_output: the unembedding is the transposed embedding.
    parallel: attention and feed-forward both read the stream that enters the layer.
    layer_norm: attention, feed-forward and unembedding read (x - mean) / deviation, no gains.
    last_residual: off, a last layer without feed-forward passes its attention on alone.
    frozen: LAYER.MATRIX names that stay at their initial values, as "0.k_proj";
        "embeddings" and "unembedding" are frozen unless named in `trained`.
    """

    vocab_size: int
    length: int
    d_model: int = 128
    d_hidden: int = 0
    feed_forward: tuple[FeedForward, ...] = ("mlp", "mlp")
    num_heads: int = 1
    positions: Positions = "gaussian"
    attention: str = "softmax"
    activation: str = "relu"
    learned_query: bool = False
    identity_value: bool = False
    diagonal_value: float = 0.0
    scaled_scores: bool = True
    scaled_embeddings: bool = False
    scaled_logits: bool = False
    tied_output: bool = False
    parallel: bool = False
    layer_norm: bool = False
    attention_residual: bool = True
    feed_forward_residual: bool = True
    last_residual: bool = True
    frozen: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(self.vocab_size, self.length, self.d_model) < 1 or self.d_hidden < 0:
            raise ValueError("vocab_size, length and d_model must be positive, d_hidden at least 0")
        if not self.feed_forward:
            raise ValueError("feed_forward needs one entry per layer, it is empty")
        for kind in self.feed_forward:
            if kind not in _INNER:
                raise ValueError(f"feed_forward {kind!r} is none of {', '.join(_INNER)}")
        if self.positions not in get_args(Positions):
            kinds = ", ".join(get_args(Positions))
            raise ValueError(f"positions {self.positions!r} is none of {kinds}")
        if self.num_heads < 1 or self.d_model % self.num_heads:
            raise ValueError(
                f"num_heads is {self.num_heads}, it must divide d_model = {self.d_model}"
            )
        if self.identity_value and self.diagonal_value:
            raise ValueError("identity_value and diagonal_value exclude each other")
        if self.diagonal_value < 0:
            raise ValueError(f"diagonal_value is {self.diagonal_value}, it must not be negative")
        if self.positions == "rotary" and (self.d_model // self.num_heads) % 2:
            raise ValueError("rotary positions need an even d_model / num_heads")
        if self.parallel and not (self.attention_residual and self.feed_forward_residual):
            raise ValueError("parallel layers add both blocks to the stream: keep both residuals")
        known = {
            f"{layer}.{name}" for layer in range(self.num_layers) for name in self.names(layer)
        }
        for name in self.frozen:
            if name not in known:
                raise ValueError(f"frozen names {name!r}; known are {' '.join(sorted(known))}")
        for name in self.trained:
            if name not in ("embeddings", "unembedding"):
                raise ValueError(f"trained names {name!r}; known are embeddings unembedding")
        if self.tied_output and "unembedding" in self.trained:
            raise ValueError("tied_output has no unembedding of its own to be trained")

    @property
    def num_layers(self) -> int:
        """One per entry of feed_forward."""
        return len(self.feed_forward)

    @property
    def hidden_size(self) -> int:
        """Width of a feed-forward's hidden layer."""
        return self.d_hidden or 4 * self.d_model

    @property
    def learned_value(self) -> bool:
        """Whether W_V is a matrix of its own."""
        return not self.identity_value and not self.diagonal_value

    def feed_forward_names(self, layer: int) -> tuple[str, ...]:
        """The matrices of a layer's feed-forward, in the order they are applied."""
        return _INNER[self.feed_forward[layer]]

    def names(self, layer: int) -> tuple[str, ...]:
        """The matrices of a layer, in the order they are applied."""
        query = ("q_proj",) if self.learned_query else ()
        value = ("v_proj",) if self.learned_value else ()
        return (*query, "k_proj", *value, "out_proj", *self.feed_forward_names(layer))

    def shape(self, layer: int, name: str) -> tuple[int, int]:
        """[d_in, d_out] of a matrix."""
        square = (self.d_model, self.d_model)
        if len(self.feed_forward_names(layer)) < 2:
            return square
        return {
            "fc_in": (self.d_model, self.hidden_size),
            "fc_out": (self.hidden_size, self.d_model),
        }.get(name, square)
