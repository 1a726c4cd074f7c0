"""Seeds trained side by side: which were lost, and means over the others that say how many.

A seed that leaves the finite numbers goes on as NaN beside the others. What it recorded before
counts nowhere: a curve whose mean is over other seeds at every step is no curve.

Arrays are those of a run: GROUP/NAME [records, seeds, ...] where there is GROUP/steps [records]
(NAME beside `steps` where there are no groups), final/NAME [seeds], and first_bad [seeds] or
[records, seeds], the step at which each seed was lost, -1 where it was not.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

FIRST_BAD = "first_bad"

Arrays = Mapping[str, np.ndarray]


def lost(arrays: Arrays) -> np.ndarray:
    """Whether each seed was lost [seeds]; empty where the arrays tell of no seeds.

    Records without first_bad tell by their last training loss.
    """
    if FIRST_BAD in arrays:
        first = np.asarray(arrays[FIRST_BAD])
        return (first if first.ndim == 1 else first[-1]) >= 0
    losses = np.asarray(arrays.get("train/loss", np.zeros((0, 0))))
    # A loss over no steps at all is NaN in every seed and says nothing.
    if not len(losses) or len(losses) < 2:
        return np.zeros(losses.shape[-1], bool)
    return ~np.isfinite(losses[-1])


def surviving(arrays: Arrays) -> dict[str, np.ndarray]:
    """The same arrays without the lost seeds; ValueError where none is left."""
    gone = lost(arrays)
    if not gone.any():
        return dict(arrays)
    if gone.all():
        raise ValueError(f"all {gone.size} seeds left the finite numbers")
    return {
        name: _without(name, np.asarray(values), gone, arrays) for name, values in arrays.items()
    }


def mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean over the finite entries of an axis, NaN where there are none."""
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    if finite.all() and values.shape[axis]:
        return np.asarray(values.mean(axis=axis))
    count = finite.sum(axis=axis)
    total = np.where(finite, values, 0).sum(axis=axis)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def deviation(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Standard deviation over the finite entries of an axis, NaN of fewer than two."""
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    if finite.all() and values.shape[axis] > 1:
        return np.asarray(values.std(axis=axis, ddof=1))
    count = finite.sum(axis=axis)
    away = np.where(finite, values - np.expand_dims(mean(values, axis), axis), 0)
    return np.where(count > 1, np.sqrt((away**2).sum(axis=axis) / np.maximum(count - 1, 1)), np.nan)


def told(name: str, values: np.ndarray) -> dict[str, Any]:
    """A figure's mean over seeds [seeds] as a summary holds it.

    NAME, beside it NAME/sem, the standard error, where it is of more than one seed, and NAME/seeds,
    of how many it is, where these are not all: of 0, the mean is NaN.
    """
    values = np.asarray(values, np.float64)
    kept = values[np.isfinite(values)]
    found = {name: float(kept.mean()) if kept.size else float("nan")}
    if kept.size > 1:
        found[f"{name}/sem"] = float(kept.std(ddof=1) / np.sqrt(kept.size))
    if kept.size < values.size:
        found[f"{name}/seeds"] = int(kept.size)
    return found


def counted(arrays: Arrays) -> dict[str, int]:
    """What a summary says of all its means: how many seeds they are of, how many were lost."""
    gone = lost(arrays)
    return {"seeds": int((~gone).sum()), "seeds_lost": int(gone.sum())}


def of_how_many(summary: Mapping[str, Any], of: str = "") -> str:
    """What a table says of the means under a prefix: 4, or 3 of 4 where one was lost."""
    kept, gone = (int(summary[f"{of}{name}"]) for name in ("seeds", "seeds_lost"))
    return f"{kept} of {kept + gone}" if gone else f"{kept}"


def sentence(summary: Mapping[str, Any]) -> str:
    """What a program prints where seeds were lost; empty where none was."""
    gone = int(summary["seeds_lost"])
    if not gone:
        return ""
    return f"means are of {of_how_many(summary)} seeds; {gone} left the finite numbers"


def _without(name: str, values: np.ndarray, gone: np.ndarray, arrays: Arrays) -> np.ndarray:
    """One array without the lost seeds; as it is where it has no axis of seeds."""
    if name.rpartition("/")[2] == "steps":
        return values
    if name == FIRST_BAD:
        return values[..., ~gone]
    if name.startswith("final/"):
        return values[~gone] if values.ndim else values
    parts = name.split("/")
    recorded = any(
        "/".join((*parts[:length], "steps")) in arrays for length in range(len(parts) - 1, -1, -1)
    )
    has_seeds = recorded and values.ndim > 1 and values.shape[1] == gone.size
    return values[:, ~gone] if has_seeds else values
