"""Components kept: the one form in which it is passed on what stays of a matrix.

    Mask    ones where a part stays, zeros where it goes: [r] over the singular components,
            or [d_in, d_out] over the entries where a cut is by magnitude

By it a matrix W = sum_i sigma_i u_i v_i^T becomes sum_i m_i sigma_i u_i v_i^T, or m * W. What is
removed is 1 - m. Everything that edits takes masks (editing.edit, Address.keep and keep_factored,
Decompositions.keep), and a choice of several matrices is masks by key (Choice.masks,
Pruning.masks); search/passes.py stacks the masks of candidates, [candidates, r]. Around it are

    Cut              what a user writes: fractions of the order of falling size (notation.py)
    a band           the first rank kept and the first beyond, integers: notation.kept_band
    an order         ranks as a rule would remove them: `all_but_first` makes its mask
    a number         how many are kept, for tables and for notation.keep_top

each of which is turned into a mask as soon as the matrix, or its rank, is known.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from truncated_weights.truncation import spectrum
from truncated_weights.truncation.notation import Cut, kept_band
from truncated_weights.truncation.spectrum import Decomposition

Mask = Array


def mask(cut: Cut, matrix: Float[Array, "d_in d_out"], parts: Decomposition | None) -> Mask:
    """What a cut keeps: [d_in, d_out] by magnitude, else [r] of `parts`, W's decomposition."""
    if not cut.by_components:
        return entries(matrix, *kept_band(cut, matrix.size))
    assert parts is not None
    return components(cut, parts.s, matrix.shape)


def components(
    cut: Cut, singular_values: Float[Array, "*batch r"], shape: tuple[int, ...]
) -> Float[Array, "*batch r"]:
    """The mask of a cut by components; shape is the matrix's own, (d_in, d_out)."""
    if cut.kind == "auto":
        threshold = spectrum.gavish_donoho_threshold(singular_values, (shape[0], shape[1]))
        return (singular_values > threshold[..., None]).astype(singular_values.dtype)
    kept = jnp.asarray(ranks(cut, min(shape)), singular_values.dtype)
    return jnp.broadcast_to(kept, singular_values.shape)


def ranks(cut: Cut, rank: int) -> Bool[np.ndarray, " r"]:
    """True at the ranks in the band of a cut, of `rank` in all; made on the host."""
    start, stop = kept_band(cut, rank)
    every = np.arange(rank)
    return (every >= start) & (every < stop)


def entries(
    matrix: Float[Array, "d_in d_out"], start: int, stop: int
) -> Float[Array, "d_in d_out"]:
    """One at the entries from rank `start` up to `stop` of falling |W_ij|, zero elsewhere.

    Magnitude pruning, with which LASER compares (arXiv 2312.13558): the same share of a matrix
    removed entry by entry. Exactly stop - start stay: of equal ones the first, row by row.
    """
    order = jnp.argsort(-jnp.abs(matrix.reshape(-1)), stable=True)
    kept = jnp.zeros(matrix.size, matrix.dtype).at[order[start:stop]].set(1)
    return kept.reshape(matrix.shape)


def all_but_first(order: Int[np.ndarray, " r"], fraction: float) -> Float[np.ndarray, " r"]:
    """float32 ones, and zeros at the first floor(fraction r) components of an order."""
    found = np.ones(len(order), np.float32)
    # The small number undoes the rounding of a decimal fraction: 0.29 of 100 is 29.
    found[order[: int(fraction * len(order) + 1e-9)]] = 0
    return found
