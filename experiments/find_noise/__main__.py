"""Who finds the noise? Every rule for choosing what to truncate, judged where the truth is known.

    python -m experiments.noisy_recall
    python -m experiments.find_noise --run=runs/noisy_recall

Each rule sees clean validation sequences alone; its choice is then measured once on test
sequences. About four minutes on two CPU cores for one seed. On the default run the grid finds
1.fc_out@-0.01 (the top singular component of the last feed-forward's output matrix IS the
noise) and reaches p(correct) 0.98.
"""

from typing import Any

from truncated_weights.experiments.find_noise.settings import FindNoise
from truncated_weights.experiments.run.program import Program


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.find_noise.measure import STUDY

    return STUDY


PROGRAM = Program("find_noise", FindNoise, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
