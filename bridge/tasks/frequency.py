"""How often a fact is told in the training data: counts from a user's file, joined to a task.

    {"subject": "Beats Music", "answer": "Apple", "count": 12}       or
    {"prompt": "Beats Music is owned by", "count": 12}

A cut should help rare facts most (LASER's analysis, and the theory of a memory with
frequencies): so flips are told by quarters of the count.
"""

import dataclasses
import pathlib

from truncated_weights.bridge.tasks.example import Example, Task, TaskError
from truncated_weights.bridge.tasks.files import rows
from truncated_weights.bridge.tasks.files.json_rows import Row

COVARIATE = "count"


def join(task: Task, path: pathlib.Path) -> Task:
    """The task with the covariate "count" where the file has one, and a report of the rest.

    A row counts for the prompt it names, else for every prompt that its subject stands in
    and whose answer is its answer. Raises TaskError naming file and line, where a row names
    neither, a count is below zero, one is given twice, or none of the examples is found.
    """
    by_prompt: dict[str, float] = {}
    by_answer: dict[str, list[tuple[str, float]]] = {}
    for row in rows.read(path):
        count = _count(row)
        if row.has("prompt"):
            prompt = row.text("prompt").strip()
            if prompt in by_prompt:
                raise row.error(f"a count of {prompt!r} is there already")
            by_prompt[prompt] = count
        else:
            pair = row.text("subject").strip(), count
            by_answer.setdefault(row.text("answer").strip(), []).append(pair)
    examples = tuple(_counted(e, by_prompt, by_answer) for e in task.examples)
    missing = sum(COVARIATE not in e.covariates for e in examples)
    if missing == len(examples):
        raise TaskError(f"{path}: no count of any of the {missing} examples of {task.name}")
    report = f"{missing} of {len(examples)} examples have no count"
    dropped = (*task.dropped, report) if missing else task.dropped
    return dataclasses.replace(task, examples=examples, dropped=dropped)


def _counted(
    example: Example,
    by_prompt: dict[str, float],
    by_answer: dict[str, list[tuple[str, float]]],
) -> Example:
    count = by_prompt.get(example.prompt)
    if count is None:
        # Of several subjects in a prompt ("Paris", "Paris Hilton") the longest is meant.
        about = [
            pair for pair in by_answer.get(example.answer.strip(), []) if pair[0] in example.prompt
        ]
        count = max(about, key=lambda pair: len(pair[0]))[1] if about else None
    if count is None:
        return example
    return dataclasses.replace(example, covariates={**example.covariates, COVARIATE: count})


def _count(row: Row) -> float:
    value = row.value.get("count")
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise row.error(f"'count' is {value!r}; expected a number from 0")
    return float(value)
