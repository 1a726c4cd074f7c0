"""Scored positions in rows without gaps.

    sum_{sequences, slots} w f(v)  =  sum_{rows} w f(v),   w = 0 where a slot is empty

for an f that is applied row by row, as all is that comes after the attention of the last layer.
A batch keeps as many slots per sequence as its busiest ones fill; on average two thirds are
filled, and far fewer where a trigger may follow itself. So f runs over the filled slots alone,
at the cost of one copy of what it reads. What the layers below give is written slice by slice
behind what is there already:

    sequence 0   a b c .        a b c
    sequence 1   d . . .   ->   d e f
    sequence 2   e f . .
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from truncated_weights.toy.recall import Batch, Scored


class RowMap(NamedTuple):
    """Which slot goes into which row, for several sets whose slots are numbered one after another.

    slot: of each row; rows from `filled` on are empty and have weight 0. before: how many rows the
    slots before each slot fill. set_of: the set of each row. scored: of each row, as one sequence
    [1, rows].
    """

    slot: Int[Array, " rows"]
    filled: Int[Array, ""]
    before: Int[Array, " slots"]
    set_of: Int[Array, " rows"]
    scored: Scored


def pack(sets: Sequence[Batch], *, rows: int, spare: int) -> RowMap:
    """Rows for the scored positions of all sets; those beyond `rows` of them get none.

    spare: rows behind these that `append` writes to and that are never read: as many as the
    largest slice has slots.
    """
    slots = Scored(
        *(
            jnp.concatenate([getattr(batch, name).ravel() for batch in sets])
            for name in Scored._fields
        )
    )
    wanted = slots.weights > 0
    slot = jnp.pad(jnp.nonzero(wanted, size=rows, fill_value=0)[0], (0, spare))
    before = jnp.minimum(jnp.cumsum(wanted) - wanted, rows)
    filled = jnp.minimum(jnp.sum(wanted), rows)
    scored = Scored(*(field[slot][None] for field in slots))
    live = jnp.arange(rows + spare) < filled
    scored = scored._replace(weights=scored.weights * live[None])
    of_set = [jnp.full(batch.weights.size, index) for index, batch in enumerate(sets)]
    return RowMap(slot, filled, before, jnp.concatenate(of_set)[slot], scored)


def zeros(like: Any, row_map: RowMap) -> Any:
    """Zeros [..., rows, d] for each array or shape [..., sequences, slots, d] of `like`."""
    rows = row_map.slot.shape[0]
    return jax.tree.map(lambda x: jnp.zeros((*x.shape[:-3], rows, x.shape[-1]), x.dtype), like)


def append(buffers: Any, values: Any, row_map: RowMap, first: Int[Array, ""]) -> Any:
    """buffers [..., rows, d] with the filled slots of values [..., b, s, d] in their rows.

    first: number of the first of these slots. Rows behind the last one that it fills hold anything;
    the next slice overwrites them.
    """
    start = row_map.before[first]

    def one(buffer: Float[Array, "*more rows d"], value: Float[Array, "*more b s d"]) -> Array:
        flat = value.reshape(*value.shape[:-3], -1, value.shape[-1])
        slots = flat.shape[-2]
        wanted = jax.lax.dynamic_slice(row_map.slot, (start,), (slots,)) - first
        chosen = jnp.take(flat, jnp.clip(wanted, 0, slots - 1), axis=-2)
        return jax.lax.dynamic_update_slice_in_dim(buffer, chosen, start, axis=buffer.ndim - 2)

    return jax.tree.map(one, buffers, values)


def rows_of(buffers: Any, start: Int[Array, ""], count: int) -> Any:
    """`count` rows of each buffer from `start` on, as one sequence [..., 1, count, d]."""

    def one(buffer: Float[Array, "*more rows d"]) -> Array:
        axis = buffer.ndim - 2
        return jnp.expand_dims(jax.lax.dynamic_slice_in_dim(buffer, start, count, axis), axis)

    return jax.tree.map(one, buffers)


def scored_of(row_map: RowMap, start: Int[Array, ""], count: int) -> tuple[Scored, Array]:
    """What is scored in `count` rows from `start` on, [1, count], and the set of each row."""
    fields = [jax.lax.dynamic_slice_in_dim(field, start, count, 1) for field in row_map.scored]
    return Scored(*fields), jax.lax.dynamic_slice_in_dim(row_map.set_of, start, count)
