"""Why p(noise) wanders once it has reached alpha: predicted and measured, with the sharpness.

    python -m experiments.plateau
    python -m experiments.plateau --learning_rates=0.03 --batch_sizes=32 --momenta=0.9 --num_seeds=8

Trains a small Transformer at every learning rate, batch and momentum, then watches p(noise) step
by step twice from the same weights: labels drawn as ever, and labels replaced by their law. Beside
it stands what theory/plateau.py says of the measured curvature: deviation, autocorrelation, the
lag at which it first dips, and the edge of stability.
"""

from typing import Any

from truncated_weights.experiments.plateau.settings import Plateau
from truncated_weights.experiments.run.program import Program


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.plateau.measure import STUDY

    return STUDY


PROGRAM = Program("plateau", Plateau, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
