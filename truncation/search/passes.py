"""Running candidates that touch the same matrices, at the cost of what their cuts change.

The forward pass below is a kept stream. For candidates of a single matrix, in a network that
stops, the matrix's inputs x are turned once into coordinates x U diag(s), and a candidate costs
(coordinates * mask) V^T, less what it shares with the candidate before, and the rest of the
network. Other candidates edit the parameters and run from their lowest layer up.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from truncation.address import Params
from truncation.editing import edit
from truncation.notation import Key
from truncation.search.network import Data, Network, Scores, Stream
from truncation.spectrum import Decomposition

_EXACT = jax.lax.Precision.HIGHEST

Masks = Float[np.ndarray, "_ _"]
# Scores of one candidate, or of several with an axis of candidates in front.
Chunk = dict[str, Float[Array, "*candidates examples answers"]]


def chunks(masks: Masks, together: int) -> list[Masks]:
    """Rows in chunks of one size, the last filled up by repeating its first row."""
    size = min(together, len(masks))
    found = []
    for start in range(0, len(masks), size):
        chunk = masks[start : start + size]
        found.append(np.concatenate([chunk, np.repeat(chunk[:1], size - len(chunk), axis=0)]))
    return found


def one_matrix(
    network: Network,
    params: Params,
    key: Key,
    parts: Decomposition,
    masks: Sequence[Masks],
    stream: Stream,
    batch: Data,
) -> list[Chunk]:
    """Scores of chunks of candidates that keep components of a single matrix."""
    entry = network.enter(params, key, stream, batch)
    parts = network.matrices[key].met(parts)
    coordinates = _coordinates(entry.inputs, parts)

    # Components are float32 at least and so are their sums; all that follows runs in the
    # activations' own precision, as it does in a forward pass.
    dtype = entry.inputs.dtype
    if len(masks[0]) == 1:
        outputs = _chain(coordinates, parts, [chunk[0] for chunk in masks])
        narrow = (one.astype(dtype) for one in outputs)
        return network.leave_each(params, key, narrow, entry.rest, batch)

    def leave(outputs: Array) -> Scores:
        return network.leave(params, key, outputs.astype(dtype), entry.rest, batch)

    return [jax.vmap(leave)(_side_by_side(coordinates, parts.vt, chunk)) for chunk in masks]


def other_matrix(
    network: Network,
    params: Params,
    key: Key,
    kernel: Float[Array, "d_in d_out"],
    stream: Stream,
    batch: Data,
) -> Scores:
    """Scores with another matrix in place of one."""
    entry = network.enter(params, key, stream, batch)
    return network.leave(params, key, _product(entry.inputs, kernel), entry.rest, batch)


def several_matrices(
    network: Network,
    params: Params,
    components: dict[Key, Decomposition],
    masks: Sequence[dict[Key, Masks]],
    start: int,
    stream: Stream,
    batch: Data,
) -> list[Chunk]:
    """Scores of chunks of candidates that keep components of the same matrices.

    stream is that before layer `start`, below which nothing is cut.
    """

    def one(masks: dict[Key, Any]) -> Scores:
        edited = edit(params, network.matrices, components, masks)
        return resume(network, edited, start, stream, batch)

    if len(next(iter(masks[0].values()))) == 1:
        return [one({key: jnp.asarray(m[0]) for key, m in chunk.items()}) for chunk in masks]
    return [jax.vmap(one)(chunk) for chunk in masks]


def resume(network: Network, params: Params, start: int, stream: Stream, batch: Data) -> Scores:
    """Scores from the stream before layer `start`."""
    stream = network.layers(params, start, network.last, stream, batch)
    return network.finish(params, stream, batch)


def _chain(
    coordinates: Float[Array, "examples positions r"],
    parts: Decomposition,
    masks: Sequence[Float[np.ndarray, " r"]],
) -> Iterable[Float[Array, "examples positions d_out"]]:
    """The matrix's output under one mask after the other, each made from the one before.

    Only the components in which neighbours differ are added or taken away, so a whole curve
    over rho costs about one product with the matrix.
    """
    outputs = jnp.zeros((*coordinates.shape[:-1], parts.vt.shape[1]), coordinates.dtype)
    kept = np.zeros(len(parts.s), parts.s.dtype)
    for mask in masks:
        change, kept = mask - kept, mask
        indices = np.flatnonzero(change)
        if len(indices) > 0:
            # Few sizes, so that few functions are compiled; what fills up weighs nothing.
            size = min(len(kept), max(16, 1 << (len(indices) - 1).bit_length()))
            filled = np.resize(indices, size)
            weight = change[filled] * (np.arange(size) < len(indices))
            outputs = _add_components(outputs, coordinates, parts.vt, filled, weight)
        yield outputs


@jax.jit
def _coordinates(inputs: Array, parts: Decomposition) -> Array:
    return jnp.matmul(inputs, parts.u, precision=_EXACT) * parts.s[None, None]


# In place: outputs are as large as anything here, and those of the mask before are done with.
@functools.partial(jax.jit, donate_argnums=0)
def _add_components(outputs: Any, coordinates: Any, vt: Any, indices: Any, weight: Any) -> Array:
    """outputs + sum over indices of weight_i coordinates_i v_i^T."""
    chosen = jnp.take(coordinates, indices, axis=-1) * weight[None, None]
    change = jnp.matmul(chosen, jnp.take(vt, indices, axis=0), precision=_EXACT)
    return outputs + change.astype(outputs.dtype)


@jax.jit
def _side_by_side(coordinates: Array, vt: Array, masks: Any) -> Array:
    """[candidates, examples, positions, d_out]."""
    kept = coordinates[None] * masks[:, None, None]
    return jnp.matmul(kept, vt, precision=_EXACT).astype(coordinates.dtype)


@jax.jit
def _product(inputs: Array, kernel: Array) -> Array:
    return jnp.matmul(inputs, kernel.astype(inputs.dtype), precision=_EXACT)
