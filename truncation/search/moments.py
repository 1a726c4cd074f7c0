"""Moments of what matrices see, gathered from a network on its examples in one pass.

found = gather(scorer, [(1, "fc_in")], indices)
scorer = scorer.measured(found)              # takes cuts such as 1.fc_in@whitened:0.1
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from truncated_weights.truncation.metrics import Moments
from truncated_weights.truncation.notation import Key
from truncated_weights.truncation.search.examples import WeightedBatch
from truncated_weights.truncation.search.network import Stopped
from truncated_weights.truncation.search.scorer import Indices, Scorer


def gather(
    scorer: Scorer, keys: Iterable[Key], indices: Indices, *, gradients: bool = False
) -> dict[Key, Moments]:
    """The moments of these matrices over the examples at `indices`.

    Inputs are those in front of the matrix wherever its output counts: masked positions are left
    out, and in the last layer all that no answer depends on. Sums of a batch are in float32 at
    the highest precision, those over batches in float64.

    gradients: also of the loss of each answer by the matrix's output, with the answers drawn from
    the network's own law instead of the given ones (so that their second moment is the Fisher
    information's), where the network can draw (`drawn`); one draw, by the order of the batches.

    Raises ValueError where the network cannot stop in front of a matrix, or cannot draw.
    """
    found: dict[Key, Moments] = {}
    order = list(dict.fromkeys(keys))
    for number, batch in enumerate(scorer.examples.batches(np.asarray(indices))):
        if gradients:
            batch = _drawn(scorer, batch, number)
        for key in order:
            stopped = scorer.stop(scorer.params, key, batch)
            # Rows that fill a batch up repeat examples: they count once.
            valid = jnp.asarray(stopped.valid).at[batch.size :].set(False)
            second = _gradients(scorer, key, stopped, batch) if gradients else None
            here = _sums(stopped.inputs, valid, second)
            found[key] = found[key] + here if key in found else here
    return found


def _sums(
    inputs: Float[Array, "examples positions d_in"],
    valid: Bool[Array, "examples positions"],
    gradients: Float[Array, "examples positions d_out"] | None,
) -> Moments:
    product, mean, number = _products(inputs, valid)
    second = None if gradients is None else np.asarray(_products(gradients, valid)[0], np.float64)
    return Moments(
        np.asarray(product, np.float64), np.asarray(mean, np.float64), int(number), second
    )


@jax.jit
def _products(rows: Array, valid: Array) -> tuple[Array, Array, Array]:
    x = jnp.where(valid[..., None], rows, 0).astype(jnp.float32).reshape(-1, rows.shape[-1])
    product = jnp.matmul(x.T, x, precision=jax.lax.Precision.HIGHEST)
    return product, x.sum(axis=0), valid.sum()


def _drawn(scorer: Scorer, batch: WeightedBatch, number: int) -> WeightedBatch:
    network = scorer.network
    draw = getattr(network, "drawn", None)
    if draw is None or network.probabilities is None:
        raise ValueError("gradients: this network cannot draw answers from its own law")
    stream = scorer.streams.before(scorer.params, network.last, batch)
    law = network.probabilities(scorer.params, stream, batch.data)
    return batch._replace(data=draw(batch.data, law, jax.random.key(number)))


def _gradients(scorer: Scorer, key: Key, stopped: Stopped, batch: WeightedBatch) -> Array:
    """Gradients of every example's summed loss by the matrix's output, [examples, ..., d_out]."""
    address = scorer.network.matrices[key]
    outputs = address.outputs(scorer.params, stopped.inputs)

    def loss(outputs: Array) -> Array:
        scores = scorer.network.resume(scorer.params, key, outputs, stopped.rest, batch.data)
        return jnp.sum(scores["loss"] * batch.weights)

    return jax.grad(loss)(outputs)
