r"""How a two-layer Transformer learns noisy in-context recall, and what truncation removes.

    python -m experiments.noisy_recall
    python -m experiments.noisy_recall --text=FILE \
        --flagfile=experiments/noisy_recall/published.flags

Defaults take about a minute on two CPU cores and should end near: full model p(noise) 0.47 on
clean sequences; second feed-forward removed (1.mlp@0) p(correct) 0.92, p(noise) 0.004; its
input matrix at a tenth of its rank (1.fc_in@0.1) p(correct) 0.88; attention on correct tokens
0.94 and on noise tokens below 0.01.
"""

from typing import Any

from truncated_weights.experiments.run.program import Program
from truncated_weights.toy.settings import NoisyRecall


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.noisy_recall.measure import STUDY

    return STUDY


PROGRAM = Program("noisy_recall", NoisyRecall, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
