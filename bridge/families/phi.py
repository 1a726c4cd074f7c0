"""Phi-1, Phi-1.5 and Phi-2 (Li et al., arXiv 2309.05463): parallel layers with one norm."""

import dataclasses
from typing import Any

from truncated_weights.bridge.config import ALL_BIASES, Config
from truncated_weights.bridge.families import llama, rope
from truncated_weights.bridge.families.family import SIZES
from truncated_weights.bridge.families.keys import ACTIVATION_NAMES, Keys


def read(keys: Keys) -> dict[str, Any]:
    """Fields of Config."""
    sizes = keys.sizes(SIZES)
    return {
        **sizes,
        **rope.read(keys, default_fraction=0.5),
        "num_groups": keys.integer("num_key_value_heads", sizes["num_heads"]),
        "norm_eps": keys.number("layer_norm_eps", 1e-5),
        "activation": keys.activation("hidden_act", "gelu_new"),
        "query_norm": "heads" if keys.flag("qk_layernorm", False) else "",
        "residual": "parallel",
        "shared_norm": True,
        "tied_embeddings": keys.flag("tie_word_embeddings", False),
        "biases": ALL_BIASES,
        "head_bias": True,
    }


def write(config: Config) -> dict[str, Any]:
    """Keys of config.json."""
    return {
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        **rope.write(config),
        "partial_rotary_factor": config.rotary_fraction,
        "num_key_value_heads": config.groups,
        "layer_norm_eps": config.norm_eps,
        "qk_layernorm": bool(config.query_norm),
        "hidden_act": ACTIVATION_NAMES[config.activation],
        "tie_word_embeddings": config.tied_embeddings,
    }


FAMILY = dataclasses.replace(
    llama.FAMILY,
    model_type="phi",
    architecture="PhiForCausalLM",
    read=read,
    write=write,
    outer={**llama.OUTER, "final_norm": "model.final_layernorm"},
    norms={
        "attn_norm": "input_layernorm",
        "q_norm": "self_attn.q_layernorm",
        "k_norm": "self_attn.k_layernorm",
    },
    matrices={
        "q_proj": "self_attn.q_proj",
        "k_proj": "self_attn.k_proj",
        "v_proj": "self_attn.v_proj",
        "out_proj": "self_attn.dense",
        "fc_in": "mlp.fc1",
        "fc_out": "mlp.fc2",
    },
    ignored=frozenset(),
)
