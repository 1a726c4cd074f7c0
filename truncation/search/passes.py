"""Running candidates that touch the same matrices, at the cost of what their cuts change.

The forward below is a kept stream (search/streams.py). For candidates of a single matrix
W = U S V^T of inputs x, in a network that can stop, with mask m of the components kept,

    x W_m = (c * m) V^T,   c = x U S  once for all m,
    x W_m' = x W_m + sum over m'_i != m_i of (m'_i - m_i) c_i v_i^T,

so that candidates one after another cost the components in which neighbours differ: a curve over
rho costs about one product with W, and each candidate the rest of the network. Candidates of
several matrices edit the parameters and run from their lowest layer up.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from truncated_weights.truncation.address import Params
from truncated_weights.truncation.editing import edit
from truncated_weights.truncation.notation import Key
from truncated_weights.truncation.search.network import Data, Network, Scores, Stream
from truncated_weights.truncation.spectrum import Decomposition

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
    stopped = network.stop(params, key, stream, batch)
    parts = network.matrices[key].at_stop(parts)
    coordinates = _coordinates(stopped.inputs, parts)

    # Components are float32 at least and so are their sums; all that follows runs in the
    # activations' own precision, as it does in a forward pass.
    dtype = stopped.inputs.dtype
    if len(masks[0]) == 1:
        outputs = _chain(coordinates, parts, [chunk[0] for chunk in masks])
        narrow = (one.astype(dtype) for one in outputs)
        return network.resume_each(params, key, narrow, stopped.rest, batch)

    def resume(outputs: Array) -> Scores:
        return network.resume(params, key, outputs.astype(dtype), stopped.rest, batch)

    return [jax.vmap(resume)(_side_by_side(coordinates, parts.vt, chunk)) for chunk in masks]


def other_matrix(
    network: Network,
    params: Params,
    key: Key,
    kernel: Float[Array, "d_in d_out"],
    stream: Stream,
    batch: Data,
) -> Scores:
    """Scores with another matrix in place of one."""
    stopped = network.stop(params, key, stream, batch)
    return network.resume(params, key, _product(stopped.inputs, kernel), stopped.rest, batch)


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
        return suffix(network, edited, start, stream, batch)

    if len(next(iter(masks[0].values()))) == 1:
        return [one({key: jnp.asarray(m[0]) for key, m in chunk.items()}) for chunk in masks]
    return [jax.vmap(one)(chunk) for chunk in masks]


def suffix(network: Network, params: Params, start: int, stream: Stream, batch: Data) -> Scores:
    """Scores from the stream that enters layer `start`: layers up to the last, then `finish`."""
    stream = network.layers(params, start, network.last, stream, batch)
    return network.finish(params, stream, batch)


def _chain(
    coordinates: Float[Array, "examples positions r"],
    parts: Decomposition,
    masks: Sequence[Float[np.ndarray, " r"]],
) -> Iterable[Float[Array, "examples positions d_out"]]:
    """The matrix's output under one mask after the other, each made from the one before.

    Only the components in which neighbours differ are added or taken away (the identity above).
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
