"""OLMo 2 (arXiv 2501.00656): norms behind attention and feed-forward, none before them.

Queries and keys are normalised as whole vectors, over all heads at once.
"""

import dataclasses
from typing import Any

from truncated_weights.bridge.config import Config
from truncated_weights.bridge.families import llama, rope
from truncated_weights.bridge.families.keys import Keys


def read(keys: Keys) -> dict[str, Any]:
    """Fields of Config."""
    return {
        **llama.gated(keys, eps=1e-5),
        **rope.read(keys, partial=False),
        "norm_place": "after",
        "query_norm": "whole",
        "biases": llama.ATTENTION if keys.flag("attention_bias", False) else (),
    }


def write(config: Config) -> dict[str, Any]:
    """Keys of config.json."""
    return {**llama.write_gated(config), "attention_bias": "q_proj" in config.biases}


FAMILY = dataclasses.replace(
    llama.FAMILY,
    model_type="olmo2",
    architecture="Olmo2ForCausalLM",
    read=read,
    write=write,
    norms={
        "q_norm": "self_attn.q_norm",
        "k_norm": "self_attn.k_norm",
        "attn_after": "post_attention_layernorm",
        "mlp_after": "post_feedforward_layernorm",
    },
    ignored=frozenset(),
)
