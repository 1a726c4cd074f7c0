"""Cuts measured by data, against constructions by brute force in NumPy's float64."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from truncated_weights import truncation
from truncated_weights.truncation import metrics, notation
from truncated_weights.truncation.metrics import Moments

WHERE = {"fc_in": "{layer}/w"}


def one(seed, d_in, d_out, rows):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(d_in, d_out)).astype(np.float32)
    scales = np.exp(rng.normal(size=d_in))
    x, g = rng.normal(size=(rows, d_in)) * scales, rng.normal(size=(rows, d_out))
    return weights, x, g


def cut(weights, text, x, g=None):
    found = truncation.moments(x, g)
    params = truncation.cut(
        [{"w": jnp.asarray(weights)}], text, WHERE, moments={(0, "fc_in"): found}
    )
    return np.asarray(params[0]["w"], np.float64)


def floored(second):
    values, vectors = np.linalg.eigh(second)
    return (vectors * np.maximum(values, metrics.FLOOR * values[-1])) @ vectors.T


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 9), st.integers(2, 6), st.integers(2, 6),
    st.sampled_from(["0.5", "-0.34", "0.2:0.7", "0"]), st.sampled_from(["whitened", "fisher"]),
)  # fmt: skip
def test_a_cut_is_the_one_by_roots_of_matrices(seed, d_in, d_out, rho, metric):
    """scipy's own square root of a matrix instead of eigenvectors."""
    weights, x, g = one(seed, d_in, d_out, 40)
    left = np.real(sqrtm(floored(x.T @ x / 40)))
    right = np.real(sqrtm(floored(g.T @ g / 40))) if metric == "fisher" else np.eye(d_out)
    u, s, vt = np.linalg.svd(left @ weights @ right, full_matrices=False)
    (parsed,) = notation.parse(f"0.fc_in@{metric}:{rho}").cuts
    start, stop = notation.kept_band(parsed, min(d_in, d_out))
    s[:start], s[stop:] = 0, 0
    expected = np.linalg.inv(left) @ (u * s) @ vt @ np.linalg.inv(right)
    found = cut(weights, f"0.fc_in@{metric}:{rho}", x, g)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_whitened_cut_changes_the_outputs_least():
    """Of all matrices of its rank, by a search from it in random directions."""
    weights, x, _ = one(3, 6, 5, 60)
    found = cut(weights, "0.fc_in@whitened:0.4", x)
    least = np.sum((x @ (found - weights)) ** 2)
    plain = np.sum((x @ (cut(weights, "0.fc_in@0.4", x) - weights)) ** 2)
    assert least < 0.9 * plain
    rng = np.random.default_rng(0)
    u, s, vt = np.linalg.svd(found)
    for _ in range(50):
        a = u[:, :2] * s[:2] + 1e-2 * rng.normal(size=(6, 2))
        near = a @ (vt[:2] + 1e-2 * rng.normal(size=(2, 5)))
        assert np.sum((x @ (near - weights)) ** 2) > least
    # And it is what the singular values say.
    parts = metrics.decompose(jnp.asarray(weights), "whitened", truncation.moments(x))
    assert least / 60 == pytest.approx(
        float(np.sum(np.asarray(parts.s, np.float64)[2:] ** 2)), 1e-4
    )


def test_kfac_keeps_the_entries_of_largest_weight():
    weights, x, g = one(1, 4, 3, 50)
    a, left = np.linalg.eigh(x.T @ x / 50)
    b, right = np.linalg.eigh(g.T @ g / 50)
    entries = np.zeros((4, 3))
    ranked = []
    for i in range(4):
        for j in range(3):
            entries[i, j] = left[:, i] @ weights @ right[:, j]
            ranked.append((-abs(entries[i, j]) * np.sqrt(a[i] * b[j]), i, j))
    kept = np.zeros((4, 3))
    for _, i, j in sorted(ranked)[:6]:
        kept[i, j] = entries[i, j]
    found = cut(weights, "0.fc_in@kfac:0.5", x, g)
    np.testing.assert_allclose(found, left @ kept @ right.T, atol=1e-5)
    rest = cut(weights, "0.fc_in@kfac:-0.5", x, g)
    np.testing.assert_allclose(found + rest, weights, atol=1e-5)


