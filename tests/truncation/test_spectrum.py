import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import integrate

from truncated_weights.truncation import spectrum


def test_decomposition_multiplies_out_and_is_float32_at_least():
    matrix = jax.random.normal(jax.random.key(0), (3, 9, 14), jnp.bfloat16)
    u, s, vt = spectrum.decompose(matrix)
    assert s.dtype == jnp.float32
    np.testing.assert_allclose(
        jnp.einsum("bir,br,bro->bio", u, s, vt), matrix.astype(jnp.float32), atol=1e-5
    )
    exact = np.linalg.svd(np.asarray(matrix, np.float64), compute_uv=False)
    np.testing.assert_allclose(s, exact, rtol=1e-5)
    np.testing.assert_allclose(spectrum.singular_values(matrix), exact, rtol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 7])
def test_ranks_of_flat_spectra(rank):
    """k equal singular values: soft rank sqrt k, whatever their size."""
    values = jnp.concatenate([jnp.full(rank, 3.7), jnp.zeros(9 - rank)])
    np.testing.assert_allclose(spectrum.soft_rank(values), np.sqrt(rank), rtol=1e-6)


def test_ranks_against_definitions():
    matrix = np.random.default_rng(0).normal(size=(6, 11))
    values = jnp.asarray(np.linalg.svd(matrix, compute_uv=False))
    np.testing.assert_allclose(
        spectrum.soft_rank(values), np.linalg.norm(matrix) / np.linalg.norm(matrix, 2), rtol=1e-6
    )
    assert spectrum.soft_rank(jnp.zeros(4)) == 0


@pytest.mark.parametrize("beta", [0.05, 0.25, 0.5, 1.0])
def test_median_of_the_marchenko_pastur_law(beta):
    """The law in its own variable, by another integrator in another arithmetic."""
    median = spectrum.marchenko_pastur_median(beta)
    lower, upper = (1 - mpmath.sqrt(beta)) ** 2, (1 + mpmath.sqrt(beta)) ** 2

    def density(x):
        return mpmath.sqrt(abs((upper - x) * (x - lower))) / (2 * mpmath.pi * beta * x)

    # Away from the lower end, where a square matrix has an integrable singularity.
    above = mpmath.quad(density, [median, (median + upper) / 2, upper])
    assert abs(above - mpmath.mpf("0.5")) < 1e-6
    whole = integrate.quad(lambda x: float(density(x)), float(lower), float(upper), limit=200)[0]
    np.testing.assert_allclose(whole, 1, atol=1e-5)


def test_square_matrices_in_closed_form():
    """The quarter-circle median is 2 sin(pi/4 - D/2) with D = cos D, so omega = 2.858."""
    dottie = float(mpmath.findroot(lambda x: mpmath.cos(x) - x, 0.7))
    exact = 4 / np.sqrt(3) / (2 * np.sin(np.pi / 4 - dottie / 2))
    assert round(exact, 3) == 2.858  # as published
    np.testing.assert_allclose(spectrum.gavish_donoho_coefficient((70, 70)), exact, rtol=1e-9)
    assert spectrum.gavish_donoho_coefficient((5, 100)) == spectrum.gavish_donoho_coefficient(
        (100, 5)
    )


def test_coefficients_follow_the_published_cubic():
    for beta in np.linspace(0.05, 1, 12):
        cubic = 0.56 * beta**3 - 0.95 * beta**2 + 1.82 * beta + 1.43
        ours = spectrum.gavish_donoho_coefficient((round(1000 * beta), 1000))
        assert abs(ours - cubic) < 0.02
    with pytest.raises(ValueError, match="beta"):
        spectrum.marchenko_pastur_median(1.5)


@pytest.mark.parametrize("shape", [(60, 240), (128, 128)])
def test_random_matrices_end_at_the_edge_and_give_their_noise_away(shape):
    sigma, draws = 0.3, 30
    noise = sigma * np.random.default_rng(1).normal(size=(draws, *shape))
    values = jnp.asarray(np.linalg.svd(noise, compute_uv=False))
    edge = spectrum.marchenko_pastur_edge(shape, sigma)
    top = np.asarray(values[:, 0])
    # Tracy and Widom: the top value lies 1.2 +- 1.3 fluctuation units below the edge.
    rows, columns = shape
    unit = (
        sigma**2
        * (np.sqrt(rows) + np.sqrt(columns))
        * (1 / np.sqrt(rows) + 1 / np.sqrt(columns)) ** (1 / 3)
    ) / (2 * edge)
    shift = (top - edge) / unit
    np.testing.assert_allclose(shift.mean(), -1.2065, atol=4 * 1.27 / np.sqrt(draws))
    levels = np.asarray(spectrum.noise_level(values, shape))
    error = levels.std(ddof=1) / np.sqrt(draws)
    assert abs(levels.mean() - sigma) < 4 * error + sigma / min(shape)


def test_threshold_keeps_the_planted_and_nothing_else():
    rng = np.random.default_rng(4)
    shape, kept = (100, 150), []
    for trial in range(10):
        noise = rng.normal(size=shape) / np.sqrt(shape[1])
        u, _, vt = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
        spikes = (u[:, :trial] * 4.0) @ vt[:trial]
        values = spectrum.singular_values(jnp.asarray(noise + spikes))
        threshold = spectrum.gavish_donoho_threshold(values, shape)
        kept.append(int(jnp.sum(values > threshold)))
    assert kept == list(range(10))


def test_share_of_a_direction():
    matrix = jax.random.normal(jax.random.key(2), (12, 8))
    parts = spectrum.decompose(matrix)
    direction = jax.random.normal(jax.random.key(3), (8,))
    share = spectrum.direction_share(parts, direction)
    np.testing.assert_allclose(jnp.sum(share), 1, rtol=1e-5)
    np.testing.assert_allclose(
        spectrum.direction_share(parts, 5 * parts.vt[3]), np.eye(8)[3], atol=1e-5
    )


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (8, 8)])
def test_gram_decomposition_is_the_exact_one(shape):
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    exact, gram = spectrum.decompose(matrix), spectrum.decompose_gram(matrix)
    np.testing.assert_allclose(gram.s, exact.s, rtol=1e-5)
    for kept in (1, 3, 8):
        parts = [(d.u[:, :kept] * d.s[None, :kept]) @ d.vt[:kept] for d in (exact, gram)]
        np.testing.assert_allclose(parts[1], parts[0], atol=2e-5)
    flat = spectrum.decompose_gram(jnp.zeros(shape))
    assert not np.any(np.asarray(flat.s))
    assert np.all(np.isfinite(flat.vt))


@pytest.mark.parametrize("shape", [(3, 8, 20), (3, 20, 8)])
def test_gram_decompositions_of_a_stack_are_those_of_its_matrices(shape):
    stack = jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)
    together = spectrum.decompose_gram(stack)
    assert together.u.shape == (*shape[:2], 8)
    assert together.vt.shape == (3, 8, shape[2])
    for index, matrix in enumerate(stack):
        alone = spectrum.decompose_gram(matrix)
        parts = [together.u[index], together.s[index], together.vt[index]]
        products = [(u[:, :4] * s[None, :4]) @ vt[:4] for u, s, vt in (parts, alone)]
        np.testing.assert_allclose(*products, atol=2e-5)
