"""Tasks: prompts with answers and distractors, our own and the papers', and how to mark them."""

from truncated_weights.bridge.tasks.card import Card
from truncated_weights.bridge.tasks.example import Encode, Example, Marking, Task, TaskError, spaced
from truncated_weights.bridge.tasks.registry import NAMES, PUBLISHED, READERS, card_of, files, load

__all__ = [
    "NAMES",
    "PUBLISHED",
    "READERS",
    "Card",
    "Encode",
    "Example",
    "Marking",
    "Task",
    "TaskError",
    "card_of",
    "files",
    "load",
    "spaced",
]
