"""The rotary embedding in config.json: two spellings, three kinds.

transformers 4 has rope_theta and partial_rotary_factor at the top and rope_scaling, an
object with a `rope_type` (or `type`), beside them; transformers 5 puts all into
rope_parameters. A file with both must say the same twice. Kinds: default, llama3, longrope
(once called su); linear, dynamic and yarn are refused by name.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from truncated_weights.bridge.config import Config, Llama3Rope, LongRope
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.families.keys import Keys, number
from truncated_weights.truncation.files import telling

_LLAMA3 = {
    "factor": "factor",
    "low": "low_freq_factor",
    "high": "high_freq_factor",
    "original": "original_max_position_embeddings",
}
_KEYS = {
    "default": (),
    "llama3": tuple(_LLAMA3.values()),
    "longrope": (
        *("short_factor", "long_factor", "factor", "attention_factor"),
        "original_max_position_embeddings",
    ),
}


def read(
    keys: Keys,
    *,
    kinds: Sequence[str] = ("default",),
    theta: str = "rope_theta",
    fraction: str = "partial_rotary_factor",
    default_fraction: float = 1.0,
    partial: bool = True,
) -> dict[str, Any]:
    """rotary_fraction, rotary_base and rope_scaling, as Config names them.

    theta and fraction are the names of the older, top-level keys; kinds those the family
    may use; without `partial` it rotates whole heads. Raises CheckpointError.
    """
    found = _read(keys, kinds, theta, fraction, default_fraction)
    if not 0 < found["rotary_fraction"] <= 1:
        raise CheckpointError(f"{fraction} is {found['rotary_fraction']}; expected in (0, 1]")
    if not partial and found["rotary_fraction"] != 1:
        raise CheckpointError(
            f"{fraction} {found['rotary_fraction']:g} is not supported; only 1 is in this family"
        )
    return found


def _read(
    keys: Keys, kinds: Sequence[str], theta: str, fraction: str, default_fraction: float
) -> dict[str, Any]:
    old = _old(keys, theta, fraction, default_fraction)
    new = keys.get("rope_parameters")
    if new is None:
        return _understand(keys, old, kinds)
    if not isinstance(new, dict):
        raise CheckpointError(f"rope_parameters is {new!r}; expected an object")
    found = _understand(keys, {**old, **new}, kinds)
    said = {key: value for key, value in old.items() if key in new or key in ("type", "rope_type")}
    for name, top in (("rope_theta", theta), ("partial_rotary_factor", fraction)):
        if keys.get(top) is not None and name in said and said[name] != new[name]:
            raise CheckpointError(f"{top} {old[name]:g} and {name} {new[name]:g} disagree")
    if keys.get("rope_scaling") is not None and _understand(keys, old, kinds) != found:
        raise CheckpointError("rope_scaling and rope_parameters disagree")
    return found


def _old(keys: Keys, theta: str, fraction: str, default_fraction: float) -> dict[str, Any]:
    scaling = keys.get("rope_scaling", {})
    if not isinstance(scaling, dict):
        raise CheckpointError(f"rope_scaling is {scaling!r}; expected an object")
    return {
        "rope_theta": keys.number(theta, 10000.0),
        "partial_rotary_factor": keys.number(fraction, default_fraction),
        **scaling,
    }


def _understand(keys: Keys, rope: Mapping[str, Any], kinds: Sequence[str]) -> dict[str, Any]:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if "type" in rope and rope["type"] != kind:
        raise CheckpointError(f"rope_type {kind!r} and type {rope['type']!r} disagree")
    kind = "longrope" if kind == "su" else kind
    if kind not in kinds:
        raise CheckpointError(f"rope_type {kind!r} is not supported; known are {', '.join(kinds)}")
    known = {"rope_type", "type", "rope_theta", "partial_rotary_factor", *_KEYS[kind]}
    if unknown := sorted(set(rope) - known):
        raise CheckpointError(f"the rope has unknown keys: {telling.some(unknown)}")
    scaling: Llama3Rope | LongRope | None = None
    if kind == "llama3":
        scaling = _llama3(rope)
    elif kind == "longrope":
        scaling = _longrope(keys, rope)
    return {
        "rotary_base": number("rope_theta", rope["rope_theta"]),
        "rotary_fraction": number("partial_rotary_factor", rope["partial_rotary_factor"]),
        "rope_scaling": scaling,
    }


def _positive(name: str, value: Any) -> float:
    if not number(name, value) > 0:
        raise CheckpointError(f"{name} is {value!r}; expected a positive number")
    return float(value)


def _llama3(rope: Mapping[str, Any]) -> Llama3Rope:
    missing = [theirs for theirs in _LLAMA3.values() if theirs not in rope]
    if missing:
        raise CheckpointError(f"the llama3 rope lacks {', '.join(missing)}")
    found = {ours: _positive(theirs, rope[theirs]) for ours, theirs in _LLAMA3.items()}
    if found["low"] >= found["high"]:
        raise CheckpointError(
            f"low_freq_factor {found['low']:g} is not below high_freq_factor {found['high']:g}"
        )
    return Llama3Rope(found["factor"], found["low"], found["high"], int(found["original"]))


def _factors(name: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or not value:
        raise CheckpointError(f"{name} is {str(value)[:80]!r}; expected a list of numbers")
    return tuple(_positive(name, item) for item in value)


def _longrope(keys: Keys, rope: Mapping[str, Any]) -> LongRope:
    name = "original_max_position_embeddings"
    # Of two, Phi-3's own key at the top is the one that transformers uses.
    original = keys.get(name, rope.get(name))
    if original is None:
        raise CheckpointError(f"the longrope lacks {name}")
    original = _positive(name, original)
    longest = _positive("max_position_embeddings", keys.get("max_position_embeddings"))
    factor = rope.get("factor")
    factor = longest / original if factor is None else _positive("factor", factor)
    scale = rope.get("attention_factor")
    if scale is None:
        scale = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return LongRope(
        _factors("short_factor", rope.get("short_factor")),
        _factors("long_factor", rope.get("long_factor")),
        int(original),
        _positive("attention_factor", scale),
    )


def write(config: Config) -> dict[str, Any]:
    """The keys in transformers 4's spelling, which 5 reads alike."""
    keys: dict[str, Any] = {"rope_theta": config.rotary_base}
    scaling = config.rope_scaling
    if isinstance(scaling, Llama3Rope):
        theirs = {name: getattr(scaling, ours) for ours, name in _LLAMA3.items()}
        keys["rope_scaling"] = {"rope_type": "llama3", **theirs}
    elif isinstance(scaling, LongRope):
        keys["original_max_position_embeddings"] = scaling.original
        keys["rope_scaling"] = {
            "rope_type": "longrope",
            "type": "longrope",
            "short_factor": list(scaling.short),
            "long_factor": list(scaling.long),
            "attention_factor": scaling.scale,
        }
    return keys
