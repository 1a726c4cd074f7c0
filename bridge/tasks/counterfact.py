"""CounterFact files: facts with a true object and a false one of the same kind.

Two layouts are read. The original (Meng et al., arXiv 2202.05262): {"requested_rewrite":
{"prompt": "{} is located in", "subject", "target_true": {"str"}, "target_new": {"str"}},
"paraphrase_prompts": [...]}; and the flat one, {"base_prompt", "target_true",
"target_new"}. Each file is one array.
"""

import os
import pathlib

from bridge.tasks import json_rows
from bridge.tasks.example import Example, TaskError, spaced
from bridge.tasks.json_rows import Row


def read(path: str | os.PathLike[str], *, paraphrases: bool = False) -> list[Example]:
    """The facts of a CounterFact file; the distractor is the counterfactual target.

    paraphrases adds one example for each paraphrase of the original layout, as LASER's
    evaluation does. Raises TaskError naming file, line and fault.
    """
    examples = []
    for row in json_rows.array(pathlib.Path(path)):
        for prompt in _prompts(row, paraphrases):
            true, new = _targets(row)
            group = row.value.get("relation_id") or row.value.get("relation") or ""
            try:
                examples.append(spaced(prompt, true, (new,), group=str(group)))
            except TaskError as error:
                raise row.error(str(error)) from None
    return examples


def _prompts(row: Row, paraphrases: bool) -> list[str]:
    if not row.has("requested_rewrite"):
        return [row.text("base_prompt")]
    rewrite = row.nested("requested_rewrite")
    template = rewrite.text("prompt")
    if template.count("{}") != 1:
        raise row.error(f"'prompt' {template!r} does not hold exactly one {{}}")
    extra = row.texts("paraphrase_prompts") if paraphrases else ()
    return [template.replace("{}", rewrite.text("subject")), *extra]


def _targets(row: Row) -> tuple[str, str]:
    if not row.has("requested_rewrite"):
        return row.text("target_true"), row.text("target_new")
    rewrite = row.nested("requested_rewrite")
    return rewrite.nested("target_true").text("str"), rewrite.nested("target_new").text("str")
