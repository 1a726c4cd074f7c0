"""Scores of examples as labelled arrays: their means, and intervals from resampling examples.

A score has the axes model and example, and whatever else its question varies: task, step, shots.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from truncated_weights.training.records import Name, name
from truncated_weights.truncation.finite import or_none
from truncated_weights.truncation.search import statistics


def named(scores: Mapping[str, np.ndarray], **at: object) -> dict[Name, np.ndarray]:
    """Scores [examples, 1] of one answer each, as arrays along example at these coordinates."""
    return {name(metric, "example", **at): values[:, 0] for metric, values in scores.items()}


def intervals(scores: xr.Dataset, *, seed: int, samples: int) -> xr.Dataset:
    """METRIC, the mean over examples, with METRIC_low and METRIC_high, its 95 % interval.

    On the other axes of the scores; NaN where one of them is.
    """
    found = {}
    for metric, values in scores.data_vars.items():
        axes = [axis for axis in values.dims if axis != "example"]
        ordered = values.transpose(*axes, "example").values.astype(np.float64)
        bootstrap = statistics.paired_bootstrap(
            ordered.reshape(-1, ordered.shape[-1], 1),
            np.ones((ordered.shape[-1], 1)),
            seed=seed,
            samples=samples,
        )
        for end, part in zip(("", "_low", "_high"), bootstrap, strict=True):
            found[f"{metric}{end}"] = (axes, part.reshape(ordered.shape[:-1]))
    return xr.Dataset(found, {axis: scores[axis] for axis in scores.dims if axis != "example"})


def rows(figures: xr.Dataset, *axes: str) -> list[dict[str, Any]]:
    """A table with a row at each place along these axes; None where there is no figure."""
    places = itertools.product(*(figures[axis].values.tolist() for axis in axes))
    return [
        at | {str(k): or_none(v) for k, v in figures.sel(at).data_vars.items()}
        for at in (dict(zip(axes, place, strict=True)) for place in places)
    ]
