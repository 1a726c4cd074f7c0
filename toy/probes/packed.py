"""Scored positions in rows without gaps.

A trigger comes as often as it comes: of the slots that a batch keeps per sequence, two thirds are
filled, and far fewer where a trigger may follow itself. What the layers below give is written
slice by slice behind what is there already, so that whatever comes after runs over full rows:

    sequence 0   a b c .        a b c
    sequence 1   d . . .   ->   d e f
    sequence 2   e f . .
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from toy.recall import Batch, Scored


class Packing(NamedTuple):
    """Which slot goes into which row, for several sets whose slots are numbered one after another.

    slot: of each row; rows from `filled` on hold nothing and weigh nothing. before: how many rows
    the slots before each slot fill. set_of: the set of each row. scored: what is known of each
    row, as one sequence [1, rows].
    """

    slot: Int[Array, " rows"]
    filled: Int[Array, ""]
    before: Int[Array, " slots"]
    set_of: Int[Array, " rows"]
    scored: Scored


def pack(sets: Sequence[Batch], *, rows: int, spare: int) -> Packing:
    """The scored positions of all sets in `rows` rows; those beyond are lost.

    spare: rows behind these that are written to, and never read.
    """
    known = Scored(
        *(
            jnp.concatenate([getattr(batch, name).ravel() for batch in sets])
            for name in Scored._fields
        )
    )
    wanted = known.weights > 0
    slot = jnp.pad(jnp.nonzero(wanted, size=rows, fill_value=0)[0], (0, spare))
    before = jnp.minimum(jnp.cumsum(wanted) - wanted, rows)
    filled = jnp.minimum(jnp.sum(wanted), rows)
    scored = Scored(*(field[slot][None] for field in known))
    live = jnp.arange(rows + spare) < filled
    scored = scored._replace(weights=scored.weights * live[None])
    of_set = [jnp.full(batch.weights.size, index) for index, batch in enumerate(sets)]
    return Packing(slot, filled, before, jnp.concatenate(of_set)[slot], scored)


def blank(like: Any, packing: Packing) -> Any:
    """Zeros with all rows in place of the axes [sequences, slots] of each [..., b, s, d]."""
    rows = packing.slot.shape[0]
    return jax.tree.map(lambda x: jnp.zeros((*x.shape[:-3], rows, x.shape[-1]), x.dtype), like)


def append(buffers: Any, values: Any, packing: Packing, first: Int[Array, ""]) -> Any:
    """buffers [..., rows, d] with the filled slots of values [..., b, s, d] in their rows.

    first: number of the first of these slots. What it leaves behind the last row that it fills, the
    next slice overwrites.
    """
    start = packing.before[first]

    def one(buffer: Float[Array, "*more rows d"], value: Float[Array, "*more b s d"]) -> Array:
        flat = value.reshape(*value.shape[:-3], -1, value.shape[-1])
        slots = flat.shape[-2]
        wanted = jax.lax.dynamic_slice(packing.slot, (start,), (slots,)) - first
        chosen = jnp.take(flat, jnp.clip(wanted, 0, slots - 1), axis=-2)
        return jax.lax.dynamic_update_slice_in_dim(buffer, chosen, start, axis=buffer.ndim - 2)

    return jax.tree.map(one, buffers, values)


def rows_of(buffers: Any, start: Int[Array, ""], count: int) -> Any:
    """`count` rows of each buffer, as one sequence [..., 1, count, d]."""

    def one(buffer: Float[Array, "*more rows d"]) -> Array:
        axis = buffer.ndim - 2
        return jnp.expand_dims(jax.lax.dynamic_slice_in_dim(buffer, start, count, axis), axis)

    return jax.tree.map(one, buffers)


def known(packing: Packing, start: Int[Array, ""], count: int) -> tuple[Scored, Array]:
    """What is known of `count` rows, and their sets."""
    fields = [jax.lax.dynamic_slice_in_dim(field, start, count, 1) for field in packing.scored]
    return Scored(*fields), jax.lax.dynamic_slice_in_dim(packing.set_of, start, count)
