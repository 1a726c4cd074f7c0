"""How a batch is divided; that sums and gradients stay is told where problems use it."""

import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.training import slices


def test_slices_take_from_all_over_the_batch():
    taken = slices.divide({"x": jnp.arange(6), "y": jnp.arange(12).reshape(6, 2)}, 2)
    np.testing.assert_array_equal(taken["x"], [[0, 2, 4], [1, 3, 5]])
    np.testing.assert_array_equal(taken["y"][1, 0], [2, 3])


@pytest.mark.parametrize(
    ("batch_size", "each", "expected"),
    [(12, 10, 1), (12, 30, 3), (12, 50, 6), (12, 1000, 12), (7, 30, 7)],
)
def test_the_fewest_even_slices_that_are_small_enough(batch_size, each, expected):
    assert slices.fewest(batch_size, each, 120) == expected
