import numpy as np
import pytest

from training.loop import Record
from training.trajectory import Trajectory


def record(step, **measured):
    loss = np.array([step / 2, step / 2 + 1], np.float32)
    return Record(
        step, loss if step else np.full(2, np.nan, np.float32), measured, np.array([-1, -1])
    )


@pytest.fixture
def grown():
    trajectory = Trajectory()
    trajectory.add(record(0, models={"p": np.array([0.0, 1.0])}, spectra={"s": np.ones((2, 3))}))
    trajectory.add(record(3, models={"p": np.array([0.5, 1.0])}))
    trajectory.add(record(4))
    trajectory.add(
        record(6, models={"p": np.array([0.2, np.inf])}, spectra={"s": np.zeros((2, 3))})
    )
    return trajectory


def equal(a, b):
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_each_group_has_its_own_steps(grown):
    arrays = grown.arrays()
    np.testing.assert_array_equal(arrays["models/steps"], [0, 3, 6])
    np.testing.assert_array_equal(arrays["models/p"], [[0, 1], [0.5, 1], [0.2, np.inf]])
    np.testing.assert_array_equal(arrays["spectra/steps"], [0, 6])
    assert arrays["spectra/s"].shape == (2, 2, 3)
    np.testing.assert_array_equal(arrays["train/steps"], [0, 3, 4, 6])
    np.testing.assert_array_equal(arrays["train/loss"][2], [2, 3])


def test_lines_are_flat_means_over_seeds_of_what_is_finite(grown):
    assert list(grown.lines()) == [
        {"step": 0, "p": 0.5},
        {"step": 3, "p": 0.75, "train/loss": 2.0},
        {"step": 4, "train/loss": 2.5},
        # The second run's p is infinite there.
        {"step": 6, "p": 0.2, "train/loss": 3.5},
    ]


def test_cut_forgets_what_came_after_in_every_group(grown):
    grown.cut(4)
    arrays = grown.arrays()
    assert arrays["train/steps"].tolist() == [0, 3, 4]
    assert arrays["models/steps"].tolist() == [0, 3]
    assert arrays["spectra/steps"].tolist() == [0]
    assert len(arrays["spectra/s"]) == 1


def test_a_trajectory_read_back_and_continued_is_the_one_never_stopped(grown):
    expected = grown.arrays()
    begun = Trajectory(grown.arrays())
    begun.cut(3)
    again = Trajectory(begun.arrays())
    again.add(record(4))
    again.add(record(6, models={"p": np.array([0.2, np.inf])}, spectra={"s": np.zeros((2, 3))}))
    equal(again.arrays(), expected)
    assert list(again.lines()) == list(Trajectory(expected).lines())


def test_cut_to_nothing_leaves_an_empty_trajectory(grown):
    grown.cut(-1)
    assert grown.arrays() == {}
    assert list(Trajectory(None).lines()) == []
