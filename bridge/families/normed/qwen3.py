"""Qwen3 (Yang et al., arXiv 2505.09388): Qwen2, queries and keys of each head normalised."""

import dataclasses
from typing import Any

from truncated_weights.bridge.config import Config
from truncated_weights.bridge.families import llama, qwen2, rope
from truncated_weights.bridge.families.keys import Keys

NORMS = {**llama.NORMS, "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}


def read(keys: Keys) -> dict[str, Any]:
    """Fields of Config; an absent head_dim means 128 here."""
    fields = llama.gated(keys, groups=32)
    return {
        **fields,
        **rope.read(keys, partial=False),
        "windows": qwen2.windows(keys, fields["num_layers"]),
        "head_size": keys.integer("head_dim", 128),
        "query_norm": "heads",
        "biases": llama.ATTENTION if keys.flag("attention_bias", False) else (),
    }


def write(config: Config) -> dict[str, Any]:
    """Keys of config.json."""
    return {
        **qwen2.write(config),
        "head_dim": config.head_dim,
        "attention_bias": "q_proj" in config.biases,
    }


FAMILY = dataclasses.replace(
    llama.FAMILY,
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    read=read,
    write=write,
    norms=NORMS,
    ignored=frozenset(),
)
