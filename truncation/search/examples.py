"""Scored examples, in batches of one shape.

Every example holds one or several scored answers (a prompt has one, a sequence of noisy recall
one per trigger); answers that are padding have weight 0.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from truncated_weights.truncation.search.network import Data

HostScores = dict[str, np.ndarray]


class WeightedBatch(NamedTuple):
    """Some examples at once; rows from `size` on are padding, with weight 0.

    name tells which examples these are; streams are kept under it.
    """

    data: Data
    weights: Float[np.ndarray, "examples answers"]
    size: int
    name: bytes


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """What a network is scored on.

    Attributes:
        data: a pytree of arrays with a leading axis of examples; networks receive any
            selection of them as `batch`.
        weights: [examples, answers], the weight of every answer in a mean, 0 for padding.
        batch_size: how many examples fit at once; None for all.

    """

    data: Data
    weights: Float[np.ndarray, "examples answers"]
    batch_size: int | None = None

    def __post_init__(self) -> None:
        lengths = {len(leaf) for leaf in jax.tree.leaves(self.data)}
        if lengths != {len(self.weights)}:
            raise ValueError(
                f"examples: leading axes {sorted(lengths)}, but weights are for {len(self.weights)}"
            )

    def __len__(self) -> int:
        """How many examples there are."""
        return len(self.weights)

    def select(self, indices: np.ndarray) -> Data:
        """The examples at these indices, in this order."""
        return jax.tree.map(lambda leaf: leaf[indices], self.data)

    def size(self, count: int) -> int:
        """How many examples each batch has, of so many in all: as few batches as can be, even.

        Raises ValueError where none is chosen.
        """
        if count == 0:
            raise ValueError("indices: no example selected")
        return -(-count // -(-count // min(self.batch_size or count, count)))

    def batches(self, indices: Int[np.ndarray, " chosen"]) -> list[WeightedBatch]:
        """These examples in batches of one shape, so that what is compiled serves them all.

        They are as few and as small as can be: what the last one lacks is filled up from the
        beginning, and costs as much as anything else. Raises ValueError where none is chosen.
        """
        count = len(indices)
        size = self.size(count)
        weights = np.asarray(self.weights, np.float32)
        batches = []
        for start in range(0, count, size):
            chosen = np.asarray(indices)[np.arange(start, start + size) % count]
            real = min(size, count - start)
            kept = weights[chosen] * (np.arange(size) < real)[:, None]
            batches.append(WeightedBatch(self.select(chosen), kept, real, chosen.tobytes()))
        return batches


def gather(results: list[list[Any]], places: Int[np.ndarray, " chosen"]) -> HostScores:
    """Device scores [batch][chunk] -> [candidates, examples, answers] on the host.

    A chunk is [examples, answers], or has an axis of candidates before. places: where each
    example is, counted from batch to batch; what fills these up is left out. Callers index the
    candidates they asked for.
    """
    return {
        name: np.concatenate(
            [np.concatenate([_on_host(chunk[name]) for chunk in batch]) for batch in results],
            axis=1,
        )[:, places]
        for name in results[0][0]
    }


def _on_host(values: Any) -> np.ndarray:
    """A chunk of scores with its axis of candidates."""
    array = np.asarray(values, np.float32)
    return array[None] if array.ndim == 2 else array
