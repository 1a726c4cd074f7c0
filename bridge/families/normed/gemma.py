"""Gemma 2 (arXiv 2408.00118) and the text of Gemma 3 (arXiv 2503.19786).

Norms stand before and behind both parts of a layer and multiply by 1 + scale; embeddings are
multiplied by sqrt(d); scores by query_pre_attn_scalar^(-1/2), whatever the head's size. Gemma 2
caps scores and logits. Gemma 3 normalises the queries and keys of each head instead, and its
layers with a window rotate by a base of their own.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from truncated_weights.bridge.config import Config
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.families import llama
from truncated_weights.bridge.families.family import SIZES
from truncated_weights.bridge.families.keys import ACTIVATIONS, Keys, number

_SLIDING, _FULL = "sliding_attention", "full_attention"
NORMS = {
    "attn_norm": "input_layernorm",
    "attn_after": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_after": "post_feedforward_layernorm",
}


def _shared(keys: Keys, pattern: int) -> tuple[dict[str, Any], list[str]]:
    """Fields of both, and the kind of every layer; each pattern-th is full if none is named."""
    sizes = keys.sizes(SIZES)
    kinds = keys.get("layer_types")
    if kinds is None:
        kinds = [_FULL if (n + 1) % pattern == 0 else _SLIDING for n in range(sizes["num_layers"])]
    if not isinstance(kinds, list) or len(kinds) != sizes["num_layers"]:
        raise CheckpointError(f"layer_types is {str(kinds)[:80]}; expected one per layer")
    if unknown := [kind for kind in kinds if kind not in (_SLIDING, _FULL)]:
        raise CheckpointError(f"layer_types names {str(unknown[0])[:80]!r}")
    keys.only(attention_bias=False, use_bidirectional_attention=False)
    window = keys.integer("sliding_window", 4096)
    windows = tuple(window if kind == _SLIDING else 0 for kind in kinds)
    scale = number("query_pre_attn_scalar", keys.get("query_pre_attn_scalar", 256))
    if not scale > 0:
        raise CheckpointError(f"query_pre_attn_scalar is {scale}; expected a positive number")
    return {
        **sizes,
        "num_groups": keys.integer("num_key_value_heads", sizes["num_heads"]),
        "head_size": keys.integer("head_dim", 256),
        "norm": "rms",
        "norm_eps": keys.number("rms_norm_eps", 1e-6),
        "norm_place": "both",
        "norm_offset": 1.0,
        "activation": keys.choice("hidden_activation", ACTIVATIONS, "gelu_pytorch_tanh"),
        "gated": True,
        "residual": "pre",
        "biases": (),
        "embed_scale": math.sqrt(sizes["d_model"]),
        "score_scales": (scale**-0.5,),
        "score_cap": number("attn_logit_softcapping", keys.get("attn_logit_softcapping", 0)),
        "logit_cap": number("final_logit_softcapping", keys.get("final_logit_softcapping", 0)),
        "tied_embeddings": keys.flag("tie_word_embeddings", True),
        "rotary_fraction": 1.0,
        "windows": windows if any(windows) else (),
    }, kinds


def _rope(rope: Any, base: float) -> tuple[float, float]:
    """Base and factor of one kind of layers; plain and linear ropes are read."""
    if not isinstance(rope, dict):
        raise CheckpointError(f"rope parameters are {str(rope)[:80]}; expected an object")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "linear"):
        said = f"rope_type {str(kind)[:40]!r} is not supported"
        raise CheckpointError(f"{said}; known are default, linear")
    found = number("rope_theta", rope.get("rope_theta", base))
    factor = number("factor", rope.get("factor", 1.0)) if kind == "linear" else 1.0
    return found, factor


def read2(keys: Keys) -> dict[str, Any]:
    """Fields of Config for Gemma 2."""
    fields, _ = _shared(keys, 2)
    rope = keys.get("rope_parameters") or keys.get("rope_scaling") or {}
    base, factor = _rope(rope, keys.number("rope_theta", 1e4))
    return {**fields, "rotary_base": base, "rope_factors": (factor,) * (factor != 1)}


def read3(keys: Keys) -> dict[str, Any]:
    """Fields of Config for the text of Gemma 3."""
    pattern = keys.integer("sliding_window_pattern", 6)
    fields, kinds = _shared(keys, pattern)
    ropes = keys.get("rope_parameters")
    whole, local = keys.number("rope_theta", 1e6), keys.number("rope_local_base_freq", 1e4)
    if ropes is None:
        ropes = {_FULL: keys.get("rope_scaling") or {}, _SLIDING: {}}
    if not isinstance(ropes, dict) or not {_FULL, _SLIDING} >= set(ropes):
        raise CheckpointError("rope_parameters: expected full_attention and sliding_attention")
    read = {
        _FULL: _rope(ropes.get(_FULL) or {}, whole),
        _SLIDING: _rope(ropes.get(_SLIDING) or {}, local),
    }
    bases, factors = zip(*(read[kind] for kind in kinds), strict=True)
    return {
        **fields,
        "query_norm": "heads",
        "rotary_base": read[_FULL][0],
        "rope_bases": bases if len(set(bases)) > 1 or bases[0] != read[_FULL][0] else (),
        "rope_factors": factors if set(factors) != {1.0} else (),
    }


def _write(config: Config) -> dict[str, Any]:
    windows = config.windows or (0,) * config.num_layers
    return {
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        "num_key_value_heads": config.groups,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.norm_eps,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": round(config.score_scale**-2, 6),
        "attn_logit_softcapping": config.score_cap or None,
        "final_logit_softcapping": config.logit_cap or None,
        "tie_word_embeddings": config.tied_embeddings,
        "sliding_window": max(windows) or 4096,
        "layer_types": [_SLIDING if window else _FULL for window in windows],
    }


def _rope_of(base: float, factor: float) -> dict[str, Any]:
    plain = {"rope_type": "default", "rope_theta": base}
    return plain if factor == 1 else {"rope_type": "linear", "rope_theta": base, "factor": factor}


def write2(config: Config) -> dict[str, Any]:
    """Keys of config.json for Gemma 2."""
    factor = (config.rope_factors or (1.0,))[0]
    return {**_write(config), "rope_parameters": _rope_of(config.rotary_base, factor)}


def write3(config: Config) -> dict[str, Any]:
    """Keys of config.json for Gemma 3."""
    keys = _write(config)
    kinds: Sequence[str] = keys["layer_types"]
    bases = config.rope_bases or (config.rotary_base,) * config.num_layers
    factors = config.rope_factors or (1.0,) * config.num_layers
    found = dict(zip(kinds, map(_rope_of, bases, factors), strict=True))
    return {**keys, "rope_parameters": {_FULL: _rope_of(config.rotary_base, 1.0),
                                        _SLIDING: _rope_of(1e4, 1.0), **found}}  # fmt: skip


FAMILY2 = dataclasses.replace(
    llama.FAMILY,
    model_type="gemma2",
    architecture="Gemma2ForCausalLM",
    read=read2,
    write=write2,
    norms=NORMS,
    ignored=frozenset(("cache_implementation", "hidden_act")),
)
FAMILY3 = dataclasses.replace(
    FAMILY2,
    model_type="gemma3_text",
    architecture="Gemma3ForCausalLM",
    read=read3,
    write=write3,
    norms={**NORMS, "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"},
)
