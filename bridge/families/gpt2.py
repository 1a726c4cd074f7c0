"""GPT-2 (Radford et al., 2019): learned positions, matrices stored [d_in, d_out].

Some of its kin divide the scores of layer i by i + 1 too (scale_attn_by_inverse_layer_idx).
"""

from typing import Any

from truncated_weights.bridge.config import ALL_BIASES, Config
from truncated_weights.bridge.families.family import Family
from truncated_weights.bridge.families.gptj import SIZES
from truncated_weights.bridge.families.keys import ACTIVATION_NAMES, Keys


def read(keys: Keys) -> dict[str, Any]:
    """Fields of Config."""
    sizes = keys.sizes(SIZES)
    keys.only(scale_attn_weights=True, add_cross_attention=False)
    by_layer = keys.flag("scale_attn_by_inverse_layer_idx", False)
    root = (sizes["d_model"] / max(sizes["num_heads"], 1)) ** -0.5
    return {
        **sizes,
        "score_scales": tuple(root / (1 + n) for n in range(sizes["num_layers"])) * by_layer,
        "d_ff": keys.integer("n_inner", 4 * sizes["d_model"]),
        "rotary_fraction": 0.0,
        "norm_eps": keys.number("layer_norm_epsilon", 1e-5),
        "activation": keys.activation("activation_function", "gelu_new"),
        "residual": "pre",
        "tied_embeddings": keys.flag("tie_word_embeddings", True),
        "biases": ALL_BIASES,
    }


def write(config: Config) -> dict[str, Any]:
    """Keys of config.json."""
    return {
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        "n_inner": config.d_ff,
        "scale_attn_by_inverse_layer_idx": bool(config.score_scales),
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": ACTIVATION_NAMES[config.activation],
        "tie_word_embeddings": config.tied_embeddings,
    }


FAMILY = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    read=read,
    write=write,
    prefix="transformer.",
    outer={
        "embed_in": "transformer.wte",
        "positions": "transformer.wpe",
        "final_norm": "transformer.ln_f",
        "embed_out": "lm_head",
    },
    layer="transformer.h.{}",
    norms={"attn_norm": "ln_1", "mlp_norm": "ln_2"},
    matrices={
        "q_proj": "attn.c_attn",
        "k_proj": "attn.c_attn",
        "v_proj": "attn.c_attn",
        "out_proj": "attn.c_proj",
        "fc_in": "mlp.c_fc",
        "fc_out": "mlp.c_proj",
    },
    columns=True,
    buffers=("attn.bias", "attn.masked_bias"),
    ignored=frozenset(
        """summary_activation summary_first_dropout summary_proj_to_labels summary_type
        summary_use_proj n_ctx reorder_and_upcast_attn""".split()  # noqa: SIM905
    ),
)
