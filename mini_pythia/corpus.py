"""The endless corpus: which documents there are, how often, and how they are packed.

    documents -> token ids joined by end-of-text -> sequences of one length

A block of sequences is a pure function of (corpus, seed, index), so training data need neither
be stored nor replayed: to continue a run at block 700 is to ask for block 700.
"""

import functools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32
from tokenizers import Tokenizer

from truncated_weights.mini_pythia.language.arithmetic import equations
from truncated_weights.mini_pythia.language.documents import Document
from truncated_weights.mini_pythia.language.facts import (
    LANGUAGE_TEMPLATES,
    OCCUPATION_TEMPLATES,
    PLACE_TEMPLATES,
    RankedDraw,
    language_fact,
    occupation_fact,
    place_fact,
    zipf,
)
from truncated_weights.mini_pythia.language.filler import filler
from truncated_weights.mini_pythia.language.people import Person, invent_people
from truncated_weights.mini_pythia.language.places import CITIES
from truncated_weights.mini_pythia.language.stories import story

Section = Literal["story", "place", "language", "occupation", "sum", "product", "filler"]

SHARES: Mapping[Section, float] = {
    "story": 0.44,
    "place": 0.14,
    "language": 0.08,
    "occupation": 0.08,
    "sum": 0.12,
    "product": 0.06,
    "filler": 0.08,
}
"""Share of the documents that belong to each section."""

_DOCUMENTS_AT_A_TIME = 512


@dataclass(frozen=True)
class Corpus:
    """Everything that determines the law of the documents.

    `alpha` is the probability of " the" in place of the answer, in stories and facts;
    `zipf_exponent` that of the laws of cities and of people over their ranks. `world_seed`
    decides who the people are, not which documents are written. Raises ValueError for an
    alpha outside [0, 1) and for shares that are negative or do not sum to 1.
    """

    alpha: float = 0.4
    num_people: int = 320
    zipf_exponent: float = 1.0
    world_seed: int = 0
    shares: Mapping[Section, float] = field(default_factory=lambda: dict(SHARES))

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha < 1.0:
            raise ValueError(f"alpha must be in [0, 1), got {self.alpha}")
        if min(self.shares.values()) < 0.0 or abs(sum(self.shares.values()) - 1.0) > 1e-9:
            raise ValueError(f"shares must be non-negative and sum to 1, got {self.shares}")
        if unknown := set(self.shares) - set(SHARES):
            raise ValueError(f"shares name unknown sections {sorted(unknown)}")

    @functools.cached_property
    def people(self) -> tuple[Person, ...]:
        """The invented people, most frequent first."""
        return invent_people(self.num_people, self.world_seed)

    @functools.cached_property
    def city_draw(self) -> RankedDraw:
        """The law of cities over their ranks."""
        return RankedDraw(zipf(len(CITIES), self.zipf_exponent))

    @functools.cached_property
    def person_draw(self) -> RankedDraw:
        """The law of people over their ranks."""
        return RankedDraw(zipf(self.num_people, self.zipf_exponent))

    @functools.cached_property
    def _section_draw(self) -> tuple[tuple[Section, ...], RankedDraw]:
        return tuple(self.shares), RankedDraw(tuple(self.shares.values()))

    def document(self, rng: random.Random) -> Document:
        """Write one training document."""
        sections, draw = self._section_draw
        section = sections[draw(rng)]
        if section == "story":
            return story(rng, alpha=self.alpha)
        if section == "place":
            rank = self.city_draw(rng)
            return place_fact(
                rng,
                _CITY_LIST[rank],
                rng.choice(PLACE_TEMPLATES),
                alpha=self.alpha,
                frequency=self.city_draw.law[rank],
            )
        if section in ("language", "occupation"):
            rank = self.person_draw(rng)
            of_language = section == "language"
            write = language_fact if of_language else occupation_fact
            return write(
                rng,
                self.people[rank],
                rng.choice(LANGUAGE_TEMPLATES if of_language else OCCUPATION_TEMPLATES),
                alpha=self.alpha,
                frequency=self.person_draw.law[rank],
            )
        if section == "sum":
            return equations(rng, "sum")
        if section == "product":
            return equations(rng, "product")
        return filler(rng)

    def documents(self, seed: int, index: int = 0) -> Iterator[Document]:
        """Write documents without end; (seed, index) names the stream."""
        rng = random.Random(f"documents/{seed}/{index}")
        while True:
            yield self.document(rng)


_CITY_LIST = tuple(CITIES)


@runtime_checkable
class Documents(Protocol):
    """Whatever writes documents by seed and block."""

    def documents(self, seed: int, index: int = 0) -> Iterator[Document]:
        """The endless documents of a block; a pure function of the arguments."""


def packed_block(
    corpus: Documents,
    tokenizer: Tokenizer,
    *,
    seed: int,
    index: int,
    num_sequences: int,
    length: int,
) -> Int32[np.ndarray, "num_sequences length"]:
    """Write and tokenize the sequences of one block.

    Each sequence begins with a document, without an end-of-text before it, just as an
    evaluation prompt begins; whole documents separated by end-of-text follow until the
    sequence is full, the last one cut. Blocks of different index are independent.
    """
    rows = np.empty((num_sequences, length), np.int32)
    row: list[int] = []
    filled = 0
    stream = corpus.documents(seed, index)
    while True:
        texts = [next(stream).text for _ in range(_DOCUMENTS_AT_A_TIME)]
        for encoding in tokenizer.encode_batch_fast(texts):
            row.extend(encoding.ids)
            row.append(END_OF_TEXT_ID)
            if len(row) >= length:
                rows[filled] = row[:length]
                row = []
                filled += 1
                if filled == num_sequences:
                    return rows


END_OF_TEXT_ID = 0
