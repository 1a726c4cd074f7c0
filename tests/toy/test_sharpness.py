import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toy import sharpness


def test_sharpest_direction_of_a_quadratic_over_a_tree():
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    matrix = basis @ np.diag([9.0, 4.0, 2.0, 1.0, 0.5, -3.0]) @ basis.T

    def loss(params):
        z = jnp.concatenate([params["a"], params["b"].ravel()])
        return 0.5 * jnp.dot(z, jnp.asarray(matrix, jnp.float32) @ z) + jnp.sum(z)

    params = {"a": jnp.ones(2), "b": jnp.zeros((2, 2))}
    found = sharpness.sharpest(loss, params, jax.random.key(0), iterations=40)
    assert float(found.value) == pytest.approx(9, rel=1e-4)
    direction = np.concatenate([found.direction["a"], np.ravel(found.direction["b"])])
    assert abs(direction @ basis[:, 0]) == pytest.approx(1, abs=1e-4)
    parts = sharpness.shares(found.direction)
    assert float(parts["a"] + parts["b"]) == pytest.approx(1, abs=1e-5)
    assert float(parts["a"]) == pytest.approx(np.sum(basis[:2, 0] ** 2), abs=1e-4)


def test_what_a_direction_does_to_the_logits():
    inputs = jnp.asarray(np.random.default_rng(1).normal(size=(5, 3)), jnp.float32)
    direction = jnp.zeros((3, 4)).at[:, 3].set(1.0)
    found = sharpness.response(lambda w: inputs @ w, jnp.zeros((3, 4)), direction)
    # Class 3 moves by 3/4 of what it moved before the mean is taken out, the others by 1/4.
    np.testing.assert_allclose(found, np.array([1, 1, 1, 9]) / 12, rtol=1e-5)
