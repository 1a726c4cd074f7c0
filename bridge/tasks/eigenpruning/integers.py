"""Sums and products of integers over the published ranges, every ordered pair once.

"17 + 25 =" -> " 42"        "3 x 4 =" -> " 12"
"""

import pathlib
from collections.abc import Sequence

from truncated_weights.bridge.tasks.card import Card, Published
from truncated_weights.bridge.tasks.example import Encode, Marking, Task
from truncated_weights.bridge.tasks.own import arithmetic

_FAULT = (
    "the published split is a permutation by torch, seed 42; here it is by seed too, but "
    "another one"
)
SUMS = Card(
    name="integer_sums",
    source="all ordered pairs of 0 to 99",
    licence="none needed",
    reads="nothing",
    rows="10,000",
    asked="{i} + {j} = (the token that begins a text in front: --bos)",
    marking=Marking("top1"),
    protocol="eigenpruning",
    faults=(_FAULT,),
)
PRODUCTS = Card(
    name="integer_products",
    source="all ordered pairs of 0 to 19",
    licence="none needed",
    reads="nothing",
    rows="400",
    asked="{i} x {j} = (the token that begins a text in front: --bos)",
    marking=Marking("top1"),
    protocol="eigenpruning",
    published=(Published("Phi-2", 13.75, 97.5),),
    faults=("97.5 % are 78 of 80 test problems, 13.75 % are 11", _FAULT),
)


def sums(paths: Sequence[pathlib.Path], encode: Encode) -> Task:
    """0 + 0 to 99 + 99, in order."""
    return _all(SUMS, "sum", 99, encode)


def products(paths: Sequence[pathlib.Path], encode: Encode) -> Task:
    """0 x 0 to 19 x 19, in order."""
    return _all(PRODUCTS, "product", 19, encode)


def _all(card: Card, operation: arithmetic.Operation, largest: int, encode: Encode) -> Task:
    found = arithmetic.every(encode, operation=operation, smallest=0, largest=largest)
    return Task(card.name, found.examples, found.dropped, marking=card.marking)
