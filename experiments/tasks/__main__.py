"""What a language task asks, how its answers are marked, and what guessing would score.

    python -m experiments.tasks
    python -m experiments.tasks --tasks=fever:paper_dev.jsonl --tokenizer=DIR

Without --tasks it tells of every task its source, licence, rows, prompt, marking, published
figures and their faults, and its options. With --tasks=NAME:FILE it reads the files as the
other programs will and shows what was left out and why, the first prompts with their answers,
their lengths in tokens, the best constant answer, and how the split of the protocol divides
them: all to be looked at before a model runs. Seconds for most files; writes the same as
tables into the run directory.
"""

from typing import Any

from truncated_weights.experiments.run.program import Program
from truncated_weights.experiments.tasks.settings import ShowTasks


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.tasks.measure import STUDY

    return STUDY


PROGRAM = Program("tasks", ShowTasks, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
