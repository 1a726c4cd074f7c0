"""Evaluation prompts with their Bayes-optimal probabilities, as plain JSON lines.

One line per prompt: {"prompt", "answer", "distractors", "kind", "p_answer", "p_the",
"p_other", "frequency"}. Answers and distractors carry their leading space and are single
tokens. Any program that reads {"prompt", "answer", "distractors"} can score them.

    story            pairs of people whom no training story brings together
    facts_frequent, facts_middle, facts_rare
                     thirds of all facts (places, languages, occupations) by how often the
                     corpus states them; validation and test hold different facts
    sum              pairs of terms that no training document adds
    sum_seen         pairs of terms that training documents add, other ones in each part
    product          all products are in training; other ones in each part
"""

import json
import random
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from truncated_weights.mini_pythia.corpus import Corpus
from truncated_weights.mini_pythia.language.arithmetic import equations
from truncated_weights.mini_pythia.language.documents import Document
from truncated_weights.mini_pythia.language.facts import (
    LANGUAGE_TEMPLATES,
    OCCUPATION_TEMPLATES,
    PLACE_TEMPLATES,
    language_fact,
    occupation_fact,
    place_fact,
)
from truncated_weights.mini_pythia.language.places import CITIES
from truncated_weights.mini_pythia.language.stories import story
from truncated_weights.training import atomic

HeldOut = Literal["validation", "test"]
TASKS = (
    "story",
    "facts_frequent",
    "facts_middle",
    "facts_rare",
    "sum",
    "sum_seen",
    "product",
)
Prompt = dict[str, Any]


def as_prompt(document: Document, number: int = 0) -> Prompt:
    """The document up to its query `number`, with the truth about what follows."""
    query = document.queries[number]
    return {
        "prompt": document.text[: query.offset],
        "answer": query.answer,
        "distractors": list(query.distractors),
        "kind": query.kind,
        "p_answer": query.p_answer,
        "p_the": query.p_the,
        "p_other": 0.0,
        "frequency": query.frequency,
    }


def _distinct(prompts: Iterable[Prompt], count: int) -> list[Prompt]:
    chosen: dict[str, Prompt] = {}
    for prompt in prompts:
        chosen.setdefault(prompt["prompt"], prompt)
        if len(chosen) == count:
            break
    return list(chosen.values())


def fact_prompts(corpus: Corpus, rng: random.Random, part: HeldOut) -> list[Prompt]:
    """Ask for every second fact of each list, the most frequent fact first.

    `frequency` becomes the probability that a document of any kind states the fact, which
    makes facts of different kinds comparable.
    """
    parity = ("validation", "test").index(part)
    prompts = []
    for rank, city in enumerate(CITIES):
        if rank % 2 == parity:
            template = rng.choice(PLACE_TEMPLATES)
            frequency = corpus.shares.get("place", 0.0) * corpus.city_draw.law[rank]
            fact = place_fact(rng, city, template, alpha=corpus.alpha, frequency=frequency)
            prompts.append(as_prompt(fact))
    for rank, person in enumerate(corpus.people):
        # Half the people are asked for their language in one part, their occupation in the
        # other: a person is in both, a fact in one.
        of_language = (rank + rank // 2) % 2 == parity
        write = language_fact if of_language else occupation_fact
        template = rng.choice(LANGUAGE_TEMPLATES if of_language else OCCUPATION_TEMPLATES)
        share = corpus.shares.get("language" if of_language else "occupation", 0.0)
        frequency = share * corpus.person_draw.law[rank]
        fact = write(rng, person, template, alpha=corpus.alpha, frequency=frequency)
        prompts.append(as_prompt(fact))
    return sorted(prompts, key=lambda prompt: -prompt["frequency"])


def evaluation_sets(
    corpus: Corpus, *, part: HeldOut, count: int = 256, seed: int = 0
) -> dict[str, list[Prompt]]:
    """Write the prompts of one part for every task: validation to choose with, test to report.

    `count` prompts per task, or as many as there are; all the facts of the part. Validation
    and test of one seed draw from different streams. Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count must be positive, got {count}")
    rng = random.Random(f"prompts/{part}/{seed}")
    # Held-out sums are few: about a tenth of the 820 unordered pairs, in both orders.
    enough = 40 * count
    facts = fact_prompts(corpus, rng, part)
    third = -(-len(facts) // 3)

    def equations_of_part(kind: Literal["sum", "product"]) -> list[Prompt]:
        drawn = (as_prompt(equations(rng, kind)) for _ in range(enough))
        return _distinct((prompt for prompt in drawn if _part_of(prompt) == part), count)

    return {
        "story": _distinct(
            (as_prompt(story(rng, alpha=corpus.alpha, split=part)) for _ in range(enough)), count
        ),
        "facts_frequent": facts[:third],
        "facts_middle": facts[third : 2 * third],
        "facts_rare": facts[2 * third :],
        "sum": _distinct(
            (as_prompt(equations(rng, "sum", split=part)) for _ in range(enough)), count
        ),
        "sum_seen": equations_of_part("sum"),
        "product": equations_of_part("product"),
    }


def _part_of(prompt: Prompt) -> HeldOut:
    """Where an equation seen in training is asked: 3 x 4 and 4 x 3 in the same part."""
    _, first, _, second, _ = prompt["prompt"].split()
    odd = zlib.crc32("".join(sorted((f"{first},", f"{second},"))).encode()) % 2
    return "test" if odd else "validation"


def write_prompts(sets: dict[str, list[Prompt]], folder: Path) -> None:
    """Write FOLDER/TASK.jsonl for every task."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, prompts in sets.items():
        lines = (json.dumps(prompt) + "\n" for prompt in prompts)
        atomic.write_text(folder / f"{task}.jsonl", "".join(lines))
