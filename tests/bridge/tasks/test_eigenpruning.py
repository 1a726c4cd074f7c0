"""Eigenpruning's tasks: every pair once, and its prompts beside the harness's."""

import json

import pytest

from truncated_weights.bridge.tasks import TaskError, load
from truncated_weights.bridge.tasks.eigenpruning import super_glue


def test_all_pairs_of_the_published_ranges(encode):
    products, sums = (load(name, encode) for name in ("integer_products", "integer_sums"))
    assert (len(products.examples), len(sums.examples)) == (400, 10_000)
    assert products.examples[0].prompt + products.examples[0].answer == "0 x 0 = 0"
    assert products.examples[-1].prompt + products.examples[-1].answer == "19 x 19 = 361"
    assert sums.examples[-1].prompt + sums.examples[-1].answer == "99 + 99 = 198"
    assert len({e.prompt for e in sums.examples}) == 10_000
    # 3 x 4 and 4 x 3 are one item: n (n + 1) / 2 of them.
    assert len({e.item for e in products.examples}) == 210
    with pytest.raises(TaskError, match="takes no file"):
        load("integer_sums:x.json", encode)


INFERENCE = {"premise": "It rains.", "hypothesis": "It is wet", "label": "contradiction"}
CHOICE = {
    "premise": "It rained.",
    "choice1": "The street got wet.",
    "choice2": "Dogs bark.",
    "question": "effect",
    "label": 0,
}


def test_eigenprunings_prompts(write, encode):
    path = write(json.dumps(INFERENCE), "x.jsonl")
    (example,) = super_glue.cb([path], encode).examples
    assert example.prompt == (
        "Premise: It rains.\n\nHypothesis: It is wet\n\nDoes the premise entail, contradict or is "
        "neutral to the hypothesis?\nAnswer (entails, contradicts, is neutral): The premise"
    )
    assert (example.answer, example.distractors) == (" contradicts", (" entails", " is neutral"))
    path = write(json.dumps(INFERENCE | {"label": 1}), "x.jsonl")
    task = super_glue.rte([path], encode)
    assert task.examples[0].prompt.endswith(
        "Does the premise entail or contradict to the hypothesis?\n"
        "Answer (entails or contradicts): The premise"
    )
    assert task.examples[0].answer == " contradicts"
    assert task.marking.metric == "top1"
    task = super_glue.copa([write(json.dumps(CHOICE), "x.jsonl")], encode)
    assert task.examples[0].prompt == (
        "Premise: It rained.\nWhat happened as a result?\n\nAlternative 1: The street got wet.\n"
        "Alternative 2: Dogs bark.\n\nWhat is the correct alternative?\n"
        "The correct alternative is alternative"
    )
    assert (task.examples[0].answer, task.closed) == (" 1", (" 1", " 2"))


def test_the_harness_prompts(write, encode):
    path = write(json.dumps(INFERENCE), "x.jsonl")
    task = load(f"cb:{path}:prompts=harness", encode)
    assert task.examples[0].prompt == (
        "It rains.\nQuestion: It is wet. True, False, or Neither?\nAnswer:"
    )
    assert (task.examples[0].answer, task.marking.metric) == (" False", "choice_summed")
    path = write(json.dumps(INFERENCE | {"label": "entailment"}), "x.jsonl")
    (example,) = super_glue.rte([path], encode, prompts="harness").examples
    assert example.prompt + example.answer == (
        "It rains.\nQuestion: It is wet True or False?\nAnswer: True"
    )
    cause = CHOICE | {"question": "cause", "label": 1}
    path = write("\n".join(map(json.dumps, (CHOICE, cause))), "x.jsonl")
    task = super_glue.copa([path], encode, prompts="harness")
    assert [e.prompt + e.answer for e in task.examples] == [
        "It rained therefore the street got wet.",
        "It rained because dogs bark.",
    ]
    assert task.closed == ()


@pytest.mark.parametrize(
    ("read", "changes", "problem"),
    [
        (super_glue.cb, {"label": 3}, "'label' is 3; expected entailment, contradiction"),
        (super_glue.cb, {"label": True}, "'label' is True"),
        (super_glue.rte, {"label": "neutral"}, "expected entailment, not_entailment"),
        (super_glue.cb, {"premise": ""}, "'premise' is blank"),
        (super_glue.copa, CHOICE | {"question": "why"}, "'question' is 'why'"),
        (super_glue.copa, CHOICE | {"label": None}, "'label' is None"),
        (super_glue.copa, CHOICE | {"choice2": 1}, "'choice2' is a number"),
    ],
)
def test_damaged_rows(write, encode, read, changes, problem):
    good = CHOICE if read is super_glue.copa else INFERENCE | {"label": 0}
    path = write(json.dumps(good) + "\n" + json.dumps(good | changes), "x.jsonl")
    with pytest.raises(TaskError) as caught:
        read([path], encode)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert problem in str(caught.value)
