"""The plainest file of examples: {"prompt", "answer", "distractors"}, one object per line.

"distractors" may be absent. "kind" or "group" says what the example is an instance of; any
other number ("frequency", "p_the") is kept as a covariate, any other field ignored.
"""

import os
import pathlib

from truncated_weights.bridge.tasks.example import Example, TaskError, spaced
from truncated_weights.bridge.tasks.files import json_rows


def read(path: str | os.PathLike[str], *, add_space: bool = True) -> list[Example]:
    """The examples of a JSON-lines file.

    add_space puts a space between prompt and answer where neither has one. Raises TaskError
    naming file, line and fault.
    """
    examples = []
    for row in json_rows.lines(pathlib.Path(path)):
        prompt, answer = row.text("prompt"), row.text("answer")
        group = next((row.text(name) for name in ("kind", "group") if row.has(name)), "")
        try:
            example = spaced(
                prompt,
                answer,
                row.texts("distractors"),
                add_space=add_space,
                group=group,
                covariates=row.numbers(but=()),
            )
        except TaskError as error:
            raise row.error(str(error)) from None
        examples.append(example)
    return examples
