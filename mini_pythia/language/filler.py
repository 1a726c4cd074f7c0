"""Plain sentences that ask nothing: the rest of the language."""

import random

from truncated_weights.mini_pythia.language.documents import Document
from truncated_weights.mini_pythia.language.names import GIFTS, MEETING_PLACES, STRANGERS
from truncated_weights.mini_pythia.language.words import words

_ADJECTIVES = words("old young tall quiet clever tired happy careful")
_COLOURS = words("red green black white blue yellow")
_VERBS = words("carried found painted cleaned wanted repaired forgot bought")
_WEATHER = words("rain snow wind sun fog frost")
_TIMES = words("morning evening winter summer spring autumn")
_NUMBERS = words("two three four five six seven")


def _object(rng: random.Random) -> str:
    return f"the {rng.choice(_COLOURS)} {rng.choice(GIFTS)}"


def _sentence(rng: random.Random) -> str:
    form = rng.randrange(4)
    if form == 0:
        who = f"The {rng.choice(_ADJECTIVES)} {rng.choice(STRANGERS)}"
        return f"{who} {rng.choice(_VERBS)} {_object(rng)} near the {rng.choice(MEETING_PLACES)}."
    if form == 1:
        return (
            f"In the {rng.choice(_TIMES)} the {rng.choice(_WEATHER)} reached the "
            f"{rng.choice(MEETING_PLACES)}."
        )
    if form == 2:
        return (
            f"There were {rng.choice(_NUMBERS)} {rng.choice(GIFTS)}s behind the "
            f"{rng.choice(MEETING_PLACES)}."
        )
    return f"Every {rng.choice(_TIMES)} the {rng.choice(STRANGERS)} {rng.choice(_VERBS)} a lot."


def filler(rng: random.Random) -> Document:
    """Write one to three sentences without a query."""
    return Document(" ".join(_sentence(rng) for _ in range(rng.randint(1, 3))))
