"""What a model offers so that its matrices can be searched, pruned and taken apart.

A Model is a set of examples and a few pure, jit-able functions of its parameters. Every
example holds one or several scored answers (a prompt has one, a sequence of noisy recall
has one per trigger); answers that are padding have weight 0. Only `matrices`,
`examples`, `weights` and `scores` are required:

    model = Model(matrices, examples, weights, scores=lambda params, batch: {...})

A model that can stop at a matrix and go on from there also gives `enter` and `leave`.
Then nothing below the matrix is recomputed while its candidates are evaluated, and its
inputs and output gradients, which eigenpruning needs, come for free:

    entry = enter(params, key, batch)                       # up to what the matrix sees
    scores = leave(params, key, entry.inputs @ W, entry.rest, batch)
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from truncation.intervention import Key, Matrices, Params

Examples = Any
Scores = dict[str, Float[Array, "examples answers"]]


class Entry(NamedTuple):
    """A forward pass stopped in front of one matrix.

    inputs are what the matrix really multiplies (after any norm or nonlinearity); valid is
    False at padding, which counts in no mean; rest is whatever `leave` needs to go on.
    """

    inputs: Float[Array, "examples positions d_in"]
    valid: Bool[Array, "examples positions"]
    rest: Any


class Batch(NamedTuple):
    """Some examples at once; the rows from `size` on are padding, with weight 0."""

    examples: Examples
    weights: Float[np.ndarray, "examples answers"]
    size: int


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """One network on one set of examples.

    Attributes:
        matrices: where each matrix lives, keys ordered from the bottom layer up.
        examples: a pytree of arrays with a leading axis of examples; the functions below
            receive any selection of them as `batch`.
        weights: [examples, answers], the weight of every answer in a mean, 0 for padding.
        scores: (params, batch) -> {"loss": ..., "accuracy": ..., any other name: ...}, each
            [examples, answers] and finite at padding too. loss is in nats and differentiable
            with respect to params; accuracy is 0 or 1 for one answer.
        enter: (params, key, batch) -> Entry; (params, key, batch, stream) -> Entry where
            the model gives a prefix.
        prefix: (params, layer, batch) -> stream, all that layers below `layer` decide. It is
            computed once for all matrices of a layer.
        leave: (params, key, outputs, rest, batch) -> scores, as if matrix `key` had returned
            `outputs` [examples, positions, d_out] (before any bias of its own);
            differentiable with respect to outputs.
        probabilities: (params, batch) -> [examples, answers, classes].
        batch_size: how many examples fit at once; None for all.

    """

    matrices: Matrices
    examples: Examples
    weights: Float[np.ndarray, "examples answers"]
    scores: Callable[[Params, Examples], Scores]
    enter: Callable[..., Entry] | None = None
    leave: Callable[[Params, Key, Array, Any, Examples], Scores] | None = None
    prefix: Callable[[Params, int, Examples], Any] | None = None
    probabilities: Callable[[Params, Examples], Array] | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        lengths = {len(leaf) for leaf in jax.tree.leaves(self.examples)}
        if lengths != {len(self.weights)}:
            raise ValueError(
                f"examples: leading axes {sorted(lengths)}, but weights are for {len(self.weights)}"
            )
        if (self.enter is None) != (self.leave is None):
            raise ValueError("enter and leave: a model offers both or neither")

    def stop(self, params: Params, key: Key, batch: Examples) -> Entry:
        """The forward pass from its beginning up to a matrix.

        Raises ValueError where the model does not offer to stop.
        """
        if self.enter is None:
            raise ValueError("enter and leave: this needs a model that offers them")
        if self.prefix is None:
            return self.enter(params, key, batch)
        return self.enter(params, key, batch, self.prefix(params, key[0], batch))

    @property
    def num_examples(self) -> int:
        """How many examples there are."""
        return len(self.weights)

    def select(self, indices: np.ndarray) -> Examples:
        """The examples at these indices, in this order."""
        return jax.tree.map(lambda leaf: leaf[indices], self.examples)

    def index_batches(self, count: int) -> list[tuple[np.ndarray, int]]:
        """Positions 0..count-1 in batches of one shape, each with the number not padding.

        The last batch is filled up from the beginning, so that one compiled function
        serves all of them.
        """
        if count == 0:
            raise ValueError("indices: no example selected")
        size = min(self.batch_size or count, count)
        starts = range(0, count, size)
        return [(np.arange(s, s + size) % count, min(size, count - s)) for s in starts]

    def batches(self, indices: np.ndarray) -> list[Batch]:
        """These examples in batches of one shape."""
        weights = np.asarray(self.weights, np.float32)
        batches = []
        for rows, size in self.index_batches(len(indices)):
            chosen = np.asarray(indices)[rows]
            real = np.arange(len(rows)) < size
            batches.append(Batch(self.select(chosen), weights[chosen] * real[:, None], size))
        return batches
