"""Relation files of Hernandez et al. (arXiv 2308.09124): templates with subjects and objects.

{"name", "prompt_templates": ["The capital of {} is"], "prompt_templates_zs": [...],
"samples": [{"subject", "object"}, ...]}
"""

import os
import pathlib
import random

from truncated_weights.bridge.tasks.example import Example, TaskError, spaced
from truncated_weights.bridge.tasks.files import json_rows


def read(
    path: str | os.PathLike[str],
    *,
    zero_shot: bool = True,
    num_distractors: int = 5,
    seed: int = 0,
) -> list[Example]:
    """Every sample under the first template; distractors are objects of other samples.

    zero_shot prefers "prompt_templates_zs", which tell the relation without examples of it.
    Raises TaskError naming file, line and fault.
    """
    whole, rows = json_rows.object_with_array(pathlib.Path(path), "samples")
    templates = whole.texts("prompt_templates_zs") if zero_shot else ()
    templates = templates or whole.texts("prompt_templates")
    if not templates:
        raise whole.error("no field 'prompt_templates' with a template in it")
    template = templates[0]
    if template.count("{}") != 1:
        raise whole.error(f"template {template!r} does not hold exactly one {{}}")
    name = whole.text("name") if whole.has("name") else pathlib.Path(path).stem
    rng = random.Random(f"{name}/{seed}")
    pairs = [(row, row.text("subject"), row.text("object")) for row in rows]
    right: dict[str, set[str]] = {}
    for _, subject, thing in pairs:
        right.setdefault(subject, set()).add(thing)
    objects = list(dict.fromkeys(thing for _, _, thing in pairs))
    examples = []
    for row, subject, thing in pairs:
        # A subject with several right objects must not have one of them as a distractor.
        wrong = [other for other in objects if other not in right[subject]]
        chosen = rng.sample(wrong, min(num_distractors, len(wrong)))
        try:
            examples.append(spaced(template.replace("{}", subject), thing, chosen, group=name))
        except TaskError as error:
            raise row.error(str(error)) from None
    return examples
