"""Indirect objects from a file of templates, names, places and objects.

{"NAMES": ["Michael", ...], "PLACES": [...], "OBJECTS": [...], "BABA_TEMPLATES":
["Then, [B] and [A] went to the [PLACE]. [B] gave a [OBJECT] to [A]", ...]}

[A] receives, [B] gives. The file writes the giver first; every second story is told with
the receiver first, the first two names changed over.
"""

import pathlib
import random
from collections.abc import Sequence

from truncated_weights.bridge.tasks.card import Card
from truncated_weights.bridge.tasks.example import (
    Encode,
    Example,
    Marking,
    Task,
    TaskError,
    single_tokens,
)
from truncated_weights.bridge.tasks.files import json_rows

CARD = Card(
    name="ioi",
    source="templates of Wang et al. (arXiv 2211.00593), Easy-Transformer",
    licence="MIT",
    reads="ioi_templates.json: names, places, objects, lists of templates",
    rows="drawn; the first paper takes 100 sentences",
    asked="Then, Mark and Anna went to the store. Mark gave a ring to",
    marking=Marking("top1"),
    protocol="none",
)
_RECEIVER = " [A]"


def read(
    paths: Sequence[pathlib.Path],
    encode: Encode,
    *,
    templates: str = "BABA_TEMPLATES",
    count: int = 100,
    seed: int = 0,
) -> Task:
    """`count` different stories; the distractor is the giver.

    Templates are used in turn. Names that are not one token after a space are left out and
    reported. Raises TaskError where a list is missing or damaged, fewer than two names are
    left, or so many stories cannot differ.
    """
    whole = json_rows.whole(paths[0])
    asked, places, things = (whole.texts(n) for n in (templates, "PLACES", "OBJECTS"))
    for name, found in ((templates, asked), ("PLACES", places), ("OBJECTS", things)):
        if not found:
            raise whole.error(f"no field {name!r}, or nothing in it")
    for template in asked:
        first, *others = (template.count(mark) for mark in ("[A]", "[B]", "[PLACE]", "[OBJECT]"))
        if not template.endswith(_RECEIVER) or first != 2 or others[0] != 2:
            raise whole.error(f"template {template!r} is not told with [A] and [B], to [A]")
    names, dropped = single_tokens(whole.texts("NAMES"), encode, what="names")
    most = len(names) * (len(names) - 1) * len(asked)
    if not 0 < count <= most:
        raise TaskError(f"ioi: {count} stories asked for, expected 1 to {most}")
    rng = random.Random(f"ioi/{templates}/{seed}")
    examples: dict[str, Example] = {}
    while len(examples) < count:
        turn = len(examples)
        template = asked[turn // 2 % len(asked)]
        if turn % 2:
            template = _changed_over(template)
        receiver, giver = rng.sample(names, 2)
        story = template.removesuffix(_RECEIVER)
        for mark, word in (
            ("[A]", receiver),
            ("[B]", giver),
            ("[PLACE]", rng.choice(places)),
            ("[OBJECT]", rng.choice(things)),
        ):
            story = story.replace(mark, word)
        order = "receiver_first" if turn % 2 else "giver_first"
        covariates = {"giver_first": float(not turn % 2)}
        examples.setdefault(
            story, Example(story, f" {receiver}", (f" {giver}",), order, covariates)
        )
    return Task(CARD.name, tuple(examples.values()), dropped, marking=CARD.marking)


def _changed_over(template: str) -> str:
    """The first [B] and the first [A] in each other's place."""
    return template.replace("[A]", "[*]", 1).replace("[B]", "[A]", 1).replace("[*]", "[B]", 1)
