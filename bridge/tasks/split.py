"""Which examples are for choosing and which for testing: as published, or by whole items.

Paraphrases of one fact, options of one question, a sum both ways round: what belongs to one
item (or has one prompt) is on one side, or a choice is tested on what it was chosen by.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from truncated_weights.bridge.tasks.example import Example, TaskError

Sides = tuple[Int[np.ndarray, " validation"], Int[np.ndarray, " test"]]


def items(examples: Sequence[Example]) -> Int[np.ndarray, " examples"]:
    """A number for each example, equal where the item is, or the prompt where it has none."""
    numbers: dict[tuple[bool, str], int] = {}
    keys = [(bool(e.item), e.item or e.prompt) for e in examples]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def first(examples: Sequence[Example], *, validation: float = 0.2) -> Sides:
    """LASER's split: the first share, in file order, for choosing; items may be torn.

    Raises TaskError where a side would be empty.
    """
    count = int(validation * len(examples))
    _check(count, len(examples), validation)
    return np.arange(count), np.arange(count, len(examples))


def random_rows(examples: Sequence[Example], *, validation: float = 0.2, seed: int = 0) -> Sides:
    """A random share of the rows, each on its own: items may be torn."""
    count = round(validation * len(examples))
    _check(count, len(examples), validation)
    order = np.random.default_rng(seed).permutation(len(examples))
    return np.sort(order[:count]), np.sort(order[count:])


def random_items(examples: Sequence[Example], *, validation: float = 0.2, seed: int = 0) -> Sides:
    """Whole items at random, until about the share of the examples is for choosing.

    The item at the border goes where it leaves the share nearer. Where every example is an
    item of its own the split is that of random_rows. Raises TaskError where a side would be
    empty.
    """
    numbers = items(examples)
    sizes = np.bincount(numbers)
    order = np.random.default_rng(seed).permutation(len(sizes))
    reached = np.cumsum(sizes[order])
    wanted = round(validation * len(examples))
    count = int(np.argmin(np.abs(np.concatenate([[0], reached]) - wanted)))
    _check(count, len(sizes), validation)
    chosen = np.isin(numbers, order[:count])
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def torn(
    examples: Sequence[Example],
    validation: Int[np.ndarray, " validation"],
    test: Int[np.ndarray, " test"],
) -> int:
    """How many test examples share their item with an example of validation."""
    numbers = items(examples)
    return int(np.isin(numbers[test], numbers[validation]).sum())


def _check(count: int, total: int, validation: float) -> None:
    if not 0 < count < total:
        raise TaskError(
            f"validation {validation:g} of {total} leaves {count} for choosing; both sides "
            "need at least one"
        )
