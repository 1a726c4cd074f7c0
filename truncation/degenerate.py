"""Equal singular values: where a rank-k truncation is not unique, and what to do then.

If s_k = s_{k+1}, any rotation inside their common subspace gives another equally good SVD,
and keeping k components keeps an arbitrary part of it. Either cut at the edge of the
subspace (snap), or average the measurement over the rotations (rotate).
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from truncated_weights.truncation.address import Matrices, Params
from truncated_weights.truncation.editing import resolve
from truncated_weights.truncation.notation import Intervention, kept_band
from truncated_weights.truncation.spectrum import Decomposition, singular_values

TOLERANCE = 1e-5
SIDES = ("nearest", "inside", "outside")


def groups(
    values: Float[np.ndarray, " r"], *, tolerance: float = TOLERANCE
) -> list[tuple[int, int]]:
    """Runs [start, stop) of singular values whose neighbours differ by at most a tolerance.

    values in falling order; tolerance is relative to the largest, whose rounding error
    in an SVD is of order 1e-7 in float32. Every rank is in exactly one run.
    """
    gaps = -np.diff(np.asarray(values, np.float64))
    edges = np.flatnonzero(gaps > tolerance * float(values[0]))
    bounds = [0, *(edges + 1).tolist(), len(values)]
    return list(itertools.pairwise(bounds))


def snap(
    values: Float[np.ndarray, " r"],
    kept: int,
    *,
    side: str = "nearest",
    tolerance: float = TOLERANCE,
) -> int:
    """The number of components to keep that splits no run of equal values.

    side: inside keeps none of a split run, outside keeps all of it, nearest whichever is
    closer to `kept` (inside where equally close).
    """
    if side not in SIDES:
        raise ValueError(f"side {side!r}: expected {' '.join(SIDES)}")
    if not 0 <= kept <= len(values):
        raise ValueError(f"kept {kept}: expected 0 to {len(values)}")
    for start, stop in groups(values, tolerance=tolerance):
        if start < kept < stop:
            if side == "nearest":
                return start if kept - start <= stop - kept else stop
            return start if side == "inside" else stop
    return kept


def rotate(
    decomposition: Decomposition,
    key: PRNGKeyArray,
    *,
    tolerance: float = TOLERANCE,
) -> Decomposition:
    """The same matrix with a random basis in every subspace of equal singular values.

    Bases are uniform (Haar), so the mean of any measurement over keys is its average over
    all the truncations that have equal right to the name. Not for use under jit.
    """
    u, s, vt = decomposition
    rotation = jnp.eye(len(s), dtype=s.dtype)
    for start, stop in groups(np.asarray(s), tolerance=tolerance):
        key, subkey = jax.random.split(key)
        block = jax.random.orthogonal(subkey, stop - start, dtype=s.dtype)
        rotation = rotation.at[start:stop, start:stop].set(block)
    exact = jax.lax.Precision.HIGHEST
    return Decomposition(
        jnp.matmul(u, rotation, precision=exact), s, jnp.matmul(rotation.T, vt, precision=exact)
    )


def ambiguities(
    params: Params,
    intervention: Intervention,
    matrices: Matrices,
    *,
    tolerance: float = TOLERANCE,
) -> list[str]:
    """One line for every cut that goes through equal singular values above zero."""
    lines = []
    for key, cut in resolve(intervention, matrices).items():
        if cut.kind != "rank":
            continue
        values = np.asarray(singular_values(matrices[key].read(params)))
        for rank in kept_band(cut, len(values)):
            inside = snap(values, rank, side="inside", tolerance=tolerance)
            outside = snap(values, rank, side="outside", tolerance=tolerance)
            if inside < outside and values[inside] > tolerance * values[0]:
                lines.append(
                    f"{cut} cuts at {rank} through singular values {inside} to {outside - 1}, "
                    f"all {float(values[inside]):.6g}: the result depends on the basis; "
                    f"{inside} and {outside} are the edges"
                )
    return lines
