"""Magnitude pruning: which entries of a matrix stay, by absolute value.

The comparison that LASER makes (arXiv 2312.13558): the same share of a matrix removed entry by
entry, smallest first, where truncation removes it singular value by singular value.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def mask(matrix: Float[Array, "d_in d_out"], start: int, stop: int) -> Float[Array, "d_in d_out"]:
    """One at the entries from place `start` up to `stop` of falling |W_ij|, zero elsewhere.

    Exactly stop - start entries stay: of equal ones those that come first, row by row.
    """
    order = jnp.argsort(-jnp.abs(matrix.reshape(-1)), stable=True)
    kept = jnp.zeros(matrix.size, matrix.dtype).at[order[start:stop]].set(1)
    return kept.reshape(matrix.shape)
