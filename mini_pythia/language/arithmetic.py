"""Sums and products written out: "Compute 23 + 45 = 68." Free of noise."""

import random
from typing import Literal

from truncated_weights.mini_pythia.language.documents import Document, Query, Split, split_of

SUM_OPERANDS = range(10, 50)
"""Two-digit terms whose sum has two digits too."""

PRODUCT_OPERANDS = range(2, 13)

MAX_EQUATIONS = 4


def draw_operands(
    rng: random.Random, kind: Literal["sum", "product"], split: Split
) -> tuple[int, int]:
    """Draw two operands, uniform over the ordered pairs of a split.

    Sums hold out unordered pairs. Products have too few pairs to be anything but learned by
    heart, so every split draws from all of them.
    """
    operands = SUM_OPERANDS if kind == "sum" else PRODUCT_OPERANDS
    while True:
        pair = rng.choice(operands), rng.choice(operands)
        if kind == "product" or split_of(pair) == split:
            return pair


def equations(
    rng: random.Random, kind: Literal["sum", "product"], *, split: Split = "train"
) -> Document:
    """Write one to four equations of one kind, with a query at each result."""
    text, queries = "", []
    sign = "+" if kind == "sum" else "x"
    for number in range(rng.randint(1, MAX_EQUATIONS)):
        first, second = draw_operands(rng, kind, split)
        result = first + second if kind == "sum" else first * second
        text += f"{' ' if number else ''}Compute {first} {sign} {second} ="
        slips = (1, -1, -10) if kind == "sum" else (-first, -second, -1)
        queries.append(
            Query(
                offset=len(text),
                kind=kind,
                answer=f" {result}",
                distractors=tuple(dict.fromkeys(f" {result + slip}" for slip in slips)),
                p_answer=1.0,
                p_the=0.0,
            )
        )
        text += f" {result}."
    return Document(text, tuple(queries))
