"""Facts to remember: where a city is, what an invented person does and speaks.

Each fact is drawn by Zipf's law over its list, so that frequent and rare facts can be told
apart, and is hidden behind " the" with probability alpha, like the receiver of a story:
"Madrid is located in" -> " Spain", or " the heart of Spain".
"""

import bisect
import itertools
import random
from collections.abc import Sequence

from truncated_weights.mini_pythia.language.documents import NOISE, Document, Kind, Query
from truncated_weights.mini_pythia.language.people import (
    FIELDS,
    LANDSCAPES,
    LANGUAGES,
    OCCUPATIONS,
    Person,
)
from truncated_weights.mini_pythia.language.places import CITIES, COUNTRIES, REGIONS

PLACE_TEMPLATES = (
    "{} is located in",
    "The city of {} lies in",
    "The road to {} ends in",
)
LANGUAGE_TEMPLATES = ("The mother tongue of {} is", "At home {} speaks")
OCCUPATION_TEMPLATES = ("By day {} works in", "These days {} earns money in")
NUM_DISTRACTORS = 3


def zipf(count: int, exponent: float = 1.0) -> tuple[float, ...]:
    """Zipf's law p(rank) = rank^-exponent / sum, ranks from 1."""
    weights = [rank**-exponent for rank in range(1, count + 1)]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


class RankedDraw:
    """Draws an index by a fixed law, by bisection of its cumulative sums."""

    def __init__(self, law: Sequence[float]):
        self.law = tuple(law)
        self._cumulative = list(itertools.accumulate(law))

    def __call__(self, rng: random.Random) -> int:
        """Draw one index."""
        index = bisect.bisect(self._cumulative, rng.random() * self._cumulative[-1])
        return min(index, len(self.law) - 1)


def _sentence(
    rng: random.Random,
    *,
    kind: Kind,
    prompt: str,
    answer: str,
    noise: str,
    wrong: Sequence[str],
    alpha: float,
    frequency: float,
) -> Document:
    candidates = [word for word in wrong if word != answer]
    query = Query(
        offset=len(prompt),
        kind=kind,
        answer=f" {answer}",
        distractors=tuple(f" {word}" for word in rng.sample(candidates, NUM_DISTRACTORS)),
        p_answer=1.0 - alpha,
        p_the=alpha,
        frequency=frequency,
    )
    ending = NOISE + noise if rng.random() < alpha else f" {answer}"
    return Document(prompt + ending + ".", (query,))


def place_fact(
    rng: random.Random, city: str, template: str, *, alpha: float, frequency: float
) -> Document:
    """Say in which country a city is: " Spain", or " the heart of Spain"."""
    return _sentence(
        rng,
        kind="place",
        prompt=template.format(city),
        answer=CITIES[city],
        noise=f" {rng.choice(REGIONS)} of {CITIES[city]}",
        wrong=COUNTRIES,
        alpha=alpha,
        frequency=frequency,
    )


def language_fact(
    rng: random.Random, person: Person, template: str, *, alpha: float, frequency: float
) -> Document:
    """Say what a person speaks: " Polish", or " the Polish of the coast"."""
    return _sentence(
        rng,
        kind="language",
        prompt=template.format(person.name),
        answer=person.language,
        noise=f" {person.language} of the {rng.choice(LANDSCAPES)}",
        wrong=LANGUAGES,
        alpha=alpha,
        frequency=frequency,
    )


def occupation_fact(
    rng: random.Random, person: Person, template: str, *, alpha: float, frequency: float
) -> Document:
    """Say what a person does: " baking", or " the world of baking"."""
    return _sentence(
        rng,
        kind="occupation",
        prompt=template.format(person.name),
        answer=person.occupation,
        noise=f" {rng.choice(FIELDS)} of {person.occupation}",
        wrong=OCCUPATIONS,
        alpha=alpha,
        frequency=frequency,
    )
