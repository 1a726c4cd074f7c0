"""What a GGUF file calls things, as config.json and the tensors of transformers call them.

Its writer changes three things beside names. A Llama's query and key rows are interleaved by
heads, stored = w.reshape(heads, 2, half, in).swapaxes(1, 2), because its reader rotates
neighbours; a wrong order changes every logit and no shape. GPT-NeoX's fused rows, in every head
query, key and value, become all queries, all keys, all values. GPT-2's matrices, which it stores
[in, out], are turned. All three are undone here.

A Mistral's file calls itself llama and has no key for its window: texts longer than that are read
with full attention, as its other readers do.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from truncated_weights.bridge import families
from truncated_weights.bridge.config import Config
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.formats.stored import StoredTensor
from truncated_weights.bridge.gguf.container import Contents

# How a module's tensors are called, by the names that our families have for their modules.
_OUTER = {
    "embed_in": "token_embd", "positions": "position_embd", "final_norm": "output_norm",
    "embed_out": "output",
}  # fmt: skip
_NORMS = {
    "attn_norm": "attn_norm", "mlp_norm": "ffn_norm", "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm",
}  # fmt: skip
_MATRICES = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "out_proj": "attn_output",
    "fc_gate": "ffn_gate", "fc_in": "ffn_up", "fc_out": "ffn_down",
}  # fmt: skip
# Of matrices that are one tensor in transformers' files: what they are here.
_FUSED = {("q_proj", "k_proj", "v_proj"): "attn_qkv", ("fc_gate", "fc_in"): "ffn_up"}
# Llama 3.1 and 3.2 as published, of which a file has the resulting factors alone.
_LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One of the names that general.architecture may have.

    family: whose reader takes the configuration. keys: that of config.json -> ours behind the
    architecture's name and a dot. fixed: keys of config.json that follow from the architecture.
    """

    family: str
    keys: Mapping[str, str]
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_SIZES = {
    "hidden_size": "embedding_length", "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count", "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
}  # fmt: skip
_GROUPS = {"num_key_value_heads": "attention.head_count_kv"}
_RMS = {"rms_norm_eps": "attention.layer_norm_rms_epsilon", "rope_theta": "rope.freq_base"}
_LAYER = {"layer_norm_eps": "attention.layer_norm_epsilon"}
ARCHITECTURES = {
    "llama": Architecture("llama", _SIZES | _GROUPS | _RMS | {"head_dim": "attention.key_length"}),
    "qwen2": Architecture("qwen2", _SIZES | _GROUPS | _RMS),
    "phi2": Architecture("phi", _SIZES | _GROUPS | _LAYER | {"rope_theta": "rope.freq_base"}),
    "phi3": Architecture(
        "phi3", _SIZES | _GROUPS | _RMS | {"sliding_window": "attention.sliding_window"}
    ),
    "gptneox": Architecture(
        "gpt_neox",
        _SIZES | _LAYER | {"use_parallel_residual": "use_parallel_residual",
                           "rotary_emb_base": "rope.freq_base"},
        {"hidden_act": "gelu"},
    ),
    "gpt2": Architecture("gpt2", {
        "n_embd": "embedding_length", "n_layer": "block_count", "n_head": "attention.head_count",
        "n_inner": "feed_forward_length", "n_positions": "context_length",
        "layer_norm_epsilon": "attention.layer_norm_epsilon",
    }),
}  # fmt: skip


# Keys that are sizes, by which what follows is computed.
_COUNTED = {*_SIZES.values(), *_GROUPS.values(), "attention.key_length"}


