"""Rows of the table from curves and spectra whose answer is known."""

import numpy as np
import pytest

from experiments.sweep import rows


def test_half_step_lies_on_the_curve_between_two_records():
    steps = np.array([0, 1, 3, 7, 15])
    # Linear in log2(1 + step) = 0, 1, 2, 3, 4.
    curve = np.array([0.0, 0.1, 0.2, 0.3, 0.4])
    assert rows.half_step(steps, curve, 0.25) == pytest.approx(2**2.5 - 1)
    assert rows.half_step(steps, curve, 0.3) == pytest.approx(7)
    assert rows.half_step(steps, curve, -1.0) == 0.0
    assert rows.half_step(steps, curve, 0.5) is None
    assert rows.half_step(steps, curve, np.nan) is None


def test_the_end_that_holds_the_noise():
    values = np.array([4.0, 3.0, 1.0])
    found = rows._noise_end(values, np.array([0.1, 0.7, 0.2]))
    assert found == {"noise_place": 2, "noise_share": 0.7, "noise_over_rest": 0.75}
    found = rows._noise_end(values, np.array([0.8, 0.1, 0.1]))
    assert (found["noise_place"], found["noise_over_rest"]) == (1, pytest.approx(4 / 3))
