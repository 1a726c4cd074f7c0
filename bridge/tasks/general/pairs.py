"""Prompt and continuation, one pair per line, as in-context-learning suites store BIG-bench.

{"context": "The country of Prambanan is", "continuation": "Indonesia"}

"prompt" and "input" are read for "context"; "answer" and "target" for "continuation". Some
suites strip the space in front of the continuation, others mean "17*94=" to be followed by
"1598" directly: add_space decides.
"""

import os
import pathlib

from truncated_weights.bridge.tasks.example import Example, TaskError, spaced
from truncated_weights.bridge.tasks.files import json_rows


def read(path: str | os.PathLike[str], *, add_space: bool = True) -> list[Example]:
    """The pairs of a JSON-lines file; no distractors.

    add_space puts a space between prompt and continuation where neither has one. Raises
    TaskError naming file, line and fault.
    """
    examples = []
    for row in json_rows.lines(pathlib.Path(path)):
        prompt = row.text("context", "prompt", "input")
        answer = row.text("continuation", "answer", "target")
        try:
            examples.append(spaced(prompt, answer, add_space=add_space))
        except TaskError as error:
            raise row.error(str(error)) from None
    return examples
