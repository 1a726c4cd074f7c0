"""What a component is measured by: its size, or what it does to data.

A plain cut keeps the largest terms of W = sum_i sigma_i u_i v_i^T. With A = E[x x^T] the second
moment of the matrix's inputs and G = E[g g^T] that of the gradients of the loss by its outputs,

    whitened   A^(1/2) W         = U S V^T,  components (A^(-1/2) u_i) s_i v_i^T
    fisher     A^(1/2) W G^(1/2) = U S V^T,  components (A^(-1/2) u_i) s_i (v_i^T G^(-1/2))
    kfac       entries of Q_A^T W Q_G, measured by |entry| sqrt(a_i g_j): Q the eigenvectors,
               a and g the eigenvalues of A and G

All components, or entries, add up to W. Dropping some of the whitened ones changes the outputs by
sum s_i^2 in the mean square, the least for their number (SVD-LLM, arXiv 2403.07378); fisher does so
for the loss in the second order, where A and G are independent (GFWSVD, 2505.17974); kfac is the
curvature's own basis (2510.24256). With A = G = 1 whitened and fisher are the plain cut.

The square roots are of eigendecompositions in float64, with eigenvalues raised to FLOOR times the
largest: inputs that never occur are measured by almost nothing, and come back unharmed.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from truncated_weights.truncation.notation import Cut, Key, kept_band
from truncated_weights.truncation.spectrum import Decomposition

FLOOR = 1e-8


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Sums over what a matrix saw: x x^T of its inputs, g g^T of its outputs' gradients.

    inputs [d_in, d_in], gradients [d_out, d_out] or None, mean_inputs [d_in] the sum of x, all
    in float64; number of rows. Two add up to those of both together.
    """

    inputs: Float[np.ndarray, "d_in d_in"]
    mean_inputs: Float[np.ndarray, " d_in"]
    number: int
    gradients: Float[np.ndarray, "d_out d_out"] | None = None

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of both sets of rows."""
        both = None
        if self.gradients is not None and other.gradients is not None:
            both = self.gradients + other.gradients
        return Moments(
            self.inputs + other.inputs,
            self.mean_inputs + other.mean_inputs,
            self.number + other.number,
            both,
        )

    def centred(self) -> "Moments":
        """The same about the mean input: A - m m^T in place of A."""
        mean = self.mean_inputs / self.number
        inputs = self.inputs - self.number * np.outer(mean, mean)
        return dataclasses.replace(self, inputs=inputs, mean_inputs=np.zeros_like(mean))


def moments(
    inputs: Float[Array | np.ndarray, "*rows d_in"],
    gradients: Float[Array | np.ndarray, "*rows d_out"] | None = None,
) -> Moments:
    """The moments of some rows, of any leading shape; add those of more.

    Raises ValueError where a row is not finite, or there is none.
    """
    x = np.asarray(inputs, np.float64).reshape(-1, inputs.shape[-1])
    if not len(x) or not np.isfinite(x).all():
        raise ValueError("moments: no rows, or inputs that are not finite")
    second = None
    if gradients is not None:
        g = np.asarray(gradients, np.float64).reshape(-1, gradients.shape[-1])
        if not np.isfinite(g).all():
            raise ValueError("moments: gradients that are not finite")
        second = g.T @ g
    return Moments(x.T @ x, x.sum(axis=0), len(x), second)


def decompose(matrix: Array, metric: str, found: Moments) -> Decomposition:
    """The components of a matrix [d_in, d_out] in the metric "whitened" or "fisher", in float32.

    s falls; u and vt are not orthonormal, but u diag(s) vt is the matrix. Raises ValueError for
    moments of another size, or none of gradients where they are needed.
    """
    w = np.asarray(matrix, np.float64)
    root, back = _roots(_checked(found.inputs, w.shape[0], "inputs") / found.number)
    scaled, right = root @ w, None
    if metric == "fisher":
        right = _roots(_gradients(found, w.shape[1]) / found.number)
        scaled = scaled @ right[0]
    u, s, vt = np.linalg.svd(scaled, full_matrices=False)
    u, vt = back @ u, vt if right is None else vt @ right[1]
    dtype = jnp.promote_types(matrix.dtype, jnp.float32)
    return Decomposition(jnp.asarray(u, dtype), jnp.asarray(s, dtype), jnp.asarray(vt, dtype))


def kfac(matrix: Array, cut: Cut, found: Moments) -> Array:
    """The matrix with the entries that a cut keeps in the eigenbases of A and G.

    Entries are ordered by |entry| sqrt(a_i g_j), the largest first, the first of equal ones. A cut
    that keeps all returns the matrix to the bit.
    """
    start, stop = kept_band(cut, matrix.size)
    if (start, stop) == (0, matrix.size):
        return matrix
    w = np.asarray(matrix, np.float64)
    a, left = np.linalg.eigh(_checked(found.inputs, w.shape[0], "inputs") / found.number)
    g, right = np.linalg.eigh(_gradients(found, w.shape[1]) / found.number)
    entries = left.T @ w @ right
    weight = np.sqrt(np.outer(np.maximum(a, 0), np.maximum(g, 0)))
    order = np.argsort(-(np.abs(entries) * weight).reshape(-1), kind="stable")
    kept = np.zeros(entries.size)
    kept[order[start:stop]] = 1
    return jnp.asarray(left @ (entries * kept.reshape(entries.shape)) @ right.T, matrix.dtype)


def of(moments: Mapping[Key, Moments] | None, cut: Cut) -> Moments:
    """The moments that a cut in a metric needs; ValueError saying how to give them."""
    key = int(cut.layer), cut.matrix
    if moments is None or key not in moments:
        raise ValueError(
            f"intervention {cut}: this measures components by data; moments of {key[0]}.{key[1]} "
            "are needed, and none are given"
        )
    return moments[key]


def _checked(found: np.ndarray, size: int, what: str) -> np.ndarray:
    if found.shape != (size, size):
        raise ValueError(f"moments of {what} are {found.shape}, expected {(size, size)}")
    return found


def _gradients(found: Moments, size: int) -> np.ndarray:
    if found.gradients is None:
        raise ValueError("these moments hold no gradients, which fisher and kfac need")
    return _checked(found.gradients, size, "gradients")


def _roots(second: np.ndarray) -> tuple[Any, Any]:
    """The symmetric square root of a moment and its inverse; of zero the identity."""
    values, vectors = np.linalg.eigh(second)
    if not values[-1] > 0:
        return np.eye(len(second)), np.eye(len(second))
    root = np.sqrt(np.maximum(values, FLOOR * values[-1]))
    return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T
