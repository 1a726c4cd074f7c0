"""The architecture of one GPT-NeoX model, read from and written to Hugging Face's config.json.

Two spellings exist and both are read: rotary_pct with rotary_emb_base, and
rope_parameters {partial_rotary_factor, rope_theta, rope_type}; torch_dtype and dtype.
A value this package would compute wrongly (another activation, another rope type, no
attention bias) and a key it does not know are refused by name, because a silent guess
would give plausible wrong logits.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from bridge.errors import CheckpointError
from bridge.formats import strict_json

# Keys of config.json that say nothing about the forward pass: housekeeping, generation
# defaults, labels, and dropout (a checkpoint is evaluated, never trained, with it).
IGNORED_KEYS = frozenset(
    """_name_or_path add_cross_attention architectures attention_dropout attn_implementation
    auto_map bad_words_ids begin_suppress_tokens bos_token_id chunk_size_feed_forward
    classifier_dropout cross_attention_hidden_size decoder_start_token_id diversity_penalty
    do_sample early_stopping encoder_no_repeat_ngram_size eos_token_id
    exponential_decay_length_penalty finetuning_task forced_bos_token_id
    forced_eos_token_id gradient_checkpointing hidden_dropout hidden_dropout_prob id2label
    initializer_range is_decoder is_encoder_decoder label2id length_penalty max_length
    min_length no_repeat_ngram_size num_beam_groups num_beams num_return_sequences
    output_attentions output_hidden_states output_scores pad_token_id prefix problem_type
    pruned_heads remove_invalid_values repetition_penalty return_dict
    return_dict_in_generate sep_token_id suppress_tokens task_specific_params temperature
    tf_legacy_loss tie_encoder_decoder tokenizer_class top_k top_p torchscript
    transformers_version typical_p use_bfloat16 use_cache""".split()  # noqa: SIM905
)
_NAMES = {
    "vocab_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "num_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "max_positions": "max_position_embeddings",
}
# Above any GPT-NeoX ever trained; a claim beyond them is damage, and would exhaust memory
# before a tensor is read.
_LARGEST = {
    "vocab_size": 2**22,
    "num_layers": 1024,
    "d_model": 2**17,
    "num_heads": 2**12,
    "d_ff": 2**20,
    "max_positions": 2**24,
}
_DTYPES = ("float32", "float16", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Config:
    """Shapes and constants of a GPT-NeoX model; hashable, so it may be static under jit.

    rotary_fraction of each head's dimensions are rotated, halves against each other, at
    angles position * rotary_base^(-2i / rotary_dim). parallel_residual adds attention and
    feed-forward of the same input; otherwise the feed-forward reads attention's result.
    Raises ValueError for sizes that do not fit together.
    """

    vocab_size: int
    num_layers: int
    d_model: int
    num_heads: int
    d_ff: int
    max_positions: int = 2048
    rotary_fraction: float = 0.25
    rotary_base: float = 10000.0
    layer_norm_eps: float = 1e-5
    parallel_residual: bool = True
    tied_embeddings: bool = False

    def __post_init__(self) -> None:
        for name, largest in _LARGEST.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= largest:
                raise ValueError(f"{name} is {value!r}; expected an integer from 1 to {largest}")
        if self.d_model % self.num_heads:
            raise ValueError(
                f"d_model {self.d_model} is not a multiple of num_heads {self.num_heads}"
            )
        if not 0 < self.rotary_fraction <= 1:
            raise ValueError(f"rotary_fraction is {self.rotary_fraction}; expected in (0, 1]")
        if self.rotary_dim < 2 or self.rotary_dim % 2:
            raise ValueError(
                f"rotary_fraction {self.rotary_fraction} of head size {self.head_dim} rotates "
                f"{self.rotary_dim} dimensions; expected a positive even number"
            )
        for name in ("rotary_base", "layer_norm_eps"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}; expected a positive finite number")

    @property
    def head_dim(self) -> int:
        """Dimensions of one attention head."""
        return self.d_model // self.num_heads

    @property
    def rotary_dim(self) -> int:
        """Leading dimensions of each head that are rotated."""
        return int(self.head_dim * self.rotary_fraction)


def _flag(raw: Mapping[str, Any], key: str, default: bool) -> bool:
    value = raw.get(key, default)
    if type(value) is not bool:
        raise CheckpointError(f"{key} is {value!r}; expected true or false")
    return value


def _number(raw: Mapping[str, Any], key: str, default: float) -> float:
    value = raw.get(key, default)
    if type(value) not in (int, float) or not abs(value) < 1e30:
        raise CheckpointError(f"{key} is {value!r}; expected a finite number")
    return float(value)


def _rotary(raw: Mapping[str, Any]) -> tuple[float, float]:
    """(fraction, base) from either spelling; both given must agree."""
    old = _number(raw, "rotary_pct", 0.25), _number(raw, "rotary_emb_base", 10000.0)
    rope = raw.get("rope_parameters")
    if rope is None:
        rope = raw.get("rope_scaling")
        if rope is None:
            return old
        if isinstance(rope, dict) and rope.get("rope_type", rope.get("type")) == "default":
            return old
        raise CheckpointError(f"rope_scaling {rope!r} is not supported; only the default rope is")
    if not isinstance(rope, dict):
        raise CheckpointError(f"rope_parameters is {rope!r}; expected an object")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise CheckpointError(f"rope_type {kind!r} is not supported; only 'default' is")
    unknown = set(rope) - {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
    if unknown:
        raise CheckpointError(f"rope_parameters has unknown keys: {', '.join(sorted(unknown))}")
    new = _number(rope, "partial_rotary_factor", old[0]), _number(rope, "rope_theta", old[1])
    for (value, other), (name, name_old) in zip(
        zip(new, old, strict=True),
        (("partial_rotary_factor", "rotary_pct"), ("rope_theta", "rotary_emb_base")),
        strict=True,
    ):
        if name_old in raw and value != other:
            raise CheckpointError(f"{name_old} {other:g} and {name} {value:g} disagree")
    return new


def from_dict(raw: Mapping[str, Any]) -> Config:
    """The Config that the parsed content of a config.json describes.

    Raises CheckpointError naming every unknown key, or the first missing or unsupported
    value.
    """
    understood = {
        *_NAMES.values(),
        *("model_type", "hidden_act", "attention_bias", "use_parallel_residual", "dtype"),
        *("rotary_pct", "rotary_emb_base", "rope_parameters", "rope_scaling", "torch_dtype"),
        *("layer_norm_eps", "tie_word_embeddings"),
    }
    unknown = [
        key
        for key in raw
        if key not in understood and key not in IGNORED_KEYS and not key.startswith("_")
    ]
    if unknown:
        raise CheckpointError(f"unknown keys: {', '.join(sorted(unknown))[:400]}")
    for theirs in _NAMES.values():
        if theirs in raw and type(raw[theirs]) is not int:
            raise CheckpointError(f"{theirs} is {raw[theirs]!r}; expected an integer")
    required = [name for name in ("model_type", *_NAMES.values()) if name not in raw]
    if required:
        raise CheckpointError(f"missing keys: {', '.join(required)}")
    for key, supported in (("model_type", "gpt_neox"), ("hidden_act", "gelu")):
        if raw.get(key, supported) != supported:
            raise CheckpointError(f"{key} {raw[key]!r} is not supported; only {supported!r} is")
    if not _flag(raw, "attention_bias", True):
        raise CheckpointError("attention_bias false is not supported")
    stored_dtype(raw)
    fraction, base = _rotary(raw)
    try:
        return Config(
            **{ours: raw[theirs] for ours, theirs in _NAMES.items()},
            rotary_fraction=fraction,
            rotary_base=base,
            layer_norm_eps=_number(raw, "layer_norm_eps", 1e-5),
            parallel_residual=_flag(raw, "use_parallel_residual", True),
            tied_embeddings=_flag(raw, "tie_word_embeddings", False),
        )
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def stored_dtype(raw: Mapping[str, Any]) -> str | None:
    """What a config.json says its weights are stored in; None if it does not say."""
    said = raw.get("dtype")
    said = raw.get("torch_dtype") if said is None else said
    if said is not None and said not in _DTYPES:
        raise CheckpointError(f"dtype {said!r} is not supported; known are {', '.join(_DTYPES)}")
    return said


def to_dict(config: Config, dtype: str) -> dict[str, Any]:
    """The content of a config.json that Hugging Face tools, old and new, read as config.

    Carries both spellings of the rotary constants and of dtype.
    """
    return {
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        **{theirs: getattr(config, ours) for ours, theirs in _NAMES.items()},
        "hidden_act": "gelu",
        "attention_bias": True,
        "rotary_pct": config.rotary_fraction,
        "rotary_emb_base": config.rotary_base,
        "rope_parameters": {
            "rope_type": "default",
            "partial_rotary_factor": config.rotary_fraction,
            "rope_theta": config.rotary_base,
        },
        "layer_norm_eps": config.layer_norm_eps,
        "use_parallel_residual": config.parallel_residual,
        "tie_word_embeddings": config.tied_embeddings,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "torch_dtype": dtype,
        "dtype": dtype,
    }


def read(path: pathlib.Path) -> Config:
    """The Config in the config.json at path; CheckpointError, opening with path, if bad."""
    raw = strict_json.read(path)
    try:
        return from_dict(raw)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
