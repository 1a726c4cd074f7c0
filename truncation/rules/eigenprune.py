"""Eigenpruning (Vergara-Browne, Soto and Aizawa, arXiv 2404.03147).

The effect of direction i of W = sum_i sigma_i u_i v_i^T on one example, to first order, of
giving the matrix the input x' of another example in place of its own x:

    e_i = sum over positions of < dL/dh, sigma_i (u_i^T (x' - x)) v_i >,

h the matrix's output and L the example's loss. A direction that helps has e_i > 0; those
with the lowest scores are removed, and what they gave to the mean input can be folded
into a bias. One forward and one backward pass score all directions of a matrix.

The counterfactual comes from a derangement of all examples, so batches do not
matter, and x is what the matrix really multiplies, norms and nonlinearities included.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from truncation.address import Key, Params
from truncation.intervention import edit
from truncation.search import comparison
from truncation.search.evaluator import Evaluator
from truncation.search.model import Model

EXACT = jax.lax.Precision.HIGHEST
AGGREGATES = ("signed", "absolute")


def derangement(count: int, seed: int) -> Int[np.ndarray, " count"]:
    """A uniform random permutation without fixed points; needs at least two examples."""
    if count < 2:
        raise ValueError(f"count {count}: a counterfactual needs a second example")
    generator = np.random.default_rng(seed)
    # A permutation has no fixed point with probability about 1/e: under three draws on average.
    while True:
        permutation = generator.permutation(count)
        if not np.any(permutation == np.arange(count)):
            return permutation


def _example_losses(scores: Mapping[str, Any], weights: Any) -> Any:
    """Loss per example, the weighted mean over its answers; 0 where it has none."""
    totals = jnp.sum(weights, axis=1)
    return jnp.sum(scores["loss"] * weights, axis=1) / jnp.where(totals > 0, totals, 1)


def effects(
    evaluator: Evaluator, key: Key, examples: np.ndarray, *, seed: int = 0
) -> tuple[Float[np.ndarray, "examples r"], Float[np.ndarray, "examples r"]]:
    """e_i of every direction on every example, and the same with |.| at each position.

    The counterfactual input is zeroed where either example is padding.
    """
    model = evaluator.model
    partners = examples[derangement(len(examples), seed)]
    components = evaluator.decompositions([key])[key]
    compute = evaluator.compiled(("effects", key), lambda *a: _batch_effects(model, key, *a))
    signed, absolute = [], []
    weights = np.asarray(model.weights, np.float32)
    for rows, _ in model.index_batches(len(examples)):
        chosen, other = examples[rows], partners[rows]
        results = compute(
            evaluator.params, components, model.select(chosen), model.select(other), weights[chosen]
        )
        signed.append(results[0])
        absolute.append(results[1])
    # A forward pass of the counterfactual, and a forward and backward pass of the example.
    evaluator.spent += 4 * len(examples)
    count = len(examples)
    return (
        np.concatenate([np.asarray(part) for part in signed])[:count],
        np.concatenate([np.asarray(part) for part in absolute])[:count],
    )


def _batch_effects(
    model: Model, key: Key, params: Params, components: Any, batch: Any, other: Any, weights: Any
) -> tuple[Any, Any]:
    entry, counterfactual = model.stop(params, key, batch), model.stop(params, key, other)
    leave = model.leave
    assert leave is not None
    both = (entry.valid & counterfactual.valid)[..., None]
    difference = jnp.where(both, counterfactual.inputs - entry.inputs, 0)
    outputs = jnp.matmul(entry.inputs, model.matrices[key].read(params), precision=EXACT)

    def total_loss(outputs: Any) -> Any:
        return jnp.sum(_example_losses(leave(params, key, outputs, entry.rest, batch), weights))

    gradient = jax.grad(total_loss)(outputs)
    u, s, vt = components
    per_position = (
        jnp.matmul(gradient, vt.T, precision=EXACT)
        * s[None, None]
        * jnp.matmul(difference, u, precision=EXACT)
    )
    return per_position.sum(axis=1), jnp.abs(per_position).sum(axis=1)


@dataclasses.dataclass(frozen=True)
class Pruning:
    """Which directions of which matrices stay: masks [r] of ones and zeros, by matrix."""

    masks: dict[Key, np.ndarray]

    @property
    def removed(self) -> int:
        """How many directions go."""
        return int(sum((mask == 0).sum() for mask in self.masks.values()))


def prune(
    evaluator: Evaluator,
    fractions: Mapping[str, float],
    keys: Sequence[Key],
    examples: np.ndarray,
    *,
    aggregate: str = "signed",
    seed: int = 0,
) -> Pruning:
    """Remove from each of these matrices the directions that score lowest on `examples`.

    fractions: by matrix type ("fc_in": 0.1 removes floor(0.1 r) of r); matrices of a type
    that is not named stay whole. aggregate: signed is the mean effect, whose lowest
    directions hurt; absolute is the mean of |e| over positions, whose lowest do nothing.
    """
    if aggregate not in AGGREGATES:
        raise ValueError(f"aggregate {aggregate!r}: expected {' or '.join(AGGREGATES)}")
    for name, fraction in fractions.items():
        if not 0 <= fraction <= 1:
            raise ValueError(f"fractions {name!r}: {fraction} is outside [0, 1]")
        if not any(matrix == name for _, matrix in keys):
            raise ValueError(f"fractions {name!r}: no such matrix among those to prune")
    masks = {}
    for key in keys:
        if fractions.get(key[1], 0) == 0:
            continue
        signed, absolute = effects(evaluator, key, examples, seed=seed)
        scores = (signed if aggregate == "signed" else absolute).mean(axis=0, dtype=np.float64)
        masks[key] = np.ones(len(scores), np.float32)
        count = int(fractions[key[1]] * len(scores) + 1e-9)
        masks[key][np.argsort(scores, kind="stable")[:count]] = 0
    return Pruning(masks)


def random_like(pruning: Pruning, seed: int) -> Pruning:
    """As many directions removed from each matrix, drawn at random."""
    generator = np.random.default_rng(seed)
    return Pruning({key: generator.permutation(mask) for key, mask in pruning.masks.items()})


def mean_input(
    evaluator: Evaluator, params: Params, key: Key, examples: np.ndarray
) -> Float[np.ndarray, " d_in"]:
    """Mean over examples and valid positions of what the matrix multiplies."""
    model = evaluator.model

    def sums(params: Params, batch: Any) -> tuple[Any, Any]:
        entry = model.stop(params, key, batch)
        inputs = jnp.where(entry.valid[..., None], entry.inputs, 0).astype(jnp.float32)
        return inputs.sum(axis=1), entry.valid.sum(axis=1)

    run = evaluator.compiled(("mean_input", key), sums)
    total, count = np.zeros(model.matrices[key].read(params).shape[0]), 0
    for batch in model.batches(examples):
        inputs, valid = run(params, batch.examples)
        total = total + np.asarray(inputs, np.float64)[: batch.size].sum(axis=0)
        count += int(np.asarray(valid)[: batch.size].sum())
    evaluator.spent += len(examples)
    return total / max(count, 1)


def apply(
    evaluator: Evaluator,
    pruning: Pruning,
    *,
    compensate_on: np.ndarray | None = None,
) -> Params:
    """New parameters without the removed directions.

    compensate_on: examples whose mean input x_mean is used to add x_mean @ W_removed to the
    output as a bias, so that the mean output of each matrix stays what it was for the
    inputs it now gets; matrices are done from the bottom up, each on the network already
    pruned below. Raises ValueError where the model has no place for a bias.
    """
    model, params = evaluator.model, evaluator.params
    for key in [key for key in model.matrices if key in pruning.masks]:
        mask, components = pruning.masks[key], evaluator.decompositions([key])[key]
        below = params
        params = edit(params, model.matrices, {key: components}, {key: jnp.asarray(mask)})
        if compensate_on is None:
            continue
        add_bias = model.matrices[key].add_bias
        if add_bias is None:
            raise ValueError(f"matrix {key[0]}.{key[1]} has no place for a bias")
        x = mean_input(evaluator, below, key, compensate_on)
        u, s, vt = (np.asarray(part, np.float64) for part in components)
        bias = ((x @ u) * s * (1 - mask)) @ vt
        params = add_bias(params, jnp.asarray(bias, components.s.dtype))
    return params


def evaluate(
    evaluator: Evaluator,
    pruning: Pruning,
    train: np.ndarray,
    held_out: np.ndarray,
    *,
    random_seeds: Sequence[int] = (0, 1, 2, 3, 4),
    compensation: Sequence[bool] = (False, True),
    seed: int = 0,
    samples: int = 2000,
) -> list[dict[str, Any]]:
    """Held-out rows: unpruned, pruned, and random prunings of the same size.

    With METRIC, METRIC_change and intervals against the unpruned model on the same
    examples. Biases come from the training examples only.
    """
    names: list[dict[str, Any]] = [{"model": "unpruned", "compensated": False, "removed": 0}]
    scores = [evaluator.model_scores(evaluator.params, held_out)]
    variants = [("pruned", pruning)]
    variants += [(f"random {s}", random_like(pruning, s)) for s in random_seeds]
    for name, variant in variants:
        for compensated in compensation:
            params = apply(evaluator, variant, compensate_on=train if compensated else None)
            scores.append(evaluator.model_scores(params, held_out))
            names.append({"model": name, "compensated": compensated, "removed": variant.removed})
    stacked = {name: np.concatenate([s[name] for s in scores]) for name in scores[0]}
    full = {name: values[0] for name, values in stacked.items()}
    figures = comparison.summarise(
        stacked, full, evaluator.weights(held_out), seed=seed, samples=samples
    )
    return [name | row for name, row in zip(names, figures, strict=True)]
