"""What every direction of a matrix does to the loss, to first order, and what it reads on average.

The effect of direction i of W = sum_i sigma_i u_i v_i^T on one example, of giving the matrix the
input x' of another example in place of its own x:

    e_i = sum over positions of < dL/dh, sigma_i (u_i^T (x' - x)) v_i >,

h the matrix's output and L the example's loss (Vergara-Browne, Soto and Aizawa, arXiv
2404.03147). With g = dL/dh that is sum of (g v_i) sigma_i ((x' - x) u_i), so that two forwards and
a backward pass, for g and x' - x, score all r directions of a matrix by two products.

The counterfactual comes from a derangement of all examples, so batches do not matter, and x is
what the matrix really multiplies, norms and nonlinearities included.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from truncated_weights.truncation.address import Params
from truncated_weights.truncation.finite import NotFiniteError
from truncated_weights.truncation.notation import Key
from truncated_weights.truncation.search.examples import WeightedBatch
from truncated_weights.truncation.search.network import Stopped
from truncated_weights.truncation.search.scorer import Scorer
from truncated_weights.truncation.spectrum import Decomposition

EXACT = jax.lax.Precision.HIGHEST


def derangement(count: int, seed: Any) -> Int[np.ndarray, " count"]:
    """A uniform random permutation without fixed points; needs at least two examples."""
    if count < 2:
        raise ValueError(f"count {count}: a counterfactual needs a second example")
    generator = np.random.default_rng(seed)
    # A permutation has no fixed point with probability about 1/e: under three draws on average.
    while True:
        permutation = generator.permutation(count)
        if not np.any(permutation == np.arange(count)):
            return permutation


class Moment(NamedTuple):
    """One batch of examples at one matrix: where the loss pulls its output, and where x' would.

    gradient is dL/dh, difference x' - x, both [examples, positions, _]; valid is False where
    either example is padding. Only the first `size` examples count.
    """

    gradient: Float[Array, "examples positions d_out"]
    difference: Float[Array, "examples positions d_in"]
    valid: Bool[Array, "examples positions"]
    size: int


def moments(scorer: Scorer, key: Key, examples: np.ndarray, *, seed: Any = 0) -> Iterator[Moment]:
    """Two forward passes and a backward pass over the examples, batch by batch."""
    network, params = scorer.network, scorer.params
    address = network.matrices[key]
    partners = examples[derangement(len(examples), seed)]
    batches = zip(scorer.examples.batches(examples), scorer.examples.batches(partners), strict=True)
    for batch, other in batches:
        stopped, counterfactual = scorer.stop(params, key, batch), scorer.stop(params, key, other)

        def total_loss(
            outputs: Array, stopped: Stopped = stopped, batch: WeightedBatch = batch
        ) -> Array:
            found = network.resume(params, key, outputs, stopped.rest, batch.data)
            return jnp.sum(_example_losses(found, batch.weights))

        gradient = jax.grad(total_loss)(address.outputs(params, stopped.inputs))
        valid = stopped.valid & counterfactual.valid
        yield Moment(gradient, counterfactual.inputs - stopped.inputs, valid, batch.size)
    # A forward pass of the counterfactual, and a forward and backward pass of the example.
    scorer.cost.forward(len(examples))
    scorer.cost.backward(len(examples))


def effects(
    scorer: Scorer, key: Key, examples: np.ndarray, *, seed: Any = 0
) -> tuple[Float[np.ndarray, "examples r"], Float[np.ndarray, "examples r"]]:
    """e_i of every direction on every example, and the same with |.| at each position.

    The counterfactual input is zeroed where either example is padding. Raises NotFiniteError.
    """
    components = scorer.network.matrices[key].at_stop(scorer.decompositions[key])
    signed, absolute = [], []
    for one in moments(scorer, key, examples, seed=seed):
        each = per_position(one.gradient, one.difference, one.valid, components)
        signed.append(np.asarray(each.sum(axis=1))[: one.size])
        absolute.append(np.asarray(jnp.abs(each).sum(axis=1))[: one.size])
    found = np.concatenate(signed), np.concatenate(absolute)
    require_finite(scorer, f"the effects in {key[0]}.{key[1]}", found, examples)
    return found


def require_finite(
    scorer: Scorer, what: str, arrays: Iterable[np.ndarray], examples: np.ndarray
) -> None:
    """NotFiniteError where what a rule would rank by is not finite on these examples."""
    if all(np.isfinite(array).all() for array in arrays):
        return
    # Where the model itself is to blame, its scores say more.
    scorer.full(examples)
    raise NotFiniteError(f"{what} are not finite, although the model's scores are")


def _example_losses(scores: Mapping[str, Any], weights: Any) -> Any:
    """Loss per example, the weighted mean over its answers; 0 where it has none."""
    totals = jnp.sum(weights, axis=1)
    return jnp.sum(scores["loss"] * weights, axis=1) / jnp.where(totals > 0, totals, 1)


@jax.jit
def per_position(
    gradient: Array, difference: Array, valid: Array, components: Decomposition
) -> Float[Array, "examples positions r"]:
    """< dL/dh, sigma_i (u_i^T (x' - x)) v_i > of every direction, zero where not valid."""
    u, s, vt = components
    moved = jnp.where(valid[..., None], difference, 0)
    return (
        jnp.matmul(gradient, vt.T, precision=EXACT)
        * s[None, None]
        * jnp.matmul(moved, u, precision=EXACT)
    )


def mean_input(
    scorer: Scorer, params: Params, key: Key, examples: np.ndarray
) -> Float[np.ndarray, " d_in"]:
    """Mean over examples and valid positions of what the matrix multiplies."""
    total: Any = 0.0
    count = 0
    for batch in scorer.examples.batches(examples):
        inputs, valid = _sums(scorer.stop(params, key, batch))
        total = total + np.asarray(inputs, np.float64)[: batch.size].sum(axis=0)
        count += int(np.asarray(valid)[: batch.size].sum())
    scorer.cost.forward(len(examples))
    return total / max(count, 1)


@jax.jit
def _sums(stopped: Stopped) -> tuple[Array, Array]:
    inputs = jnp.where(stopped.valid[..., None], stopped.inputs, 0).astype(jnp.float32)
    return inputs.sum(axis=1), stopped.valid.sum(axis=1)
