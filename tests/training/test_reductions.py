import math

import numpy as np
import pytest
import xarray as xr

from truncated_weights.training import reductions


def curve(*values, steps=(0, 1, 3, 7)):
    return xr.DataArray(np.array(values, float), dims="step", coords={"step": list(steps)})


def test_a_mean_is_of_the_finite_values_and_says_of_how_many():
    values = xr.DataArray(
        np.array([[1, 2, 3, 6], [1, np.nan, 3, np.inf], [np.nan] * 4, [5, np.nan, np.nan, np.nan]]),
        dims=("model", "seed"),
    )
    found = reductions.mean(values)
    np.testing.assert_array_equal(found.value, [3, 2, np.nan, 5])
    np.testing.assert_allclose(found.error, [np.std([1, 2, 3, 6], ddof=1) / 2, 1, np.nan, np.nan])
    assert found.seeds.values.tolist() == [4, 2, 0, 1]


def test_at_is_by_step_and_minus_one_is_the_last():
    values = curve(0.1, 0.2, 0.3, 0.4)
    assert reductions.at(values, -1) == 0.4
    assert reductions.at(values, 3) == 0.3
    with pytest.raises(KeyError):
        reductions.at(values, 2)


def test_a_half_step_lies_between_two_records_straight_in_the_logarithm():
    # log(1 + step) is 0, ln 2, 2 ln 2, 3 ln 2 here.
    assert reductions.half_step(curve(0, 0, 0.4, 1.0)) == pytest.approx(2 ** (2 + 1 / 6) - 1)
    assert reductions.crossing_step(curve(0, 0, 0.4, 1.0), 0.4) == pytest.approx(3)
    # Refining a curve that is straight in log(1 + step) does not move its half.
    fine = np.arange(8)
    assert reductions.half_step(curve(*np.log1p(fine), steps=fine)) == pytest.approx(
        math.sqrt(8) - 1, rel=1e-2
    )


def test_a_curve_that_begins_beyond_or_never_arrives():
    assert reductions.half_step(curve(0.9, 0.1, 0.2, 1.0)) == 0
    assert math.isnan(reductions.half_step(curve(0, 0, 0, 0)))
    assert math.isnan(reductions.half_step(curve(0, 0, 0, -1)))
    assert math.isnan(reductions.half_step(curve(0, 0, 0, np.nan)))
    assert math.isnan(reductions.crossing_step(curve(0, 0, 0, 1), 2))
    assert math.isnan(reductions.crossing_step(curve(0, 0, 0, 1), math.nan))
