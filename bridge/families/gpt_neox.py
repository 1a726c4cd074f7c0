"""GPT-NeoX (Black et al., arXiv 2204.06745), Pythia first among them."""

from typing import Any

from truncated_weights.bridge.config import ALL_BIASES, Config
from truncated_weights.bridge.families import rope
from truncated_weights.bridge.families.family import SIZES, Family
from truncated_weights.bridge.families.keys import ACTIVATION_NAMES, Keys

# Pythia (Biderman et al., arXiv 2304.01373, table 1, and the 14m and 31m): layers, d_model,
# heads, rows of the embedding (the 50,277 tokens padded for the hardware).
_PYTHIA = {
    "14m": (6, 128, 4, 50304),
    "31m": (6, 256, 8, 50304),
    "70m": (6, 512, 8, 50304),
    "160m": (12, 768, 12, 50304),
    "410m": (24, 1024, 16, 50304),
    "1b": (16, 2048, 8, 50304),
    "1.4b": (24, 2048, 16, 50304),
    "2.8b": (32, 2560, 32, 50304),
    "6.9b": (32, 4096, 32, 50432),
    "12b": (36, 5120, 40, 50688),
}
PYTHIA_SIZES = tuple(_PYTHIA)


def pythia(size: str) -> Config:
    """The architecture of Pythia `size`, as in "70m"; ValueError if not in PYTHIA_SIZES."""
    if size not in _PYTHIA:
        raise ValueError(f"size {size!r} is not a Pythia; known are {', '.join(PYTHIA_SIZES)}")
    layers, d_model, heads, vocab = _PYTHIA[size]
    return Config(
        vocab_size=vocab, num_layers=layers, d_model=d_model, num_heads=heads, d_ff=4 * d_model
    )


def read(keys: Keys) -> dict[str, Any]:
    """Fields of Config."""
    keys.only(attention_bias=True)
    parallel = keys.flag("use_parallel_residual", True)
    return {
        **keys.sizes(SIZES),
        **rope.read(keys, theta="rotary_emb_base", fraction="rotary_pct", default_fraction=0.25),
        "norm_eps": keys.number("layer_norm_eps", 1e-5),
        "activation": keys.activation("hidden_act", "gelu"),
        "residual": "parallel" if parallel else "pre",
        "tied_embeddings": keys.flag("tie_word_embeddings", False),
        "biases": ALL_BIASES,
    }


def write(config: Config) -> dict[str, Any]:
    """Keys of config.json, the rotary constants in both spellings."""
    return {
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        "hidden_act": ACTIVATION_NAMES[config.activation],
        "attention_bias": True,
        "rotary_pct": config.rotary_fraction,
        "rotary_emb_base": config.rotary_base,
        "rope_parameters": {
            "rope_type": "default",
            "partial_rotary_factor": config.rotary_fraction,
            "rope_theta": config.rotary_base,
        },
        "layer_norm_eps": config.norm_eps,
        "use_parallel_residual": config.residual == "parallel",
        "tie_word_embeddings": config.tied_embeddings,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


FAMILY = Family(
    model_type="gpt_neox",
    architecture="GPTNeoXForCausalLM",
    read=read,
    write=write,
    prefix="gpt_neox.",
    outer={
        "embed_in": "gpt_neox.embed_in",
        "final_norm": "gpt_neox.final_layer_norm",
        "embed_out": "embed_out",
    },
    layer="gpt_neox.layers.{}",
    norms={"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"},
    matrices={
        "q_proj": "attention.query_key_value",
        "k_proj": "attention.query_key_value",
        "v_proj": "attention.query_key_value",
        "out_proj": "attention.dense",
        "fc_in": "mlp.dense_h_to_4h",
        "fc_out": "mlp.dense_4h_to_h",
    },
    fused="heads",
    buffers=("attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"),
    aliases={"lm_head.weight": "embed_out.weight"},
)
