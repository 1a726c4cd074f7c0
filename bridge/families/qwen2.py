"""Qwen2 (Yang et al., arXiv 2407.10671): Llama with biases on query, key and value."""

import dataclasses
from typing import Any

from truncated_weights.bridge.config import Config
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.families import llama, rope
from truncated_weights.bridge.families.keys import Keys

_KINDS = {"full_attention": False, "sliding_attention": True}


def windows(keys: Keys, num_layers: int) -> tuple[int, ...]:
    """Windows by layer: of those named sliding, or from max_window_layers on."""
    window = keys.integer("sliding_window", 4096)
    first = keys.integer("max_window_layers", 28)
    used = keys.flag("use_sliding_window", False)
    kinds = keys.get("layer_types")
    if kinds is None:
        sliding = [index >= first for index in range(num_layers)]
    else:
        if not isinstance(kinds, list) or len(kinds) != num_layers:
            raise CheckpointError(f"layer_types is {str(kinds)[:80]}; expected one per layer")
        if unknown := [kind for kind in kinds if kind not in _KINDS]:
            raise CheckpointError(f"layer_types names {str(unknown[0])[:80]!r}")
        sliding = [_KINDS[kind] for kind in kinds]
        if any(sliding) and not used:
            raise CheckpointError("layer_types has sliding_attention, use_sliding_window is false")
    return tuple(window if slides else 0 for slides in sliding) if used and any(sliding) else ()


def read(keys: Keys) -> dict[str, Any]:
    """Fields of Config."""
    fields = llama.gated(keys, groups=32)
    return {
        **fields,
        **rope.read(keys, partial=False),
        "windows": windows(keys, fields["num_layers"]),
        "biases": ("q_proj", "k_proj", "v_proj"),
    }


def write(config: Config) -> dict[str, Any]:
    """Keys of config.json."""
    windows = config.windows or (0,) * config.num_layers
    return {
        **llama.write_gated(config),
        "use_sliding_window": any(windows),
        "sliding_window": max(windows) or None,
        "max_window_layers": next((i for i, window in enumerate(windows) if window), len(windows)),
        "layer_types": ["sliding_attention" if window else "full_attention" for window in windows],
    }


FAMILY = dataclasses.replace(
    llama.FAMILY,
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    read=read,
    write=write,
)
