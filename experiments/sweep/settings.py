"""The settings of a sweep: those of a noisy-recall run, its numbers and choices with many values.

Nothing of a run is written here a second time: the fields come from toy/settings.py, with their
bounds and help. AXES are the settings that take several values.
"""

import dataclasses
from typing import Any

from truncated_weights.toy.settings import NoisyRecall
from truncated_weights.training import settings
from truncated_weights.training.settings import Settings, setting

# Settings of a run that a sweep has once, or not at all.
_ONCE = (
    "text", "seed", "num_seeds", "devices", "matmul_precision", "eval_every", "eval_batch",
    "checkpoint_every",
)  # fmt: skip
_LEFT_OUT = ("start_from", "bigram_batch", "final_batch", "spectrum_every", "rhos")
# Smaller than one demo run, because there are many.
_DEFAULTS: dict[str, Any] = {
    "alpha": (0.1, 0.3, 0.5),
    "num_tokens": (32,),
    "length": (64,),
    "d_model": (64,),
    "steps": (300,),
    "num_seeds": 2,
    "eval_every": 100,
    "eval_batch": 64,
}

_kinds = settings.kinds(NoisyRecall)
_fields = {field.name: field for field in dataclasses.fields(NoisyRecall)}
AXES = tuple(
    name
    for name, (kind, several) in _kinds.items()
    if not several and kind is not bool and name not in (*_ONCE, *_LEFT_OUT)
)


@dataclasses.dataclass(frozen=True)
class Sweep(Settings):
    """What a sweep has beside the settings of its runs."""

    zip: tuple[str, ...] = setting(
        (), "Axes that go together value by value, as alpha+learning_rate; others are a product."
    )
    shown: tuple[str, ...] = setting(
        (), "Columns of the table to draw; empty means the usual ones.", drawing=True
    )
    first_steps: int = setting(
        0, "Gradients whose deviation from their mean is measured before the first step, if any.",
        lower=0, upper=100_000,
    )  # fmt: skip
    together: int = setting(
        0, "Runs a device does at once; 0 means one on a CPU, else all.", lower=0, upper=65_536
    )

    def axes(self) -> dict[str, tuple[Any, ...]]:
        """The values of every axis, also of those with one."""
        return {name: getattr(self, name) for name in AXES}

    def shared(self) -> dict[str, Any]:
        """The settings that all runs have in common."""
        return {name: getattr(self, name) for name in SHARED}

    def __post_init__(self) -> None:
        super().__post_init__()
        zipped = [name for group in self.zip for name in group.split("+")]
        for name in zipped:
            if name not in AXES:
                raise ValueError(f"zip names {name!r}, which is no axis")
            if zipped.count(name) > 1:
                raise ValueError(f"zip has {name} twice")
        for group in self.zip:
            lengths = {name: len(getattr(self, name)) for name in group.split("+")}
            if len(set(lengths.values())) > 1:
                told = ", ".join(f"{name} {length}" for name, length in lengths.items())
                raise ValueError(f"zip of {group} needs as many values of each: {told}")
        for name, values in self.axes().items():
            if name not in zipped and len(set(values)) < len(values):
                raise ValueError(f"{name} has a value twice")


def _field(name: str) -> tuple[str, Any, Any]:
    """A setting of a run as a setting of a sweep: many values where it is an axis."""
    kind, several = _kinds[name]
    rule, default = settings.rule(_fields[name]), _fields[name].default
    if name not in AXES:
        new = dataclasses.field(default=_DEFAULTS.get(name, default), metadata={"rule": rule})
        return name, tuple[kind, ...] if several else kind, new  # type: ignore[valid-type]
    # Zipped axes may hold a value twice; Sweep refuses it elsewhere.
    rule = dataclasses.replace(rule, repeats=True, required=True)
    default = _DEFAULTS.get(name, (default,))
    return name, tuple[kind, ...], dataclasses.field(default=default, metadata={"rule": rule})  # type: ignore[valid-type]


SETTINGS: type[Sweep] = dataclasses.make_dataclass(
    "SweepSettings",
    [_field(name) for name in _fields if name not in _LEFT_OUT],
    bases=(Sweep,),
    frozen=True,
)
SETTINGS.__doc__ = "Every setting of a sweep; see Sweep."
# What the runs have in common besides the axes.
SHARED = tuple(name for name in _fields if name not in (*AXES, *_LEFT_OUT))
