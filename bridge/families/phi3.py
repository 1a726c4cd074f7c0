"""Phi-3 and Phi-4-mini's kin (Abdin et al., arXiv 2404.14219): Llama with fused tensors."""

import dataclasses
from typing import Any

from truncated_weights.bridge.config import Config
from truncated_weights.bridge.families import llama, rope
from truncated_weights.bridge.families.keys import Keys


def read(keys: Keys) -> dict[str, Any]:
    """Fields of Config."""
    keys.only(attention_bias=False, mlp_bias=False, lm_head_bias=False)
    keys.only(full_attn_mod=1, interpolate_factor=1)
    keys.get("original_max_position_embeddings")
    window = 0 if keys.get("sliding_window") is None else keys.integer("sliding_window", None)
    return {
        **llama.gated(keys, eps=1e-5),
        **rope.read(keys, kinds=("default", "longrope")),
        "windows": (window,) if window else (),
        "biases": (),
    }


def write(config: Config) -> dict[str, Any]:
    """Keys of config.json."""
    return {
        "original_max_position_embeddings": config.max_positions,
        **llama.write_gated(config),
        "partial_rotary_factor": config.rotary_fraction,
        "sliding_window": config.window,
    }


FAMILY = dataclasses.replace(
    llama.FAMILY,
    model_type="phi3",
    architecture="Phi3ForCausalLM",
    read=read,
    write=write,
    matrices={
        "q_proj": "self_attn.qkv_proj",
        "k_proj": "self_attn.qkv_proj",
        "v_proj": "self_attn.qkv_proj",
        "out_proj": "self_attn.o_proj",
        "fc_gate": "mlp.gate_up_proj",
        "fc_in": "mlp.gate_up_proj",
        "fc_out": "mlp.down_proj",
    },
    ignored=frozenset(),
)
