"""The keys of a config.json, read one by one, so that none is overlooked.

A key that was never asked for and is not known to be harmless is refused by name at the
end, because a silent guess would give plausible wrong logits.
"""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from truncated_weights.bridge.config import Activation
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.truncation.files import telling

T = TypeVar("T")

# Keys of config.json that say nothing about the forward pass: housekeeping, generation
# defaults, labels, and dropout (a checkpoint is evaluated, never trained, with it).
IGNORED = frozenset(
    """_name_or_path add_cross_attention architectures attention_dropout
    attention_probs_dropout_prob attn_implementation
    attn_pdrop auto_map bad_words_ids begin_suppress_tokens bos_token_id
    chunk_size_feed_forward classifier_dropout cross_attention_hidden_size
    decoder_start_token_id diversity_penalty do_sample early_stopping embd_pdrop
    encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty
    finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing
    hidden_dropout hidden_dropout_prob id2label initializer_range is_decoder
    is_encoder_decoder label2id length_penalty max_length min_length no_repeat_ngram_size
    num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states
    output_scores pad_token_id prefix problem_type pruned_heads remove_invalid_values
    repetition_penalty resid_pdrop return_dict return_dict_in_generate sep_token_id
    suppress_tokens task_specific_params temperature tf_legacy_loss tie_encoder_decoder
    tokenizer_class top_k top_p torchscript transformers_version transformers.js_config typical_p
    unsloth_fixed unsloth_version use_bfloat16 use_cache""".split()  # noqa: SIM905
)
# Keys that published files carry whose family has no such part, at the value that says so; null
# says so too. At any other value they are refused, by a family that does not ask for them itself.
HARMLESS: dict[str, Any] = {
    "alibi": False,
    "attention_bias": False,
    "is_llama_config": True,
    "lm_head_bias": False,
    "mlp_bias": False,
    "multi_query": False,
    "pretraining_tp": 1,
    "qk_layernorm": False,
    "qk_norm": False,
    "reorder_and_upcast_attn": False,
    "rope_interleaved": False,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "use_mrope": False,
    "use_qk_norm": False,
}
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}
ACTIVATION_NAMES = {"gelu": "gelu", "gelu_tanh": "gelu_new", "silu": "silu", "relu": "relu"}
DTYPES = ("float32", "float16", "bfloat16")


class Keys:
    """A config.json's keys; every question raises CheckpointError, naming key and value."""

    def __init__(
        self,
        raw: Mapping[str, Any],
        ignored: frozenset[str] = frozenset(),
        ignore: Collection[str] = (),
    ):
        """`ignored` are keys of this family that are harmless beside those of all; those of
        `ignore` are read as if they were not there, and must be there.
        """
        if absent := sorted(set(ignore) - set(raw)):
            raise CheckpointError(f"keys to ignore that are not there: {telling.some(absent)}")
        raw = {key: value for key, value in raw.items() if key not in ignore}
        if raw.get("quantization_config") is not None:
            raise CheckpointError(
                "quantization_config: quantised weights are not supported; give the checkpoint "
                "they were made from"
            )
        self.raw = raw
        self._asked = {"model_type", "torch_dtype", "dtype", "quantization_config"}
        self._ignored = IGNORED | ignored

    def get(self, key: str, default: Any = None) -> Any:
        """Any value; null counts as absent."""
        self._asked.add(key)
        value = self.raw.get(key)
        return default if value is None else value

    def sizes(self, names: Mapping[str, str]) -> dict[str, int]:
        """Required integers, by our names; all that are missing are named at once."""
        missing = [theirs for theirs in names.values() if theirs not in self.raw]
        if missing:
            raise CheckpointError(f"missing keys: {', '.join(missing)}")
        return {ours: self.integer(theirs, None) for ours, theirs in names.items()}

    def integer(self, key: str, default: int | None) -> int:
        """An integer, or the default where the key is absent or null."""
        value = self.get(key, default)
        if type(value) is not int or not abs(value) < 2**62:
            raise CheckpointError(f"{key} is {value!r}; expected an integer")
        return value

    def number(self, key: str, default: float) -> float:
        """A finite number."""
        return number(key, self.get(key, default))

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.get(key, default)
        if type(value) is not bool:
            raise CheckpointError(f"{key} is {value!r}; expected true or false")
        return value

    def choice(self, key: str, table: Mapping[str, T], default: str) -> T:
        """What the table has for the value, which must be one of its keys."""
        value = self.get(key, default)
        if not isinstance(value, str) or value not in table:
            known = ", ".join(table)
            raise CheckpointError(f"{key} {value!r} is not supported; known are {known}")
        return table[value]

    def activation(self, key: str, default: str) -> Activation:
        """The activation function, by transformers' name for it."""
        return self.choice(key, ACTIVATIONS, default)

    def only(self, **values: Any) -> None:
        """Keys that this package supports at one value each, that of an absent key."""
        for key, supported in values.items():
            if refusal := self._refusal(key, supported):
                raise CheckpointError(refusal)

    def _refusal(self, key: str, supported: Any) -> str:
        """What is wrong with a key that is supported at one value; empty if nothing is."""
        value = self.get(key, supported)
        if value == supported and type(value) is type(supported):
            return ""
        said = str(value).lower() if isinstance(value, bool) else repr(value)[:80]
        return f"{key} {said} is not supported; only {supported!r} is"

    def finish(self, head_dim: int | None = None) -> None:
        """Refuse, by name, every key that was never asked for and is not harmless.

        head_dim is d_model / num_heads, at which a family that has no other passes that key.
        """
        known = self._asked | self._ignored
        rest = [key for key in self.raw if key not in known and not key.startswith("_")]
        harmless = HARMLESS | ({} if head_dim is None else {"head_dim": head_dim})
        wrong = [self._refusal(key, harmless[key]) for key in rest if key in harmless]
        if unknown := [key for key in rest if key not in harmless]:
            listed = telling.some(sorted(unknown))
            wrong.append(f"unknown keys: {listed}; what changes nothing may be ignored")
        if faults := "; ".join(filter(None, wrong)):
            raise CheckpointError(faults)


def number(key: str, value: Any) -> float:
    """The value if it is a finite number; CheckpointError, naming key, if not."""
    if type(value) not in (int, float) or not abs(value) < 1e30:
        raise CheckpointError(f"{key} is {value!r}; expected a finite number")
    return float(value)


def stored_dtype(raw: Mapping[str, Any]) -> str | None:
    """What a config.json says its weights are stored in; None if it does not say.

    Raises CheckpointError for a dtype that is not one of DTYPES, or two that disagree.
    """
    said = {key: raw[key] for key in ("dtype", "torch_dtype") if raw.get(key) is not None}
    for key, value in said.items():
        if value not in DTYPES:
            raise CheckpointError(
                f"{key} {value!r} is not supported; known are {', '.join(DTYPES)}"
            )
    if len(set(said.values())) > 1:
        raise CheckpointError(f"dtype {said['dtype']} and torch_dtype {said['torch_dtype']} differ")
    return next(iter(said.values()), None)
