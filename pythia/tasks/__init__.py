"""Tasks: prompts with answers and distractors, our own and readers for the users' files."""

from pythia.tasks.example import Encode, Example, Task, TaskError, spaced
from pythia.tasks.registry import NAMES, READERS, load

__all__ = ["NAMES", "READERS", "Encode", "Example", "Task", "TaskError", "load", "spaced"]
