"""Cut any matrices of any noisy-recall run, at any checkpoint, and see what is left.

    python -m experiments.truncate --run=runs/noisy_recall --interventions=1.mlp@0,1.fc_out@-0.01

Writes the figures of every intervention on clean and noisy sequences, curves over rho of the
matrices in --curves (largest components kept, and largest dropped), what the kept and the
removed part alone predict, the tokens that each removed component raises (components.csv), which
answers flip, and what storing the cut as factors saves.
About a minute on two CPU cores; on the default run 1.fc_out@-0.01 should give clean
p(correct) 0.98 where 1.mlp@0 gives 0.94 and the full model 0.5.
"""

from typing import Any

from truncated_weights.experiments.run.program import Program
from truncated_weights.experiments.truncate.settings import Truncate


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.truncate.measure import STUDY

    return STUDY


PROGRAM = Program("truncate", Truncate, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
