"""Tasks: prompts with answers and distractors, our own and readers for the users' files."""

from bridge.tasks.example import Encode, Example, Task, TaskError, spaced
from bridge.tasks.registry import NAMES, READERS, load

__all__ = ["NAMES", "READERS", "Encode", "Example", "Task", "TaskError", "load", "spaced"]