@pytest.mark.parametrize("metric", notation.METRICS)
def test_everything_kept_is_the_model_to_the_bit_and_nothing_is_zero(metric):
    weights, x, g = one(2, 5, 4, 3)  # fewer rows than inputs: moments without full rank
    np.testing.assert_array_equal(cut(weights, f"0.fc_in@{metric}:1", x, g), weights)
    np.testing.assert_allclose(cut(weights, f"0.fc_in@{metric}:0", x, g), 0, atol=1e-6)
    np.testing.assert_array_equal(cut(0 * weights, f"0.fc_in@{metric}:0.5", x, g), 0)


@pytest.mark.parametrize("rho", ["0.4", "-0.2", "0.2:0.6"])
def test_where_inputs_and_gradients_are_alike_in_all_directions_it_is_the_plain_cut(rho):
    weights, _, _ = one(4, 5, 5, 1)
    plain = cut(weights, f"0.fc_in@{rho}", np.eye(5))
    for metric in ("whitened", "fisher"):
        found = cut(weights, f"0.fc_in@{metric}:{rho}", 3 * np.eye(5), 0.1 * np.eye(5))
        np.testing.assert_allclose(found, plain, atol=1e-5)


def test_bfloat16_stays_bfloat16_and_loses_little():
    weights, x, _ = one(5, 8, 6, 50)
    params = [{"w": jnp.asarray(weights, jnp.bfloat16)}]
    found = truncation.cut(
        params, "0.fc_in@whitened:0.5", WHERE, moments={(0, "fc_in"): truncation.moments(x)}
    )[0]["w"]
    assert found.dtype == jnp.bfloat16
    rounded = np.asarray(params[0]["w"], np.float32)
    np.testing.assert_allclose(
        np.asarray(found, np.float32), cut(rounded, "0.fc_in@whitened:0.5", x), atol=0.02
    )


def test_moments_add_up_and_centre():
    _, x, g = one(6, 4, 3, 30)
    both = truncation.moments(x[:12], g[:12]) + truncation.moments(x[12:], g[12:])
    whole = truncation.moments(x, g)
    np.testing.assert_allclose(both.inputs, whole.inputs)
    np.testing.assert_allclose(both.gradients, whole.gradients)
    assert both.number == 30
    centred = whole.centred()
    np.testing.assert_allclose(centred.inputs, 30 * np.cov(x.T, bias=True), atol=1e-9)


@pytest.mark.parametrize(
    ("text", "given_", "said"),
    [
        ("0.fc_in@whitened:0.5", None, "moments of 0.fc_in are needed"),
        ("0.fc_in@fisher:0.5", "no gradients", "hold no gradients"),
        ("0.fc_in@whitened:0.5", "of another size", r"are \(3, 3\), expected \(4, 4\)"),
        ("0.fc_in@hessian:0.5", None, "not a number"),
    ],
)
def test_what_cannot_be_is_one_line(text, given_, said):
    size = 3 if given_ == "of another size" else 4
    moments = {(0, "fc_in"): truncation.moments(np.ones((2, size)))} if given_ else None
    with pytest.raises(ValueError, match=said):
        truncation.cut([{"w": jnp.ones((4, 4))}], text, WHERE, moments=moments)


@pytest.mark.parametrize(
    "text", ["1.fc_in@whitened:0.1", "0.ov@fisher:-0.01", "*.fc_out@kfac:0.1:0.5"]
)
def test_the_notation_is_read_and_written(text):
    assert str(notation.parse(text)) == text


def test_rows_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        truncation.moments(np.array([[1.0, np.nan]]))
    assert isinstance(truncation.moments(np.ones((3, 2))), Moments)
