"""Which end of the spectrum of an associative memory holds the noise, over (N, alpha) and time.

    python -m experiments.phase_diagram
    python -m experiments.phase_diagram --max_inputs=100 --times=1,10,1e3,1e6

The first takes about a minute on two CPU cores and should end with "0 of 96 points disagree":
the map is predicted by theory/, the points are memories trained by gradient descent. Where the
map is positive the noise is the largest component and truncation must drop the top to remove it.
"""

from typing import Any

from truncated_weights.experiments.phase_diagram.settings import PhaseDiagram
from truncated_weights.experiments.run.program import Program


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.phase_diagram.measure import STUDY

    return STUDY


PROGRAM = Program("phase_diagram", PhaseDiagram, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
