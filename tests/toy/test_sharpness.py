import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.toy import sharpness


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


def test_curvatures_that_a_direction_meets():
    rng = np.random.default_rng(2)
    basis, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    values = np.array([0.0, 0.5, 1.0, 2.0, 4.0, 9.0])
    matrix = jnp.asarray(basis @ np.diag(values) @ basis.T, jnp.float32)

    def product(params):
        bent = matrix @ jnp.concatenate([params["a"], params["b"].ravel()])
        return {"a": bent[:2], "b": bent[2:].reshape(2, 2)}

    along = np.array([1.0, 0.0, 2.0, 0.5, 0.0, 1.5])  # components along the eigenvectors
    start = jnp.asarray(basis @ along, jnp.float32)
    tree = {"a": start[:2], "b": start[2:].reshape(2, 2)}
    # Four directions are met: four nodes are these, and more nodes weigh nothing.
    for steps in (4, 6):
        found = sharpness.lanczos(product, tree, steps=steps)
        heavy = np.asarray(found.weights) > 1e-3
        met = along != 0
        np.testing.assert_allclose(found.curvatures[heavy], values[met], atol=1e-4)
        np.testing.assert_allclose(found.weights[heavy], along[met] ** 2, rtol=1e-3)
    # Two nodes are Gauss quadrature: moments up to the third are exact.
    found = sharpness.lanczos(product, tree, steps=2)
    for power in range(4):
        exact = np.sum(along**2 * values**power)
        got = np.sum(np.asarray(found.weights) * np.asarray(found.curvatures) ** power)
        assert got == pytest.approx(exact, rel=1e-4)


def test_gauss_newton_is_the_hessian_where_labels_follow_the_model():
    rng = np.random.default_rng(3)
    inputs = jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32)
    counted = jnp.asarray([[1.0, 1, 0], [1, 0, 0]])
    params = jnp.asarray(rng.normal(size=(4, 5)), jnp.float32)
    law = jax.nn.softmax(inputs @ params, axis=-1)

    def loss(params):
        log_p = jax.nn.log_softmax(inputs @ params, axis=-1)
        return -jnp.sum(counted * jnp.sum(law * log_p, axis=-1)) / 3

    direction = jnp.asarray(rng.normal(size=(4, 5)), jnp.float32)
    product = sharpness.gauss_newton(lambda w: inputs @ w, params, counted)
    exact = jax.jvp(jax.grad(loss), (params,), (direction,))[1]
    np.testing.assert_allclose(product(direction), exact, rtol=1e-4, atol=1e-6)
