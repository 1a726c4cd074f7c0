"""Shapes and options of the recall Transformer (toy/transformer.py)."""

import dataclasses
from typing import Literal

FeedForward = Literal["none", "linear", "mlp"]
Positions = Literal["gaussian", "sinusoidal", "learned", "none"]


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Shapes and options; hashable, so that it names a compiled function.

    feed_forward: one entry per layer, and so the number of layers. d_hidden 0 means
    4 d_model. frozen: LAYER.MATRIX names that stay at their initial values, as "0.k_proj";
    "embeddings" and "unembedding" are frozen unless named in `trained`.
    """

    vocab_size: int
    length: int
    d_model: int = 128
    d_hidden: int = 0
    feed_forward: tuple[FeedForward, ...] = ("mlp", "mlp")
    positions: Positions = "gaussian"
    learned_query: bool = False
    attention_residual: bool = True
    feed_forward_residual: bool = True
    frozen: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(self.vocab_size, self.length, self.d_model) < 1 or self.d_hidden < 0:
            raise ValueError("vocab_size, length and d_model must be positive, d_hidden at least 0")
        if not self.feed_forward:
            raise ValueError("feed_forward needs one entry per layer, it is empty")
        for kind in self.feed_forward:
            if kind not in ("none", "linear", "mlp"):
                raise ValueError(f"feed_forward {kind!r} is none of none, linear, mlp")
        known = {
            f"{layer}.{name}" for layer in range(self.num_layers) for name in self.names(layer)
        }
        for name in self.frozen:
            if name not in known:
                raise ValueError(f"frozen names {name!r}; known are {' '.join(sorted(known))}")
        for name in self.trained:
            if name not in ("embeddings", "unembedding"):
                raise ValueError(f"trained names {name!r}; known are embeddings unembedding")

    @property
    def num_layers(self) -> int:
        """One per entry of feed_forward."""
        return len(self.feed_forward)

    @property
    def hidden_size(self) -> int:
        """Width of a feed-forward's hidden layer."""
        return self.d_hidden or 4 * self.d_model

    def names(self, layer: int) -> tuple[str, ...]:
        """The matrices of a layer, in the order they are applied."""
        query = ("q_proj",) if self.learned_query else ()
        inner = {"none": "", "linear": "fc_in", "mlp": "fc_in fc_out"}[self.feed_forward[layer]]
        return (*query, "k_proj", "v_proj", "out_proj", *inner.split())

    def shape(self, layer: int, name: str) -> tuple[int, int]:
        """[d_in, d_out] of a matrix; a linear feed-forward is a square fc_in."""
        square = (self.d_model, self.d_model)
        if self.feed_forward[layer] == "linear":
            return square
        return {
            "fc_in": (self.d_model, self.hidden_size),
            "fc_out": (self.hidden_size, self.d_model),
        }.get(name, square)