def describe(contents: Contents) -> Config:
    """The architecture of a file; CheckpointError for one that is not known, or misses keys."""
    metadata = contents.metadata
    name = metadata.get("general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        said = f"architecture {str(name)[:80]!r} is not supported"
        raise CheckpointError(f"{said}; known are {known}")
    found, own = ARCHITECTURES[name], functools.partial(_own, metadata, name)
    if "token_embd.weight" not in contents.tensors:
        raise CheckpointError("missing: token_embd.weight")
    raw: dict[str, Any] = {
        "model_type": found.family,
        "vocab_size": contents.tensors["token_embd.weight"].shape[0],
        "tie_word_embeddings": "output.weight" not in contents.tensors,
        **found.fixed,
        **{key: own(theirs) for key, theirs in found.keys.items() if own(theirs) is not None},
    }
    for key, theirs in found.keys.items():
        sizes = isinstance(raw.get(key), int) or key not in raw
        if theirs in _COUNTED and not (sizes and 0 < raw.get(key, 1) <= 2**24):
            raise CheckpointError(f"{name}.{theirs} is {str(raw[key])[:40]}; expected a size")
    raw |= _rope(contents, name, raw, own)
    if found.family == "llama":
        raw["attention_bias"] = "blk.0.attn_output.bias" in contents.tensors
        raw["mlp_bias"] = "blk.0.ffn_down.bias" in contents.tensors
    return families.from_dict(raw)


def _own(metadata: Mapping[str, Any], name: str, key: str) -> Any:
    found = metadata.get(f"{name}.{key}")
    # A number for each layer, where layers differ: which none of these families allows.
    return found.tolist() if isinstance(found, np.ndarray) else found


def _rope(
    contents: Contents, name: str, raw: Mapping[str, Any], own: Callable[[str], Any]
) -> dict[str, Any]:
    """The keys of config.json that say what is rotated, and by which angles."""
    rotated, heads = own("rope.dimension_count"), raw.get("num_attention_heads")
    found: dict[str, Any] = {}
    if rotated is not None and not (type(rotated) is int and 0 < rotated <= 2**17):
        raise CheckpointError(f"rope.dimension_count is {str(rotated)[:40]}; expected a size")
    if name in ("phi2", "phi3", "gptneox") and rotated and heads and "hidden_size" in raw:
        share = rotated * heads / raw["hidden_size"]
        found["rotary_pct" if name == "gptneox" else "partial_rotary_factor"] = share
    kind = own("rope.scaling.type")
    if kind not in (None, "none", "longrope") and own("rope.scaling.factor") not in (None, 1.0):
        raise CheckpointError(f"rope.scaling.type {str(kind)[:40]!r} is not supported")
    if "rope_freqs.weight" in contents.tensors:
        found["rope_scaling"] = _llama3(_values(contents, "rope_freqs.weight"), raw)
    if "rope_factors_long.weight" in contents.tensors:
        original = own("rope.scaling.original_context_length")
        found["rope_scaling"] = {
            "type": "longrope",
            "long_factor": _values(contents, "rope_factors_long.weight").tolist(),
            "short_factor": _values(contents, "rope_factors_short.weight").tolist(),
        }
        found["original_max_position_embeddings"] = original
    return found


def _values(contents: Contents, name: str) -> np.ndarray:
    if name not in contents.tensors or contents.tensors[name].shape[0] > 2**12:
        raise CheckpointError(f"{name} is missing or too long")
    stored = np.concatenate(list(contents.tensors[name].read(1)))
    # The shortest decimals that are the same float32, as config.json has them.
    return np.array([float(str(value)) for value in stored.astype(np.float32)])


def _llama3(factors: np.ndarray, raw: Mapping[str, Any]) -> dict[str, Any]:
    """The published rope that divides frequencies by these factors; CheckpointError if none."""
    if missing := [k for k in ("hidden_size", "num_attention_heads") if k not in raw]:
        raise CheckpointError(f"missing keys: {', '.join(missing)}")
    size = raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"]
    base = raw.get("rope_theta", 1e4)
    if (
        not 0 < size <= 2**16
        or len(factors) != size // 2
        or not (isinstance(base, float | int) and 1 < base < 1e30)
    ):
        raise CheckpointError("rope_freqs.weight does not fit the heads, or rope.freq_base is none")
    frequencies = base ** (-np.arange(0, size, 2) / size)
    turns = _LLAMA3["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    low, high = _LLAMA3["low_freq_factor"], _LLAMA3["high_freq_factor"]
    kept = np.clip((turns - low) / (high - low), 0, 1)
    for factor in (8.0, 32.0):
        expected = 1 / (kept + (1 - kept) / factor)
        if expected.shape == factors.shape and np.allclose(expected, factors, rtol=1e-4):
            return {"rope_type": "llama3", "factor": factor, **_LLAMA3}
    raise CheckpointError("rope_freqs.weight holds the factors of no published Llama")


def tensors(contents: Contents, config: Config) -> dict[str, StoredTensor]:
    """The tensors under the names and in the order of transformers' files.

    What the file has beside them keeps its name, and is refused as unexpected by who reads them.
    """
    names = dict(_renamed(config))
    found = {}
    for name, tensor in contents.tensors.items():
        if name.startswith(("rope_freqs.", "rope_factors_")):
            continue
        stored, matrix = names.get(name, (name, ""))
        found[stored] = _undone(tensor, matrix, config, name.endswith(".weight"))
    return found


def _renamed(config: Config) -> Iterator[tuple[str, tuple[str, str]]]:
    """Name in the file -> name in transformers' files, and the matrix whose rows it holds."""
    family = families.of(config)
    for module, stored in family.outer.items():
        for leaf in ("weight", "bias"):
            yield f"{_OUTER[module]}.{leaf}", (f"{stored}.{leaf}", "")
    for layer in range(config.num_layers):
        inside, here = f"blk.{layer}", family.layer.format(layer)
        for leaf in ("weight", "bias"):
            for module, stored in family.norms.items():
                yield f"{inside}.{_NORMS[module]}.{leaf}", (f"{here}.{stored}.{leaf}", "")
            for stored in dict.fromkeys(family.matrices.values()):
                members = tuple(m for m, name in family.matrices.items() if name == stored)
                name = _FUSED[members] if len(members) > 1 else _MATRICES[members[0]]
                matrix = "qkv" if len(members) == 3 else members[0]
                yield f"{inside}.{name}.{leaf}", (f"{here}.{stored}.{leaf}", matrix)


def _undone(tensor: StoredTensor, matrix: str, config: Config, weight: bool) -> StoredTensor:
    """A tensor as transformers stores it."""
    if config.family == "llama" and matrix in ("q_proj", "k_proj"):
        half = config.head_dim // 2
        # Row 2 i + j of a head goes to row j half + i.
        return _reordered(tensor, np.arange(2 * half).reshape(half, 2).T.reshape(-1))
    if config.family == "gpt_neox" and matrix == "qkv" and tensor.shape[0] == 3 * config.d_model:
        parts = np.arange(tensor.shape[0]).reshape(3, config.num_heads, config.head_dim)
        return _reordered(tensor, parts.swapaxes(0, 1).reshape(-1))
    if families.of(config).columns and matrix and weight and len(tensor.shape) == 2:
        return dataclasses.replace(
            tensor, shape=tensor.shape[::-1], read=functools.partial(_turned, tensor)
        )
    return tensor


def _reordered(tensor: StoredTensor, order: np.ndarray) -> StoredTensor:
    """In every len(order) rows, row i is what was row order[i]; left alone where none fit in."""
    if tensor.shape[0] % len(order):
        return tensor
    return dataclasses.replace(tensor, read=functools.partial(_in_order, tensor, order))


def _in_order(tensor: StoredTensor, order: np.ndarray, multiple: int) -> Iterator[np.ndarray]:
    for block in tensor.read(math.lcm(multiple, len(order))):
        yield block.reshape(-1, len(order), *block.shape[1:])[:, order].reshape(block.shape)


def _turned(tensor: StoredTensor, multiple: int) -> Iterator[np.ndarray]:
    # Whole: its rows are columns of what is stored.
    yield np.concatenate(list(tensor.read(1))).T
