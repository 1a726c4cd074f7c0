"""GPT-J (Wang and Komatsuzaki, 2021): parallel layers with one norm, rope in pairs."""

from typing import Any

from truncated_weights.bridge.config import Config
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.families.family import Family
from truncated_weights.bridge.families.keys import ACTIVATION_NAMES, Keys

SIZES = {
    "vocab_size": "vocab_size",
    "num_layers": "n_layer",
    "d_model": "n_embd",
    "num_heads": "n_head",
    "max_positions": "n_positions",
}


def read(keys: Keys) -> dict[str, Any]:
    """Fields of Config."""
    sizes = keys.sizes(SIZES)
    keys.only(scale_attn_weights=True, rotary=True)
    rotary_dim = keys.integer("rotary_dim", 64)
    head_dim = sizes["d_model"] // max(sizes["num_heads"], 1)
    if not 0 < rotary_dim <= head_dim:
        raise CheckpointError(f"rotary_dim is {rotary_dim}; expected 1 to {head_dim}")
    return {
        **sizes,
        "d_ff": keys.integer("n_inner", 4 * sizes["d_model"]),
        "rotary_fraction": rotary_dim / head_dim,
        "rotary_base": 10000.0,
        "norm_eps": keys.number("layer_norm_epsilon", 1e-5),
        "activation": keys.activation("activation_function", "gelu_new"),
        "residual": "parallel",
        "shared_norm": True,
        "tied_embeddings": keys.flag("tie_word_embeddings", False),
        "biases": ("fc_in", "fc_out"),
        "head_bias": True,
    }


def write(config: Config) -> dict[str, Any]:
    """Keys of config.json."""
    return {
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        "n_inner": config.d_ff,
        "rotary_dim": config.rotary_dim,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": ACTIVATION_NAMES[config.activation],
        "tie_word_embeddings": config.tied_embeddings,
    }


FAMILY = Family(
    model_type="gptj",
    architecture="GPTJForCausalLM",
    read=read,
    write=write,
    prefix="transformer.",
    outer={"embed_in": "transformer.wte", "final_norm": "transformer.ln_f", "embed_out": "lm_head"},
    layer="transformer.h.{}",
    norms={"attn_norm": "ln_1"},
    matrices={
        "q_proj": "attn.q_proj",
        "k_proj": "attn.k_proj",
        "v_proj": "attn.v_proj",
        "out_proj": "attn.out_proj",
        "fc_in": "mlp.fc_in",
        "fc_out": "mlp.fc_out",
    },
    pairs=True,
    buffers=("attn.bias", "attn.masked_bias"),
    ignored=frozenset(
        """summary_activation summary_first_dropout summary_proj_to_labels summary_type
        summary_use_proj n_ctx""".split()  # noqa: SIM905
    ),
)
