"""Four tasks of BIG-bench: epistemic reasoning, causal judgment, Wikidata, web of lies.

Three layouts are read: the original task file {"task_prefix", "examples": [{"input",
"target" or "target_scores"}]}, whose prefixes make the prompt; rows of the hub {"inputs",
"targets"} or {"input", "target"}, whose prompt is whole; and pairs {"context",
"continuation"}. Of the hub, LASER takes validation and then train, so that its first 20 %
is the validation split: give the files in this order.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

from truncated_weights.bridge.tasks.card import Card
from truncated_weights.bridge.tasks.example import Encode, Marking, Task, TaskError, choose, spaced
from truncated_weights.bridge.tasks.files import json_rows, rows
from truncated_weights.bridge.tasks.files.json_rows import Row
from truncated_weights.bridge.tasks.laser.prompts import YES_NO
from truncated_weights.bridge.tasks.laser.table import FIGURES

_READS = "the original task file, or validation and then train of the hub (JSON or Parquet)"
# What BIG-bench puts around an input where the task file does not say.
_INPUT_PREFIX, _OUTPUT_PREFIX = "\nQ: ", "\nA: "
ENTAILMENT = (" entailment", " non-entailment")

EPISTEMIC = Card(
    name="epistemic",
    source="BIG-bench epistemic_reasoning (tasksource/bigbench)",
    licence="Apache-2.0",
    reads=_READS,
    rows="2,000",
    asked="the task's prefix, premise, hypothesis, 'Relation:'",
    marking=Marking("choice_summed"),
    protocol="laser",
    hub=(
        "hub:tasksource/bigbench/epistemic_reasoning/validation",
        "hub:tasksource/bigbench/epistemic_reasoning/train",
    ),
    published=FIGURES["epistemic"],
    faults=(
        "'entailment' to everything gives 37.05 %, 'non-entailment' 62.95 %: of the published "
        "figures 37.1 and 63.4 are within a point of a constant",
        "the answers have 2 and 5 tokens (GPT-NeoX), and a sum of log-probabilities favours "
        "the shorter: the choice per token is reported beside it",
        "the unedited model does not compete in the published search; here it does",
    ),
)
CAUSAL = Card(
    name="causal",
    source="BIG-bench causal_judgment (tasksource/bigbench)",
    licence="Apache-2.0",
    reads=_READS,
    rows="190",
    asked="the task's prefix, the story with its question, 'A:'",
    marking=Marking("choice_summed"),
    protocol="laser",
    hub=(
        "hub:tasksource/bigbench/causal_judgment/validation",
        "hub:tasksource/bigbench/causal_judgment/train",
    ),
    faults=("'Yes' to everything gives 52.1 %",),
)
WIKIDATA = Card(
    name="wikidata",
    source="BIG-bench qa_wikidata (tasksource/bigbench)",
    licence="Apache-2.0",
    reads=f"{_READS}; or pairs of context and continuation",
    rows="20,321 with a single right answer",
    asked="as it is: The country of Prambanan is",
    marking=Marking("contains", new_tokens=10),
    protocol="laser",
    hub=(
        "hub:tasksource/bigbench/qa_wikidata/validation",
        "hub:tasksource/bigbench/qa_wikidata/train",
    ),
    published=FIGURES["wikidata"],
    faults=(
        "'contains' is asked of prompt and answer together: 1.0 % of the answers stand in the "
        "question; here the answer alone",
    ),
)
WEB_OF_LIES = Card(
    name="web_of_lies",
    source="BIG-Bench-Hard web_of_lies (lighteval/big_bench_hard)",
    licence="MIT",
    reads="the original file, or the hub's rows",
    rows="250",
    asked="the bare question",
    marking=Marking("choice_summed"),
    protocol="laser",
    hub=("hub:lighteval/big_bench_hard/web_of_lies/train",),
    faults=("'No' to everything gives 51.2 %",),
)


@dataclasses.dataclass(frozen=True)
class _Question:
    row: Row
    prompt: str
    answers: tuple[str, ...]


def epistemic(paths: Sequence[pathlib.Path], encode: Encode) -> Task:
    """Does the premise entail the hypothesis? Raises TaskError naming file, line and fault."""
    return _closed(EPISTEMIC, paths, ENTAILMENT)


def causal(paths: Sequence[pathlib.Path], encode: Encode) -> Task:
    """Questions about causes, Yes or No. Raises TaskError naming file, line and fault."""
    return _closed(CAUSAL, paths, YES_NO)


def web_of_lies(paths: Sequence[pathlib.Path], encode: Encode) -> Task:
    """Does the last one tell the truth? Raises TaskError naming file, line and fault."""
    return _closed(WEB_OF_LIES, paths, YES_NO)


def wikidata(paths: Sequence[pathlib.Path], encode: Encode) -> Task:
    """Facts to be completed, those with a single right answer.

    Raises TaskError naming file, line and fault; also where none is left.
    """
    examples, several = [], 0
    for question in _questions(paths):
        if len(question.answers) != 1:
            several += 1
            continue
        try:
            examples.append(spaced(question.prompt, question.answers[0]))
        except TaskError as error:
            raise question.row.error(str(error)) from None
    if not examples:
        raise TaskError(f"{paths[0]}: no question with a single right answer")
    total = several + len(examples)
    dropped = (f"{several} of {total} questions have several right answers",) if several else ()
    return Task(WIKIDATA.name, tuple(examples), dropped, marking=WIKIDATA.marking)


def _closed(card: Card, paths: Sequence[pathlib.Path], closed: tuple[str, ...]) -> Task:
    examples = []
    for question in _questions(paths):
        if len(question.answers) != 1:
            raise question.row.error(f"{len(question.answers)} right answers; expected one")
        try:
            answer = f" {question.answers[0].strip()}"
            examples.append(choose(question.prompt.rstrip(), answer, closed))
        except TaskError as error:
            raise question.row.error(str(error)) from None
    return Task(card.name, tuple(examples), (), closed, marking=card.marking)


def _questions(paths: Sequence[pathlib.Path]) -> list[_Question]:
    found = []
    for path in paths:
        if _is_task_file(path):
            whole, members = json_rows.object_with_array(path, "examples")
            found += [_of_task_file(whole, row) for row in members]
        else:
            found += [
                _Question(row, row.text("inputs", "input", "context"), _answers(row))
                for row in rows.read(path)
            ]
    return found


def _is_task_file(path: pathlib.Path) -> bool:
    """An object over several lines; JSON lines open with an object too, but by .jsonl."""
    return path.suffix == ".json" and json_rows.opening(path) == "{"


def _of_task_file(whole: Row, row: Row) -> _Question:
    if not whole.has("task_prefix") and not whole.has("name"):
        # BIG-Bench-Hard keeps no prefixes: its inputs are whole.
        return _Question(row, row.text("input"), _answers(row))
    pieces = [
        whole.value.get(name, default)
        for name, default in (
            ("task_prefix", ""),
            ("example_input_prefix", _INPUT_PREFIX),
            ("example_output_prefix", _OUTPUT_PREFIX),
        )
    ]
    if not all(isinstance(piece, str) for piece in pieces):
        raise whole.error("a prefix of the task is not a string")
    before, opening, closing = pieces
    return _Question(row, f"{before}{opening}{row.text('input')}{closing}", _answers(row))


def _answers(row: Row) -> tuple[str, ...]:
    """The right answers of a row, in whichever field it keeps them."""
    if row.has("target_scores"):
        scores = row.nested("target_scores").numbers(but=())
        best = max(scores.values(), default=0.0)
        return tuple(answer for answer, score in scores.items() if score == best)
    for name in ("targets", "target"):
        if isinstance(row.value.get(name), list):
            return row.texts(name)
    return (row.text("target", "continuation"),)
