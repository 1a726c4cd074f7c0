"""What the program that shows tasks may be told."""

import dataclasses

from truncated_weights.training.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class ShowTasks(Settings):
    """Which tasks to show, and how much of each."""

    tasks: tuple[str, ...] = setting((), "Tasks to read, NAME:FILE; none: tell what all are.")
    tokenizer: str = setting("", "tokenizer.json, or its directory; empty: words as tokens.")
    protocol: str = setting("honest", "Which split to show.", choices=("honest", "published"))
    counts: str = setting("", "File of how often facts are told, joined to the tasks.")
    shown: int = setting(2, "Prompts to print of each task.", lower=0)
    num_examples: int = setting(0, "Examples at most; 0: all, or 256 drawn.", lower=0)
    add_space: bool = setting(True, "Put a missing space before answers read from a file.")
    validation: float = setting(
        0.0, "Share for choosing; 0: that of the protocol.", lower=0.0, upper=0.999
    )
    seed: int = setting(0, "Of drawn examples and of splits.", lower=0)
