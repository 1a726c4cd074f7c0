"""The architecture of one language model: its sizes, and of which parts a layer is made.

One frozen Config describes every family; bridge.families reads it from Hugging Face's
config.json and writes it back, bridge.network computes what it says. The defaults are those
of GPT-NeoX (Pythia), so that bridge.Config(vocab_size=..., ...) is a small Pythia.
"""

import dataclasses
import functools
import math
from typing import Any, Literal, get_args

Residual = Literal["parallel", "pre", "post"]
NormKind = Literal["layer", "rms"]
Activation = Literal["gelu", "gelu_tanh", "silu", "relu"]
NormPlace = Literal["before", "after", "both"]
QueryNorm = Literal["", "heads", "whole"]

# Above any model ever trained; a claim beyond them is damage, and would exhaust memory
# before a tensor is read.
_LARGEST = {
    "vocab_size": 2**22,
    "num_layers": 1024,
    "d_model": 2**17,
    "num_heads": 2**12,
    "d_ff": 2**20,
    "max_positions": 2**24,
}
# One value, or one per layer.
_BY_LAYER = ("windows", "score_scales", "rope_bases", "rope_factors")
ALL_BIASES = ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out")


@dataclasses.dataclass(frozen=True)
class Llama3Rope:
    """Llama 3.1's frequencies: slow ones divided by factor, fast ones kept, a ramp between.

    With t = clip((original f / 2 pi - low) / (high - low), 0, 1) a frequency f becomes
    t f + (1 - t) f / factor.
    """

    factor: float
    low: float
    high: float
    original: int


@dataclasses.dataclass(frozen=True)
class LongRope:
    """Phi-3's frequencies: f_i / short_i, or f_i / long_i for texts longer than original.

    Cosines and sines are multiplied by `scale`, for short texts too.
    """

    short: tuple[float, ...]
    long: tuple[float, ...]
    original: int
    scale: float


