"""The model families: how each spells its config.json and names its tensors."""

import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from truncated_weights.bridge.config import Config
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.families import (
    gpt2,
    gpt_neox,
    gptj,
    llama,
    mistral,
    phi,
    phi3,
    qwen2,
    roberta,
    smollm3,
)
from truncated_weights.bridge.families.family import Family
from truncated_weights.bridge.families.keys import Keys, stored_dtype
from truncated_weights.bridge.families.normed import gemma, olmo2, qwen3
from truncated_weights.bridge.formats import strict_json

_PLAIN = (gpt_neox, gptj, gpt2, llama, mistral, olmo2, qwen2, qwen3, phi, phi3, roberta, smollm3)
FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (*(module.FAMILY for module in _PLAIN), gemma.FAMILY2, gemma.FAMILY3)
}


def of(config: Config) -> Family:
    """The family that a Config was read as."""
    return FAMILIES[config.family]


def from_dict(raw: Mapping[str, Any], ignore: Collection[str] = ()) -> Config:
    """The Config that the parsed content of a config.json describes.

    ignore names keys that are read as if they were not there. Raises CheckpointError naming
    every unknown key, or the missing ones, or the first unsupported value.
    """
    kind = raw.get("model_type")
    if kind is None:
        raise CheckpointError("missing keys: model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise CheckpointError(f"model_type {str(kind)[:80]!r} is not supported; known are {known}")
    family = FAMILIES[kind]
    keys = Keys(raw, family.ignored, ignore)
    stored_dtype(raw)
    fields = family.read(keys)
    d_model, heads = fields["d_model"], fields["num_heads"]
    keys.finish(d_model // heads if heads > 0 and d_model % heads == 0 else None)
    try:
        return Config(family=kind, **fields)
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def to_dict(config: Config, dtype: str) -> dict[str, Any]:
    """The content of a config.json that Hugging Face tools, old and new, read as config."""
    family = of(config)
    return {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        # Not known here, and transformers' own defaults may lie outside a small vocabulary.
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")),
        **family.write(config),
        "torch_dtype": dtype,
        "dtype": dtype,
    }


def read(path: pathlib.Path, ignore: Collection[str] = ()) -> Config:
    """The Config in the config.json at path; CheckpointError, opening with path, if bad."""
    raw = strict_json.read(path)
    try:
        return from_dict(raw, ignore)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
