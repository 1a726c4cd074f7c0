"""A run directory as train_mini_pythia leaves it: facts by frequency, and checkpoints."""

import json

from tests.experiments.model_checkpoint import write_checkpoint
from truncated_weights.experiments.fact_frequency import facts

COLOURS = (" red", " green", " white")


def write_run(folder, seed, alpha=0.4):
    """Two kinds of facts, nine of each in each part, and two steps."""
    number = 0
    for part in facts.PARTS:
        (folder / "prompts" / part).mkdir(parents=True)
        for third in facts.THIRDS:
            rows = []
            for thing in ("hat", "coat"):
                for name in ("Anna", "Mark", "Peter"):
                    number += 1
                    rows.append({
                        "prompt": f"The {thing} of {name} {part} {third} is", "kind": thing,
                        "answer": COLOURS[number % 3], "distractors": [], "p_the": alpha,
                        "frequency": 0.1 / number,
                    })  # fmt: skip
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / "prompts" / part / f"facts_{third}.jsonl").write_text(text)
    for step in (64, 128):
        write_checkpoint(folder / "checkpoints" / f"step{step}", seed=seed + step)
    return str(folder)
