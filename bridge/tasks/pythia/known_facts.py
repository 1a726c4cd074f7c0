"""Facts that models are known to know: prompts with an attribute of a subject.

{"subject": "Beats Music", "attribute": "Apple", "prompt": "Beats Music is owned by",
"relation_id": "P127"}
"""

import pathlib
import random
from collections.abc import Sequence

from truncated_weights.bridge.tasks.card import Card
from truncated_weights.bridge.tasks.example import Encode, Marking, Task, TaskError, spaced
from truncated_weights.bridge.tasks.files import rows

NUM_DISTRACTORS = 5
CARD = Card(
    name="known_facts",
    source="known_1000.json of the ROME work and its extensions",
    licence="MIT",
    reads="an array, JSON lines or Parquet with prompt, attribute, subject, relation_id",
    rows="1,209",
    asked="the prompt as it is: Beats Music is owned by",
    marking=Marking("top1"),
    protocol="none",
)


def read(paths: Sequence[pathlib.Path], encode: Encode, *, seed: int = 0) -> Task:
    """Every fact; distractors are attributes of the same relation, drawn by seed.

    Prompts about a subject under one relation share an item. Raises TaskError naming file,
    line and fault.
    """
    found = [row for path in paths for row in rows.read(path)]
    attributes: dict[str, dict[str, None]] = {}
    right: dict[tuple[str, str], set[str]] = {}
    for row in found:
        relation, subject = str(row.value.get("relation_id", "")), row.text("subject")
        attributes.setdefault(relation, {})[row.text("attribute")] = None
        right.setdefault((relation, subject), set()).add(row.text("attribute"))
    rng = random.Random(f"known_facts/{seed}")
    examples = []
    for row in found:
        relation, subject = str(row.value.get("relation_id", "")), row.text("subject")
        wrong = [word for word in attributes[relation] if word not in right[relation, subject]]
        chosen = rng.sample(wrong, min(NUM_DISTRACTORS, len(wrong)))
        item = f"{relation}/{subject}"
        try:
            examples.append(
                spaced(row.text("prompt"), row.text("attribute"), chosen, group=relation, item=item)
            )
        except TaskError as error:
            raise row.error(str(error)) from None
    return Task(CARD.name, tuple(examples), marking=CARD.marking)
