"""Mistral (Jiang et al., arXiv 2310.06825): Llama's tensors, a sliding window."""

import dataclasses
from typing import Any

from truncated_weights.bridge.config import Config
from truncated_weights.bridge.families import llama, rope
from truncated_weights.bridge.families.keys import Keys


def read(keys: Keys) -> dict[str, Any]:
    """Fields of Config."""
    # Null means no window here, an absent key 4,096.
    window = (
        0 if keys.raw.get("sliding_window", 0) is None else keys.integer("sliding_window", 4096)
    )
    keys.get("sliding_window")
    return {
        **llama.gated(keys, groups=8),
        **rope.read(keys, partial=False),
        "head_size": llama.head_size(keys),
        "windows": (window,) if window else (),
        "biases": (),
    }


def write(config: Config) -> dict[str, Any]:
    """Keys of config.json."""
    return {
        **llama.write_gated(config),
        "head_dim": config.head_dim,
        "sliding_window": config.window,
    }


FAMILY = dataclasses.replace(
    llama.FAMILY,
    model_type="mistral",
    architecture="MistralForCausalLM",
    read=read,
    write=write,
)
