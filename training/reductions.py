"""What is read off recorded curves: means with their errors, half times, single records.

Each is written here once; figures, summaries, tables and claims all call it.
"""

import math
from typing import NamedTuple

import numpy as np
import xarray as xr


class Mean(NamedTuple):
    """A mean, its standard error (NaN of a single value), and of how many values it is."""

    value: xr.DataArray
    error: xr.DataArray
    seeds: xr.DataArray


def mean(values: xr.DataArray, over: str = "seed") -> Mean:
    """Mean over the finite values along an axis, with the standard error of that mean.

    In float64. seeds is the number of finite values; 0 of them have no mean.
    """
    found = values.astype(np.float64).where(np.isfinite(values))
    count = found.notnull().sum(over)
    several = count.where(count > 1)
    error = (((found - found.mean(over)) ** 2).sum(over) / (several - 1) / several) ** 0.5
    return Mean(found.mean(over), error, count)


def finite_mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Mean over the finite entries of an axis, NaN where there are none."""
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    if finite.all() and values.shape[axis]:
        return np.asarray(values.mean(axis=axis))
    count = finite.sum(axis=axis)
    total = np.where(finite, values, 0).sum(axis=axis)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def finite_deviation(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Standard deviation over the finite entries of an axis, NaN of fewer than two."""
    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    if finite.all() and values.shape[axis] > 1:
        return np.asarray(values.std(axis=axis, ddof=1))
    count = finite.sum(axis=axis)
    away = np.where(finite, values - np.expand_dims(finite_mean(values, axis), axis), 0)
    return np.where(count > 1, np.sqrt((away**2).sum(axis=axis) / np.maximum(count - 1, 1)), np.nan)


def at(values: xr.DataArray, step: int) -> xr.DataArray:
    """The record at a step, the last one for -1; KeyError where nothing was measured there."""
    return values.isel(step=-1) if step == -1 else values.sel(step=step)


def crossing_step(values: xr.DataArray, level: float | int) -> float:
    """The first step at which a curve [step] reaches a level; NaN if it never does.

    Between two records the curve is taken to be straight over log(1 + step). The first record's
    step where the curve begins at or above the level.
    """
    curve, steps = np.asarray(values, np.float64), np.asarray(values.step, np.float64)
    above = curve >= level
    if not above.any() or not math.isfinite(level):
        return math.nan
    after = int(np.argmax(above))
    if after == 0:
        return float(steps[0])
    (left, right), (low, high) = (
        np.log1p(steps[after - 1 : after + 1]),
        curve[after - 1 : after + 1],
    )
    return float(np.expm1(left + (right - left) * (level - low) / (high - low)))


def half_step(values: xr.DataArray) -> float:
    """The step at which a curve [step] reaches half of its last value (see crossing_step).

    NaN where the last value is not positive.
    """
    last = float(values.isel(step=-1))
    return crossing_step(values, last / 2) if last > 0 else math.nan
