"""HotpotQA without its passages: questions over two facts, answered from memory.

{"question": "Were Scott Derrickson and Ed Wood of the same nationality?", "answer": "yes"}
"""

import pathlib
from collections.abc import Sequence

from truncated_weights.bridge.tasks.card import Card
from truncated_weights.bridge.tasks.example import Encode, Marking, Task, TaskError, spaced
from truncated_weights.bridge.tasks.files import rows
from truncated_weights.bridge.tasks.files.json_rows import Row
from truncated_weights.bridge.tasks.laser.prompts import stopped
from truncated_weights.bridge.tasks.laser.table import FIGURES

CARD = Card(
    name="hotpotqa",
    source="hotpot_qa, fullwiki, the first rows of train and then validation",
    licence="CC BY-SA 4.0",
    reads="train and validation, or one of them: an array, JSON lines or Parquet",
    rows="14,618: of the first 7,405 of train and 7,405 of validation those with short answers",
    asked="{question} The answer is",
    marking=Marking("contains", new_tokens=15),
    protocol="laser",
    hub=("hub:hotpotqa/hotpot_qa/fullwiki/train", "hub:hotpotqa/hotpot_qa/fullwiki/validation"),
    published=FIGURES["hotpotqa"],
    faults=(
        "'contains' is asked of prompt and answer together: 9.9 % of the validation answers "
        "stand in the question and count as right whatever is said; here the answer alone",
        "answers are measured by Llama-2's tokenizer, here by the model's own",
    ),
)


def prompt_of(question: str) -> str:
    """A question mark is added after a question that ends in neither ? nor full stop."""
    return f"{stopped(question, '?.', '?')} The answer is"


def read(paths: Sequence[pathlib.Path], encode: Encode, *, max_answer_tokens: int = 15) -> Task:
    """The questions with short answers: of all files but the last as many rows as the last has.

    A limit of 15 tokens counts the one that begins a text, as the published code does: 14 of
    the answer. Raises TaskError naming file, line and fault; also where none is left.
    """
    found = [rows.read(path) for path in paths]
    asked: list[Row] = [row for part in found for row in part[: len(found[-1])]]
    examples = []
    for row in asked:
        question, answer = row.text("question"), row.text("answer").strip()
        if 1 + len(encode(f" {answer}")) > max_answer_tokens:
            continue
        try:
            examples.append(spaced(prompt_of(question), answer))
        except TaskError as error:
            raise row.error(str(error)) from None
    if not examples:
        raise TaskError(f"{paths[0]}: no answer of at most {max_answer_tokens} tokens")
    long = len(asked) - len(examples)
    dropped = f"{long} of {len(asked)} answers exceed {max_answer_tokens} tokens with the first"
    return Task(CARD.name, tuple(examples), (dropped,) if long else (), marking=CARD.marking)
