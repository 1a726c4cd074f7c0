"""Figures of runs in which nothing is finite are drawn all the same."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from truncated_weights.experiments.run.drawing import style


@pytest.mark.parametrize("values", [[np.inf, np.inf], [np.nan, np.nan]])
def test_a_logarithmic_axis_without_a_finite_number_is_empty(values, tmp_path):
    figure = Figure()
    for which in ("x", "y"):
        axes = figure.add_subplot()
        points = ([1.0, 2.0], values) if which == "y" else (values, [1.0, 2.0])
        axes.plot(*points)
        axes.set(**{f"{which}scale": "log"})
    style.tame(figure)
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_limits_of_positive_numbers_stay_what_they_were():
    figure = Figure()
    axes = figure.add_subplot()
    axes.loglog([1.0, 10.0], [2.0, 0.5])
    before = axes.get_xlim(), axes.get_ylim()
    style.tame(figure)
    assert (axes.get_xlim(), axes.get_ylim()) == before