@dataclasses.dataclass(frozen=True)
class Config:
    """Shapes, topology and constants of a model; hashable, so it may be static under jit.

    num_groups   key and value heads (None: num_heads); query head j reads group
                 j // (num_heads / num_groups)
    head_size    dimensions of a head (None: d_model / num_heads)
    residual     parallel: x + attention(n) + feed-forward(n'); pre: the feed-forward reads
                 attention's result; post: as in BERT, norms stand after the sums
    shared_norm  the feed-forward of a parallel layer reads attention's norm
    gated        the feed-forward is fc_out(activation(fc_gate x) * fc_in x)
    biases       the matrices that have one; head_bias: the unembedding's
    windows      () for none, one for all layers, or one per layer with 0 for none: a token
                 sees itself and the window - 1 before it
    norm_place   before a part of a layer reads the stream; after, of what it adds (OLMo 2); both
                 (Gemma 2 and 3)
    norm_offset  a norm multiplies by its scale plus this: 1 in Gemma's
    query_norm   queries and keys are normalised before they are rotated: each head by itself, or
                 all of them as one vector
    embed_scale  embeddings are multiplied by it, rounded to their dtype
    score_scales what scores are multiplied by (None: 1 / sqrt(head_dim)); one for all layers, or
                 one each
    score_cap, logit_cap  c tanh(x / c) of scores and of logits, 0 for none
    rope_bases   () for rotary_base everywhere, or one base for each layer, 0 for no rotation
    rope_factors () for none, or by what each layer's positions are divided
    masked       RoBERTa's: attention both ways, a norm of the embeddings, a head with a
                 layer of its own; token_types rows, of which row 0 is added everywhere
    pad_id       RoBERTa's padding; positions start at pad_id + 1

    rotary_fraction of each head's dimensions are rotated, halves against each other, at
    angles position * rotary_base^(-2i / rotary_dim), changed by rope_scaling; where it is 0,
    positions are learned. Raises ValueError for sizes that do not fit together.
    """

    vocab_size: int
    num_layers: int
    d_model: int
    num_heads: int
    d_ff: int
    max_positions: int = 2048
    rotary_fraction: float = 0.25
    rotary_base: float = 10000.0
    rope_scaling: Llama3Rope | LongRope | None = None
    norm_eps: float = 1e-5
    residual: Residual = "parallel"
    tied_embeddings: bool = False
    family: str = "gpt_neox"
    num_groups: int | None = None
    head_size: int | None = None
    shared_norm: bool = False
    norm: NormKind = "layer"
    activation: Activation = "gelu"
    gated: bool = False
    biases: tuple[str, ...] = ALL_BIASES
    head_bias: bool = False
    windows: tuple[int, ...] = ()
    norm_place: NormPlace = "before"
    norm_offset: float = 0.0
    query_norm: QueryNorm = ""
    embed_scale: float = 1.0
    score_scales: tuple[float, ...] = ()
    score_cap: float = 0.0
    logit_cap: float = 0.0
    rope_bases: tuple[float, ...] = ()
    rope_factors: tuple[float, ...] = ()
    masked: bool = False
    token_types: int = 0
    pad_id: int | None = None

    def __post_init__(self) -> None:
        for name, largest in _LARGEST.items():
            _check_size(name, getattr(self, name), largest)
        self._check_heads()
        self._check_rotation()
        for name, kinds in (
            ("residual", Residual), ("norm", NormKind), ("activation", Activation),
            ("norm_place", NormPlace), ("query_norm", QueryNorm),
        ):  # fmt: skip
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(f"{name} is {getattr(self, name)!r}; known are {get_args(kinds)}")
        for name in ("rotary_base", "norm_eps"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}; expected a positive finite number")
        for name in ("windows", "score_scales", "rope_bases", "rope_factors"):
            if len(getattr(self, name)) not in (0, 1, self.num_layers):
                found = len(getattr(self, name))
                raise ValueError(f"{name} are {found}; expected 0, 1 or one per layer")
        numbers = (
            *(self.norm_offset, self.embed_scale, self.score_cap, self.logit_cap),
            *self.score_scales, *self.rope_bases, *self.rope_factors,
        )  # fmt: skip
        if not all(math.isfinite(value) and value >= 0 for value in numbers):
            raise ValueError("norm_offset, scales, caps and ropes must be finite and not negative")
        if not all(self.rope_factors):
            raise ValueError("rope_factors must be positive")
        for window in self.windows:
            if type(window) is not int or not 0 <= window <= _LARGEST["max_positions"]:
                raise ValueError(f"window is {window!r}; expected a number of tokens")
        if self.pad_id is not None and not 0 <= self.pad_id < self.vocab_size:
            raise ValueError(f"pad_id is {self.pad_id}; expected 0 to {self.vocab_size - 1}")

    def _check_heads(self) -> None:
        if self.num_groups is not None:
            _check_size("num_groups", self.num_groups, self.num_heads)
            if self.num_heads % self.num_groups:
                raise ValueError(
                    f"num_heads {self.num_heads} is not a multiple of num_groups {self.num_groups}"
                )
        if self.head_size is not None:
            _check_size("head_size", self.head_size, _LARGEST["d_model"])
        elif self.d_model % self.num_heads:
            raise ValueError(
                f"d_model {self.d_model} is not a multiple of num_heads {self.num_heads}"
            )
        # One spelling of each architecture, so that equal ones compare equal.
        if self.num_groups == self.num_heads:
            object.__setattr__(self, "num_groups", None)
        if self.head_size is not None and self.head_size * self.num_heads == self.d_model:
            object.__setattr__(self, "head_size", None)

    def _check_rotation(self) -> None:
        if not 0 <= self.rotary_fraction <= 1:
            raise ValueError(f"rotary_fraction is {self.rotary_fraction}; expected in [0, 1]")
        if self.rotary_fraction and (self.rotary_dim < 2 or self.rotary_dim % 2):
            raise ValueError(
                f"rotary_fraction {self.rotary_fraction} of head size {self.head_dim} rotates "
                f"{self.rotary_dim} dimensions; expected a positive even number"
            )
        if isinstance(self.rope_scaling, LongRope):
            for name in ("short", "long"):
                found = len(getattr(self.rope_scaling, name))
                if found != self.rotary_dim // 2:
                    raise ValueError(
                        f"the rope has {found} {name} factors; expected {self.rotary_dim // 2}, "
                        "one per rotated pair of dimensions"
                    )

    @property
    def head_dim(self) -> int:
        """Dimensions of one attention head."""
        return self.head_size or self.d_model // self.num_heads

    @property
    def groups(self) -> int:
        """Key and value heads."""
        return self.num_groups or self.num_heads

    @property
    def rotary_dim(self) -> int:
        """Leading dimensions of each head that are rotated."""
        # The nudge undoes the rounding of fractions that were formed as r / head_dim.
        return int(self.head_dim * self.rotary_fraction + 1e-6)

    @property
    def learned_positions(self) -> bool:
        """Whether a position is a row of a table that is added to the embedding."""
        return self.rotary_fraction == 0

    @property
    def position_offset(self) -> int:
        """The row of the position table that the first real token reads."""
        return 0 if self.pad_id is None else self.pad_id + 1

    @property
    def matrices(self) -> tuple[str, ...]:
        """The weight matrices of a layer, in the order in which a layer applies them."""
        gate = ("fc_gate",) if self.gated else ()
        return ("q_proj", "k_proj", "v_proj", "out_proj", *gate, "fc_in", "fc_out")

    @property
    def products(self) -> tuple[str, ...]:
        """The products of a layer's matrices that can be cut as one: ov, with values per head.

        Heads that share values multiply them by output matrices of their own, so that no one
        matrix says what a layer copies.
        """
        return ("ov",) if self.groups == self.num_heads else ()

    def matrix_shape(self, matrix: str) -> tuple[int, int]:
        """(d_in, d_out) of a matrix of a layer."""
        wide, narrow = self.num_heads * self.head_dim, self.groups * self.head_dim
        return {
            "q_proj": (self.d_model, wide),
            "k_proj": (self.d_model, narrow),
            "v_proj": (self.d_model, narrow),
            "out_proj": (wide, self.d_model),
            "fc_in": (self.d_model, self.d_ff),
            "fc_gate": (self.d_model, self.d_ff),
            "fc_out": (self.d_ff, self.d_model),
            "ov": (self.d_model, self.d_model),
        }[matrix]

    @property
    def score_scale(self) -> float:
        """What the scores of the layer that of_layer chose are multiplied by."""
        if len(self.score_scales) > 1:
            raise ValueError("layers have scales of their own: use config.of_layer(index)")
        return self.score_scales[0] if self.score_scales else self.head_dim**-0.5

    def of_layer(self, layer: int) -> "Config":
        """What one layer must know: this, with the layer's own values in place of all layers'.

        Layers with equal windows, scales and ropes get equal Configs, so that one compilation
        serves them.
        """
        own = tuple(
            (name, getattr(self, name)[layer]) for name in _BY_LAYER if len(getattr(self, name)) > 1
        )
        return _with_own(self, own) if own else self

    @property
    def window(self) -> int | None:
        """The window of the layer that of_layer chose; ValueError where layers differ."""
        if len(self.windows) > 1:
            raise ValueError("layers have windows of their own: use config.of_layer(index)")
        return self.windows[0] or None if self.windows else None


@functools.lru_cache(maxsize=256)
def _with_own(config: Config, own: tuple[tuple[str, float | int], ...]) -> Config:
    # No window is no window; a base of zero is a layer without rotation.
    values: dict[str, Any] = {
        name: () if name == "windows" and not value else (value,) for name, value in own
    }
    return dataclasses.replace(config, **values)


def _check_size(name: str, value: object, largest: int) -> None:
    if type(value) is not int or not 1 <= value <= largest:
        raise ValueError(f"{name} is {value!r}; expected an integer from 1 to {largest}")
