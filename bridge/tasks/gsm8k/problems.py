"""Problems of GSM8K with their worked solutions, and exemplars of a chain of thought.

{"question", "answer"}: the answer is lines of steps, with a calculator's notes in <<...>>,
and a last line "#### 1,080".
"""

import dataclasses
import pathlib
import re

from truncated_weights.bridge.tasks.example import TaskError
from truncated_weights.bridge.tasks.files import rows
from truncated_weights.bridge.tasks.files.json_rows import Row

_GOLD = re.compile(r"^#### (-?[\d.,]+)\s*$", re.MULTILINE)
_NOTES = re.compile(r"<<[^<>]*>>")
_CONCLUSION = re.compile(r"The answer is (-?[\d.,]*\d)\.$")


@dataclasses.dataclass(frozen=True)
class Problem:
    """A problem; written is the solution as published, gold the number it ends in."""

    question: str
    written: str
    gold: str

    @property
    def steps(self) -> str:
        """The solution without notes and last line, on one line."""
        text = _NOTES.sub("", _GOLD.sub("", self.written))
        return " ".join(text.split())


def read(path: pathlib.Path) -> list[Problem]:
    """The problems of a file; TaskError names file, line and fault."""
    return [_problem(row) for row in rows.read(path)]


def exemplars(path: pathlib.Path) -> list[tuple[str, str]]:
    """(question, "steps The answer is N.") of a file of worked examples, in its order.

    {"question", "target"}, the eight of arXiv 2201.11903 for instance. Raises TaskError
    naming file, line and fault, one that does not end in its conclusion included.
    """
    found = []
    for row in rows.read(path):
        question, target = row.text("question").strip(), row.text("target", "answer").strip()
        if not _CONCLUSION.search(target):
            raise row.error(f"{target[-30:]!r} does not end in 'The answer is N.'")
        found.append((question, target))
    return found


def _problem(row: Row) -> Problem:
    question, answer = row.text("question").strip(), row.text("answer")
    ends = _GOLD.findall(answer)
    if len(ends) != 1:
        raise row.error(f"'answer' has {len(ends)} lines '#### NUMBER'; expected one")
    return Problem(question, answer.strip(), ends[0])


def require(condition: bool, problem: str) -> None:
    """Raise TaskError with the problem unless the condition holds."""
    if not condition:
        raise TaskError(problem)
