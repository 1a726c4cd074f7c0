"""Singular values: decompositions, ranks and random-matrix edges of one matrix.

Convention, everywhere in the project: a weight matrix W is [d_in, d_out] and acts
as x @ W, so W = sum_i sigma_i u_i v_i^T where u_i reads the input and v_i writes
the output.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from scipy import integrate, optimize


class Decomposition(NamedTuple):
    """W = u diag(s) vt with s in falling order; r = min(d_in, d_out)."""

    u: Float[Array, "*batch d_in r"]
    s: Float[Array, "*batch r"]
    vt: Float[Array, "*batch r d_out"]


def decompose(matrix: Float[Array, "*batch d_in d_out"]) -> Decomposition:
    """Exact thin SVD, in float32 at least."""
    matrix = matrix.astype(jnp.promote_types(matrix.dtype, jnp.float32))
    return Decomposition(*jnp.linalg.svd(matrix, full_matrices=False))


def decompose_gram(matrix: Float[Array, "*batch d_in d_out"]) -> Decomposition:
    """The decomposition by the eigenvectors of W W^T (or W^T W, whichever is smaller).

    Several times cheaper than decompose, on accelerators more so. u diag(s) vt gives W to rounding,
    and so do its parts: the other side is W applied to the eigenvectors, never divided by a
    small number twice. The vectors themselves are less exact: a pair of singular values a, b is
    mixed by about eps s_1^2 / |a^2 - b^2| instead of eps s_1 / |a - b|.
    """
    matrix = matrix.astype(jnp.promote_types(matrix.dtype, jnp.float32))
    if matrix.shape[-2] > matrix.shape[-1]:
        v, s, ut = decompose_gram(jnp.swapaxes(matrix, -1, -2))
        return Decomposition(jnp.swapaxes(ut, -1, -2), s, jnp.swapaxes(v, -1, -2))
    exact = jax.lax.Precision.HIGHEST
    gram = jnp.matmul(matrix, jnp.swapaxes(matrix, -1, -2), precision=exact)
    u = jnp.linalg.eigh(gram)[1][..., ::-1]
    rows = jnp.matmul(jnp.swapaxes(u, -1, -2), matrix, precision=exact)
    s = jnp.linalg.norm(rows, axis=-1)
    vt = rows / jnp.where(s > 0, s, 1)[..., None]
    return Decomposition(u, s, vt)


def singular_values(matrix: Float[Array, "*batch d_in d_out"]) -> Float[Array, "*batch r"]:
    """Singular values alone, in falling order: several times cheaper than decompose."""
    matrix = matrix.astype(jnp.promote_types(matrix.dtype, jnp.float32))
    return jnp.linalg.svd(matrix, compute_uv=False)


def reconstruct(
    matrix: Float[Array, "*batch d_in d_out"],
    decomposition: Decomposition,
    keep: Float[Array, "*batch r"],
) -> Float[Array, "*batch d_in d_out"]:
    """Sum of keep_i sigma_i u_i v_i^T; all ones returns `matrix` to the bit, all zeros 0.

    The exact ends let one vectorised call hold edited and untouched matrices.
    """
    u, s, vt = decomposition
    partial = jnp.matmul(
        u * (s * keep)[..., None, :], vt, precision=jax.lax.Precision.HIGHEST
    ).astype(matrix.dtype)
    untouched = jnp.all(keep == 1, axis=-1)[..., None, None]
    return jnp.where(untouched, matrix, partial)


def soft_rank(singular_values: Float[Array, "*batch r"]) -> Float[Array, "*batch"]:
    """Frobenius over spectral norm, between 1 (rank one) and sqrt(r) (orthogonal); 0 for W = 0."""
    top = singular_values[..., 0]
    frobenius = jnp.sqrt(jnp.sum(singular_values**2, axis=-1))
    return jnp.where(top > 0, frobenius / jnp.where(top > 0, top, 1), 0)


def marchenko_pastur_edge(shape: tuple[int, int], sigma: float) -> float:
    """Largest singular value of an m x n matrix of iid noise: sigma (sqrt m + sqrt n).

    sigma is the standard deviation of one entry. Exact as m, n grow with m/n fixed;
    fluctuations are of order n^(-1/6) sigma (Tracy and Widom).
    """
    rows, columns = shape
    return sigma * (math.sqrt(rows) + math.sqrt(columns))


@functools.lru_cache(maxsize=256)
def marchenko_pastur_median(beta: float) -> float:
    """Median of the Marchenko-Pastur law of squared singular values, 0 < beta <= 1.

    The law of s^2 / (n sigma^2) for an m x n matrix of iid noise, m <= n, beta = m/n: density
    sqrt((b - x)(x - a)) / (2 pi beta x) on [a, b], a and b = (1 -+ sqrt beta)^2.
    """
    if not 0 < beta <= 1:
        raise ValueError(f"beta {beta}: expected a number in (0, 1]")
    lower, upper = (1 - math.sqrt(beta)) ** 2, (1 + math.sqrt(beta)) ** 2

    # Substituting x = centre + half * sin(angle) removes both square-root endpoints.
    centre, half = (upper + lower) / 2, (upper - lower) / 2

    def density(angle: float) -> float:
        x = centre + half * math.sin(angle)
        return (half * math.cos(angle)) ** 2 / (2 * math.pi * beta * x) if x > 0 else 0.0

    def mass_below(angle: float) -> float:
        return integrate.quad(density, -math.pi / 2, angle, epsabs=1e-12)[0] - 0.5

    angle = optimize.brentq(mass_below, -math.pi / 2, math.pi / 2, xtol=1e-13)
    return centre + half * math.sin(angle)


def noise_level(
    singular_values: Float[Array, "*batch r"], shape: tuple[int, int]
) -> Float[Array, "*batch"]:
    """Standard deviation of the noise in one entry, from the median singular value.

    median(s) / sqrt(max(shape) mu(beta)); for a low-rank signal in iid noise, consistent as
    the shape grows while the rank does not. marchenko_pastur_edge(shape, this) is the edge.
    """
    scale = math.sqrt(max(shape) * marchenko_pastur_median(min(shape) / max(shape)))
    return jnp.median(singular_values, axis=-1) / scale


def gavish_donoho_coefficient(shape: tuple[int, int]) -> float:
    """omega(beta): the best hard threshold is omega times the median singular value.

    Gavish and Donoho, "The optimal hard threshold for singular values is 4/sqrt(3)"
    (2014), for noise of unknown level: omega(beta) = lambda*(beta) / sqrt(mu(beta)),
    beta = min/max of the shape, lambda*(beta) the optimal coefficient at known noise,
    mu(beta) the median of the Marchenko-Pastur law. About 2.858 for a square matrix.
    """
    beta = min(shape) / max(shape)
    known = math.sqrt(2 * (beta + 1) + 8 * beta / ((beta + 1) + math.sqrt(beta**2 + 14 * beta + 1)))
    return known / math.sqrt(marchenko_pastur_median(beta))


def gavish_donoho_threshold(
    singular_values: Float[Array, "*batch r"], shape: tuple[int, int]
) -> Float[Array, "*batch"]:
    """Values above this are signal, for a low-rank signal in white noise of unknown level."""
    return gavish_donoho_coefficient(shape) * jnp.median(singular_values, axis=-1)


def direction_share(
    decomposition: Decomposition, direction: Float[Array, "*batch d_out"]
) -> Float[Array, "*batch r"]:
    """Where an output direction sits in the spectrum: (v_i . direction)^2 / |direction|^2.

    Sums to at most one over i; to one exactly when the matrix writes into all of R^d_out.
    """
    overlap = jnp.einsum("...ro,...o->...r", decomposition.vt, direction)
    return overlap**2 / jnp.sum(direction**2, axis=-1)[..., None]
