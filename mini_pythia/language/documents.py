"""What a generated document is: its text, and the positions at which the truth is known."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

NOISE = " the"
"""The token planted in place of the answer."""

Split = Literal["train", "validation", "test"]
Kind = Literal["story", "place", "language", "occupation", "sum", "product"]
KINDS: tuple[Kind, ...] = ("story", "place", "language", "occupation", "sum", "product")


@dataclass(frozen=True)
class Query:
    """A position of a document where the law of the next word is known exactly.

    Given all the text before it, the next token is `answer` with probability `p_answer`,
    " the" with probability `p_the`, and anything else with probability 0: no predictor that
    sees only the text can do better than these.

    `offset` counts the characters before the position. Answer and distractors carry their
    leading space; distractors are of the right type, and in a story the first is the giver.
    `frequency` is the probability that a document of this kind states this very fact; it is
    0 for stories and arithmetic, which are not facts to remember.
    """

    offset: int
    kind: Kind
    answer: str
    distractors: tuple[str, ...]
    p_answer: float
    p_the: float
    frequency: float = 0.0


@dataclass(frozen=True)
class Document:
    """A text with its queried positions, in order."""

    text: str
    queries: tuple[Query, ...] = ()


def split_of(parts: Sequence[object]) -> Split:
    """Assign an unordered combination to training (8 in 10), validation or test (1 in 10 each).

    The split is a property of the combination alone (a checksum of its sorted parts), so a
    combination is held out of every corpus, whatever its seed.
    """
    key = "+".join(sorted(str(part) for part in parts))
    bucket = zlib.crc32(key.encode()) % 10
    return "validation" if bucket == 0 else "test" if bucket == 1 else "train"
