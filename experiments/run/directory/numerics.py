"""What a run's numbers depend on beside its settings: recorded, and compared on continuing.

The random implementation, its partitioning, 64-bit numbers and the precision of products change
what is drawn or computed altogether: a run that goes on under another is neither the one nor the
other, so it is refused. The number of cores, XLA's flags, the device and the versions change the
order of sums: the run goes on, but not to the bit as it would have (with one core instead of two
about half of the arrays differ, by 6e-5 at most). That is told, and recorded.
"""

import os
from collections.abc import Mapping
from typing import Any

import jax

# As the environment variables that set them are called, in small letters.
_STREAM = ("jax_default_prng_impl", "jax_threefry_partitionable", "jax_enable_x64")
_DRAWS = (*_STREAM, "jax_default_matmul_precision")
# Keys of config.json that change the order of sums at most.
_ROUNDING = ("device", "cores", "xla_flags", "versions")


def environment() -> dict[str, Any]:
    """The random stream, precision, cores and flags of this process, as config.json has them."""
    return {
        "draws": {name: getattr(jax.config, name) for name in _DRAWS},
        "cores": cores(),
        "xla_flags": " ".join(sorted(os.environ.get("XLA_FLAGS", "").split())),
    }


def cores() -> int:
    """Processors that this process may use, which is what XLA divides its work by."""
    return len(os.sched_getaffinity(0))


def refusal(before: Mapping[str, Any], *, stream_only: bool = False) -> str:
    """How the draws differ from those that config.json tells; empty if they do not.

    before: config.json; of one that was written before this was recorded nothing is compared.
    stream_only: whether another precision of products is no matter.
    """
    was, now = before.get("draws"), environment()["draws"]
    if not isinstance(was, Mapping):
        return ""
    for name in _STREAM if stream_only else _DRAWS:
        if was.get(name) != now[name]:
            return (
                f"was begun with {name}={was.get(name)}, not {now[name]}; "
                f"set {name.upper()}={_as_variable(was.get(name))}"
            )
    return ""


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What changes the order of sums and is another than config.json tells, one text each."""
    return [
        f"{name} {_shown(before[name])} became {_shown(now[name])}"
        for name in _ROUNDING
        if name in before and before[name] != now[name]
    ]


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name} {version}" for name, version in value.items())
    return str(value) if value not in ("", None) else "none"


def _as_variable(value: Any) -> str:
    return {"True": "1", "False": "0", "None": ""}.get(str(value), str(value))
