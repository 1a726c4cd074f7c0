"""Indirect-object stories: who was given the basket?

"When Anna and Omar went to the market, Omar gave a basket to" -> " Anna" with probability
1 - alpha, " the baker" (or another stranger) with probability alpha.
"""

import random

from truncated_weights.mini_pythia.language.documents import NOISE, Document, Query, Split, split_of
from truncated_weights.mini_pythia.language.names import (
    GIFTS,
    GIVING_VERBS,
    MEETING_PLACES,
    NAMES,
    STRANGERS,
)

_OPENINGS = (
    "When {0} and {1} went to the {2},",
    "After {0} and {1} met at the {2},",
    "While {0} and {1} were at the {2},",
    "Once {0} and {1} came back from the {2},",
)
_LINKS = ("Then", "Later", "Soon", "Next")
_MOODS = ("quiet", "crowded", "cold", "bright", "empty", "noisy")
MAX_GIFTS = 3


def draw_pair(rng: random.Random, split: Split) -> tuple[str, str]:
    """Draw two different names, uniform over the ordered pairs of a split."""
    while True:
        first, second = rng.sample(NAMES, 2)
        if split_of((first, second)) == split:
            return first, second


def story(rng: random.Random, *, alpha: float, split: Split = "train") -> Document:
    """Tell a story of two people and one to three gifts, with a query at each gift.

    Each giver is one of the two with probability 1/2, whatever came before; the receiver is
    the other one, or with probability alpha a stranger. `split` says which pairs of names
    to draw from.
    """
    pair = draw_pair(rng, split)
    place = rng.choice(MEETING_PLACES)
    text = rng.choice(_OPENINGS).format(*pair, place)
    others = [name for name in rng.sample(NAMES, 4) if name not in pair][:2]
    queries = []
    for number in range(rng.randint(1, MAX_GIFTS)):
        if number:
            if rng.random() < 0.2:
                text += f" The {place} was {rng.choice(_MOODS)}."
            text += f" {rng.choice(_LINKS)}"
        giver, receiver = pair if rng.random() < 0.5 else pair[::-1]
        text += f" {giver} {rng.choice(GIVING_VERBS)} a {rng.choice(GIFTS)} to"
        queries.append(
            Query(
                offset=len(text),
                kind="story",
                answer=f" {receiver}",
                distractors=tuple(f" {name}" for name in (giver, *others)),
                p_answer=1.0 - alpha,
                p_the=alpha,
            )
        )
        text += f"{NOISE} {rng.choice(STRANGERS)}" if rng.random() < alpha else f" {receiver}"
        text += "."
    return Document(text, tuple(queries))
