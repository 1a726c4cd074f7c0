"""CB, RTE and COPA of SuperGLUE, in eigenpruning's prompts and in the evaluation harness's.

{"premise", "hypothesis", "label"} of CB and RTE; {"premise", "choice1", "choice2",
"question", "label"} of COPA. Labels are the words of the original files or the numbers of
the hub's.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Literal

from truncated_weights.bridge.tasks.card import Card
from truncated_weights.bridge.tasks.example import Encode, Example, Marking, Task, TaskError, choose
from truncated_weights.bridge.tasks.files import rows
from truncated_weights.bridge.tasks.files.json_rows import Row

Prompts = Literal["eigenpruning", "harness"]

_READS = "JSON lines, an array or Parquet; train to score directions, validation to test"
_WHOLE = (
    "the published target is one token of the label, which is wrong for CB or RTE with any "
    "tokenizer that splits labels; here the whole label must be right"
)
CB = Card(
    name="cb",
    source="super_glue, cb",
    licence="none of its own: for local trials",
    reads=_READS,
    rows="250 and 56",
    asked="Premise: {p} Hypothesis: {h} Does the premise entail, contradict or is neutral to the "
    "hypothesis? Answer (entails, contradicts, is neutral): The premise; or prompts=harness: {p} "
    "Question: {h}. True, False, or Neither? Answer:",
    marking=Marking("top1"),
    protocol="eigenpruning",
    hub=("hub:aps/super_glue/cb/train", "hub:aps/super_glue/cb/validation"),
    faults=(_WHOLE, "a constant answer gives 50.0 % of validation"),
)
RTE = Card(
    name="rte",
    source="super_glue, rte",
    licence="none of its own: for local trials",
    reads=_READS,
    rows="2,490 and 277",
    asked="Premise: {p} Hypothesis: {h} Does the premise entail or contradict to the hypothesis? "
    "Answer (entails or contradicts): The premise; or prompts=harness: {p} Question: {h} True or "
    "False? Answer:",
    marking=Marking("top1"),
    protocol="eigenpruning",
    hub=("hub:aps/super_glue/rte/train", "hub:aps/super_glue/rte/validation"),
    faults=(_WHOLE, "a constant answer gives 52.7 % of validation"),
)
COPA = Card(
    name="copa",
    source="super_glue, copa",
    licence="BSD-2-Clause",
    reads=_READS,
    rows="400 and 100",
    asked="Premise: {p} What was the cause of this? (or What happened as a result?) Alternative "
    "1: {c1} Alternative 2: {c2} What is the correct alternative? The correct alternative is "
    "alternative; or prompts=harness: the premise, because or therefore, the choice",
    marking=Marking("top1"),
    protocol="eigenpruning",
    hub=("hub:aps/super_glue/copa/train", "hub:aps/super_glue/copa/validation"),
    faults=("a constant answer gives 55 % of validation",),
)

_CB_LABELS = ("entailment", "contradiction", "neutral")
_RTE_LABELS = ("entailment", "not_entailment")
_CB_CLOSED = {
    "eigenpruning": (" entails", " contradicts", " is neutral"),
    "harness": (" True", " False", " Neither"),
}
_RTE_CLOSED = {"eigenpruning": (" entails", " contradicts"), "harness": (" True", " False")}
_COPA_CLOSED = (" 1", " 2")
_COPA_QUESTIONS = {
    "cause": ("What was the cause of this?", "because"),
    "effect": ("What happened as a result?", "therefore"),
}


def cb(paths: Sequence[pathlib.Path], encode: Encode, *, prompts: Prompts = "eigenpruning") -> Task:
    """Entailment, contradiction or neither. Raises TaskError naming file, line and fault."""
    question = (
        "Does the premise entail, contradict or is neutral to the hypothesis?\n"
        "Answer (entails, contradicts, is neutral): The premise"
    )
    ask = "{p}\nQuestion: {h}. True, False, or Neither?\nAnswer:"
    return _inference(CB, paths, prompts, _CB_LABELS, _CB_CLOSED, question, ask)


def rte(
    paths: Sequence[pathlib.Path], encode: Encode, *, prompts: Prompts = "eigenpruning"
) -> Task:
    """Entailment or not. Raises TaskError naming file, line and fault."""
    question = (
        "Does the premise entail or contradict to the hypothesis?\n"
        "Answer (entails or contradicts): The premise"
    )
    ask = "{p}\nQuestion: {h} True or False?\nAnswer:"
    return _inference(RTE, paths, prompts, _RTE_LABELS, _RTE_CLOSED, question, ask)


def copa(
    paths: Sequence[pathlib.Path], encode: Encode, *, prompts: Prompts = "eigenpruning"
) -> Task:
    """Which of two is the cause, or the effect?

    In the harness's prompts the choices themselves are compared: there is no closed set.
    Raises TaskError naming file, line and fault.
    """
    examples: list[Example] = []
    for row in _all(paths):
        premise, choices = row.text("premise"), (row.text("choice1"), row.text("choice2"))
        kind, label = row.text("question"), _label(row, ("0", "1"))
        if kind not in _COPA_QUESTIONS:
            raise row.error(f"'question' is {kind!r}; expected cause or effect")
        asked, link = _COPA_QUESTIONS[kind]
        try:
            if prompts == "harness":
                lowered = [f" {text[:1].lower()}{text[1:]}" for text in choices]
                prompt = f"{premise.strip().removesuffix('.')} {link}"
                right, wrong = lowered[label], lowered[1 - label]
                examples.append(Example(prompt, right, (wrong,), item=premise))
            else:
                prompt = (
                    f"Premise: {premise}\n{asked}\n\nAlternative 1: {choices[0]}\n"
                    f"Alternative 2: {choices[1]}\n\nWhat is the correct alternative?\n"
                    "The correct alternative is alternative"
                )
                answer = _COPA_CLOSED[label]
                examples.append(choose(prompt, answer, _COPA_CLOSED, item=premise))
        except TaskError as error:
            raise row.error(str(error)) from None
    closed = () if prompts == "harness" else _COPA_CLOSED
    return Task(COPA.name, tuple(examples), (), closed, _marking(prompts))


def _inference(
    card: Card,
    paths: Sequence[pathlib.Path],
    prompts: Prompts,
    labels: tuple[str, ...],
    closed: Mapping[str, tuple[str, ...]],
    question: str,
    ask: str,
) -> Task:
    answers = closed[prompts]
    examples: list[Example] = []
    for row in _all(paths):
        premise, hypothesis = row.text("premise"), row.text("hypothesis")
        if prompts == "harness":
            prompt = ask.format(p=premise, h=hypothesis)
        else:
            prompt = f"Premise: {premise}\n\nHypothesis: {hypothesis}\n\n{question}"
        answer = answers[_label(row, labels)]
        examples.append(choose(prompt, answer, answers, item=premise))
    return Task(card.name, tuple(examples), (), answers, _marking(prompts))


def _all(paths: Sequence[pathlib.Path]) -> list[Row]:
    return [row for path in paths for row in rows.read(path)]


def _marking(prompts: Prompts) -> Marking:
    return Marking("choice_summed" if prompts == "harness" else "top1")


def _label(row: Row, names: tuple[str, ...]) -> int:
    """The number of a label that is one of these words or their number."""
    value = row.value.get("label")
    if isinstance(value, str) and value in names:
        return names.index(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return value
    raise row.error(f"'label' is {value!r}; expected {', '.join(names)}, or their number")
