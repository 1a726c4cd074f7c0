"""Capitals of countries: {"country": "Albania", "city": "Tirana"}."""

import pathlib
import random
from collections.abc import Sequence

from truncated_weights.bridge.tasks.card import Card
from truncated_weights.bridge.tasks.example import Encode, Marking, Task, TaskError, spaced
from truncated_weights.bridge.tasks.files import rows
from truncated_weights.bridge.tasks.files.json_rows import Row

NUM_DISTRACTORS = 5
CARD = Card(
    name="capitals",
    source="country-by-capital-city.json of samayo/country-json",
    licence="MIT",
    reads="an array with country and city",
    rows="245, of which 7 have no capital",
    asked="The capital of {country} is; or ask=country: {city} is located in",
    marking=Marking("top1"),
    protocol="none",
)
_ASKED = {"capital": "The capital of {country} is", "country": "{city} is located in"}


def read(
    paths: Sequence[pathlib.Path], encode: Encode, *, ask: str = "capital", seed: int = 0
) -> Task:
    """A prompt for each country that has a capital; distractors are those of others.

    ask is capital or country; a name that stands in its own prompt (Mexico City) asks for a
    copy and is left out. Raises TaskError naming file, line and fault.
    """
    if ask not in _ASKED:
        raise TaskError(f"capitals: ask={ask}: expected {' or '.join(_ASKED)}")
    every = [row for path in paths for row in rows.read(path)]
    found: list[tuple[Row, dict[str, str]]] = []
    for row in every:
        if row.value.get("city") is not None:
            found.append((row, {name: row.text(name) for name in ("country", "city")}))
    if not found:
        raise TaskError(f"{paths[0]}: no country with a capital")
    answered = "city" if ask == "capital" else "country"
    answers = list(dict.fromkeys(names[answered] for _, names in found))
    rng = random.Random(f"capitals/{seed}")
    examples = []
    for row, names in found:
        prompt, right = _ASKED[ask].format(**names), names[answered]
        if right in prompt:
            continue
        wrong = rng.sample(answers, min(NUM_DISTRACTORS + 1, len(answers)))
        wrong = [word for word in wrong if word != right][:NUM_DISTRACTORS]
        try:
            examples.append(spaced(prompt, right, wrong))
        except TaskError as error:
            raise row.error(str(error)) from None
    counts = (
        (len(every) - len(found), "have no capital"),
        (len(found) - len(examples), "are named in their own prompt"),
    )
    dropped = tuple(f"{n} of {len(every)} countries {why}" for n, why in counts if n)
    return Task(CARD.name, tuple(examples), dropped, marking=CARD.marking)
