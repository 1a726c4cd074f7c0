"""RoBERTa (Liu et al., arXiv 1907.11692), the masked language model of LASER."""

from typing import Any

from truncated_weights.bridge.config import ALL_BIASES, Config
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.families.family import SIZES, Family
from truncated_weights.bridge.families.keys import ACTIVATION_NAMES, Keys

_LAYER = "roberta.encoder.layer.{}"


def read(keys: Keys) -> dict[str, Any]:
    """Fields of Config; positions are the usable ones, pad_id + 1 fewer than the table has."""
    keys.only(position_embedding_type="absolute", is_decoder=False, add_cross_attention=False)
    # The published files leave the key out; untied heads do not exist.
    keys.only(tie_word_embeddings=True)
    sizes, pad = keys.sizes(SIZES), keys.integer("pad_token_id", 1)
    usable = sizes.pop("max_positions") - pad - 1
    if usable < 1:
        raise CheckpointError(f"max_position_embeddings leaves no position beyond padding {pad}")
    return {
        **sizes,
        "max_positions": usable,
        "rotary_fraction": 0.0,
        "norm_eps": keys.number("layer_norm_eps", 1e-12),
        "activation": keys.activation("hidden_act", "gelu"),
        "residual": "post",
        "tied_embeddings": True,
        "biases": ALL_BIASES,
        "head_bias": True,
        "masked": True,
        "token_types": keys.integer("type_vocab_size", 2),
        "pad_id": pad,
    }


def write(config: Config) -> dict[str, Any]:
    """Keys of config.json."""
    return {
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        "max_position_embeddings": config.max_positions + config.position_offset,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": ACTIVATION_NAMES[config.activation],
        "tie_word_embeddings": True,
        "type_vocab_size": config.token_types,
        "pad_token_id": config.pad_id,
    }


FAMILY = Family(
    model_type="roberta",
    architecture="RobertaForMaskedLM",
    read=read,
    write=write,
    prefix="roberta.",
    outer={
        "embed_in": "roberta.embeddings.word_embeddings",
        "positions": "roberta.embeddings.position_embeddings",
        "token_types": "roberta.embeddings.token_type_embeddings",
        "embed_norm": "roberta.embeddings.LayerNorm",
        "transform": "lm_head.dense",
        "transform_norm": "lm_head.layer_norm",
        "embed_out": "lm_head",
    },
    layer=_LAYER,
    norms={"attn_norm": "attention.output.LayerNorm", "mlp_norm": "output.LayerNorm"},
    matrices={
        "q_proj": "attention.self.query",
        "k_proj": "attention.self.key",
        "v_proj": "attention.self.value",
        "out_proj": "attention.output.dense",
        "fc_in": "intermediate.dense",
        "fc_out": "output.dense",
    },
    skipped=(
        *("roberta.embeddings.position_ids", "roberta.embeddings.token_type_ids"),
        *("roberta.pooler.dense.weight", "roberta.pooler.dense.bias"),
    ),
    copies={
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
)
