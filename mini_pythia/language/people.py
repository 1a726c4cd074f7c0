"""Invented people with an occupation and a language each: facts that no other text holds."""

import random
from dataclasses import dataclass

from truncated_weights.mini_pythia.language.words import words

OCCUPATIONS = words("""
    farming banking medicine law music baking printing fishing weaving mining painting teaching
    sailing cooking hunting brewing
    """)

LANGUAGES = words("""
    Polish French German Spanish Turkish Arabic Greek Hindi Swedish Finnish Korean Danish Russian
    Persian Dutch Czech
    """)

LANDSCAPES = words("coast hills islands valley plains border")
FIELDS = words("field world business trade")

_GIVEN = words(
    "Balo Cemi Doru Evka Falin Gavo Hirun Jelka Kemo Lorin Mavi Nerun Olvi Pelka Rumo Sevin"
)
_FIRST = words("Tor Bel Kas Mor Ven Dal Rin Hol Gar Lun Pel Zan Fer Bri Nol Sor Var Wes Yor Jan")
_SECOND = words(
    "vin kova dek mund tal rik berg sky low ner son wick dano lett mar pold fen gast hun cis"
)


@dataclass(frozen=True)
class Person:
    """An invented person; the surname is nobody else's."""

    name: str
    occupation: str
    language: str


def invent_people(count: int, seed: int) -> tuple[Person, ...]:
    """Invent `count` people, the most written-about first.

    Occupation and language are independent and uniform, so nothing but memory of the very
    person gives them away. Another seed gives other people. Raises ValueError for a count
    outside 1 to 400, the number of surnames.
    """
    if not 1 <= count <= len(_FIRST) * len(_SECOND):
        raise ValueError(f"count must be from 1 to {len(_FIRST) * len(_SECOND)}, got {count}")
    rng = random.Random(f"people/{seed}")
    surnames = rng.sample([a + b for a in _FIRST for b in _SECOND], count)
    return tuple(
        Person(
            name=f"{rng.choice(_GIVEN)} {surname}",
            occupation=rng.choice(OCCUPATIONS),
            language=rng.choice(LANGUAGES),
        )
        for surname in surnames
    )
