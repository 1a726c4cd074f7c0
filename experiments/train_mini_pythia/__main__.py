"""Train a small GPT-NeoX on generated English in which the noise is planted.

    python -m experiments.train_mini_pythia --flagfile=experiments/train_mini_pythia/tiny.flags

The preset takes about five minutes on two CPU cores and should end near, on stories of pairs
never seen together: p(" the") 0.41 (Bayes-optimal 0.4), p(right name) 0.57 (0.6), p(giver)
0.01, half of the final value reached at steps 22 and 430. Three seeds: " the" 0.416, 0.397,
0.406; name 0.563, 0.589, 0.570.

Which is learned first at "Omar gave a basket to": the noise " the", right with probability
alpha whatever came before, or the name, which has to be found in the story? Every checkpoint
is written in the layout of Pythia (checkpoints/stepN/: config.json, model.safetensors,
tokenizer.json), so whatever reads Pythia reads this, and the prompts in prompts/ come with
the probabilities a Bayes-optimal reader would give.
"""

from typing import Any

from truncated_weights.experiments.run.program import Program
from truncated_weights.experiments.train_mini_pythia.settings import MiniPythia


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.train_mini_pythia.measure import STORIES

    return STORIES


PROGRAM = Program("train_mini_pythia", MiniPythia, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
