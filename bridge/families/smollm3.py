"""SmolLM3 (2025): Llama in which every fourth layer, or those named, does not rotate."""

import dataclasses
from typing import Any

from truncated_weights.bridge.config import Config
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.families import llama, qwen2
from truncated_weights.bridge.families.keys import Keys


def read(keys: Keys) -> dict[str, Any]:
    """Fields of Config; no_rope_layers says 1 where a layer rotates and 0 where it does not."""
    fields = {**llama.read(keys), "windows": ()}
    number, base = fields["num_layers"], fields["rotary_base"]
    interval = keys.integer("no_rope_layer_interval", 4)
    rotates = keys.get("no_rope_layers")
    if rotates is None:
        rotates = [int((layer + 1) % max(interval, 1) != 0) for layer in range(number)]
    if not isinstance(rotates, list) or len(rotates) != number or not set(rotates) <= {0, 1}:
        raise CheckpointError(f"no_rope_layers is {str(rotates)[:80]}; expected 0 or 1 per layer")
    return {
        **fields,
        "windows": qwen2.windows(keys, number),
        "rope_bases": tuple(base if one else 0.0 for one in rotates) * (not all(rotates)),
    }


def write(config: Config) -> dict[str, Any]:
    """Keys of config.json."""
    bases = config.rope_bases or (config.rotary_base,) * config.num_layers
    shared = {k: v for k, v in llama.write(config).items() if k != "head_dim"}
    windows = {k: v for k, v in qwen2.write(config).items() if "window" in k or k == "layer_types"}
    return {
        **shared,
        **windows,
        "no_rope_layers": [int(base > 0) for base in bases],
        "no_rope_layer_interval": 4,
    }


FAMILY = dataclasses.replace(
    llama.FAMILY,
    model_type="smollm3",
    architecture="SmolLM3ForCausalLM",
    read=read,
    write=write,
)
