r"""How the law of noisy recall depends on its numbers: many runs, each shape compiled once.

    python -m experiments.sweep --alpha=0.1,0.3,0.5 --num_tokens=16,32,64 --num_seeds=4
    python -m experiments.sweep --d_model=32,64,128 --learning_rate=0.06,0.03,0.015 \
        --zip=d_model+learning_rate

Every number of a run takes several values; runs are their product over all axes, times seeds,
unless --zip lets axes go together. sweep.csv has one row per run. The defaults (three alpha, two
seeds) take about a minute and a half on two CPU cores.
"""

from typing import Any

from truncated_weights.experiments.run.program import Program
from truncated_weights.experiments.sweep.settings import SETTINGS


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.sweep.measure import STUDY

    return STUDY


PROGRAM = Program("sweep", SETTINGS, __doc__, study, processes=True)

if __name__ == "__main__":
    PROGRAM.start()
