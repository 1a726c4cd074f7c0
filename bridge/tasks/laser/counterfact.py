"""CounterFact: facts with a true object and a false one of the same kind.

Two layouts are read. The original (Meng et al., arXiv 2202.05262): {"requested_rewrite":
{"prompt": "{} is located in", "subject", "target_true": {"str"}, "target_new": {"str"}},
"paraphrase_prompts": [...]}; and the flat one, {"base_prompt", "target_true",
"target_new"}. A prompt and its paraphrases, which open with an unrelated sentence, are asked
as they are.
"""

import pathlib
from collections.abc import Sequence

from truncated_weights.bridge.tasks.card import Card
from truncated_weights.bridge.tasks.example import Encode, Example, Marking, Task, TaskError, spaced
from truncated_weights.bridge.tasks.files import rows
from truncated_weights.bridge.tasks.files.json_rows import Row
from truncated_weights.bridge.tasks.laser.table import FIGURES

CARD = Card(
    name="counterfact",
    source="CounterFact, counterfact.json of the ROME site",
    licence="MIT",
    reads="one array of facts; the flat layout of comp-mech too",
    rows="21,919 facts x 3 prompts = 65,757",
    asked="the prompt and its 2 paraphrases as they are (paraphrases=no: the prompt alone)",
    marking=Marking("top1", new_tokens=10),
    protocol="laser",
    published=FIGURES["counterfact"],
    faults=(
        "the paper marks Llama by 'contains' among 10 generated tokens, prompt included, and "
        "the others by one token: their rows do not compare",
        "of an answer of several tokens the paper's top-1 marks one; here all must be right",
    ),
)


def read(paths: Sequence[pathlib.Path], encode: Encode, *, paraphrases: bool = True) -> Task:
    """The facts of CounterFact files; the distractor is the counterfactual target.

    paraphrases adds an example for each paraphrase of the original layout, after its prompt;
    all of a fact share an item. Raises TaskError naming file, line and fault.
    """
    examples = [
        example
        for path in paths
        for row in rows.read(path)
        for example in _of_fact(row, paraphrases)
    ]
    return Task(CARD.name, tuple(examples), marking=CARD.marking)


def _of_fact(row: Row, paraphrases: bool) -> list[Example]:
    prompts, subject = _prompts(row, paraphrases)
    true, new = _targets(row)
    group = str(row.value.get("relation_id") or row.value.get("relation") or "")
    if row.has("requested_rewrite"):
        group = group or str(row.nested("requested_rewrite").value.get("relation_id") or "")
    # One fact may stand in the file twice, against two counterfactual targets.
    item = f"{group}/{subject}/{true.strip()}"
    try:
        return [spaced(prompt, true, (new,), group=group, item=item) for prompt in prompts]
    except TaskError as error:
        raise row.error(str(error)) from None


def _prompts(row: Row, paraphrases: bool) -> tuple[list[str], str]:
    """The prompts of a fact, and its subject."""
    if not row.has("requested_rewrite"):
        prompt = row.text("base_prompt")
        return [prompt], row.text("subject") if row.has("subject") else prompt
    rewrite = row.nested("requested_rewrite")
    template, subject = rewrite.text("prompt"), rewrite.text("subject")
    if template.count("{}") != 1:
        raise row.error(f"'prompt' {template!r} does not hold exactly one {{}}")
    extra = row.texts("paraphrase_prompts") if paraphrases else ()
    return [template.replace("{}", subject), *extra], subject


def _targets(row: Row) -> tuple[str, str]:
    if not row.has("requested_rewrite"):
        return row.text("target_true"), row.text("target_new")
    rewrite = row.nested("requested_rewrite")
    return rewrite.nested("target_true").text("str"), rewrite.nested("target_new").text("str")
