"""Llama 1, 2, 3, 3.1 and 3.2 (Touvron et al., arXiv 2302.13971; Dubey et al., 2407.21783)."""

from typing import Any

from truncated_weights.bridge.config import Config
from truncated_weights.bridge.families import rope
from truncated_weights.bridge.families.family import SIZES, Family
from truncated_weights.bridge.families.keys import ACTIVATION_NAMES, Keys

ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
FEED_FORWARD = ("fc_gate", "fc_in", "fc_out")
NORMS = {"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
OUTER = {"embed_in": "model.embed_tokens", "final_norm": "model.norm", "embed_out": "lm_head"}
MATRICES = {
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "out_proj": "self_attn.o_proj",
    "fc_gate": "mlp.gate_proj",
    "fc_in": "mlp.up_proj",
    "fc_out": "mlp.down_proj",
}


def gated(keys: Keys, *, groups: int | None = None, eps: float = 1e-6) -> dict[str, Any]:
    """Fields that Llama, Mistral, Qwen2 and Phi-3 share, their rope and windows apart.

    groups and eps are what an absent key means.
    """
    sizes = keys.sizes(SIZES)
    return {
        **sizes,
        "num_groups": keys.integer("num_key_value_heads", groups or sizes["num_heads"]),
        "norm": "rms",
        "norm_eps": keys.number("rms_norm_eps", eps),
        "activation": keys.activation("hidden_act", "silu"),
        "gated": True,
        "residual": "pre",
        "tied_embeddings": keys.flag("tie_word_embeddings", False),
    }


def write_gated(config: Config) -> dict[str, Any]:
    """The keys of those fields."""
    return {
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        **rope.write(config),
        "num_key_value_heads": config.groups,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": ACTIVATION_NAMES[config.activation],
        "tie_word_embeddings": config.tied_embeddings,
    }


def head_size(keys: Keys) -> int | None:
    """head_dim, which null or an absent key leave to be d_model / num_heads."""
    return None if keys.get("head_dim") is None else keys.integer("head_dim", None)


def read(keys: Keys) -> dict[str, Any]:
    """Fields of Config."""
    attention, feed_forward = keys.flag("attention_bias", False), keys.flag("mlp_bias", False)
    return {
        **gated(keys),
        **rope.read(keys, kinds=("default", "llama3"), partial=False),
        "head_size": head_size(keys),
        "biases": (ATTENTION if attention else ()) + (FEED_FORWARD if feed_forward else ()),
    }


def write(config: Config) -> dict[str, Any]:
    """Keys of config.json."""
    return {
        **write_gated(config),
        "head_dim": config.head_dim,
        "attention_bias": "q_proj" in config.biases,
        "mlp_bias": "fc_in" in config.biases,
    }


FAMILY = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    read=read,
    write=write,
    prefix="model.",
    outer=OUTER,
    layer="model.layers.{}",
    norms=NORMS,
    matrices=MATRICES,
    buffers=("self_attn.rotary_emb.inv_freq",),
    ignored=frozenset(("pretraining_tp", "max_sequence_length")),
)
