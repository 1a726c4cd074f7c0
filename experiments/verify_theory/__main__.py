"""Every prediction of theory/ against simulation, in one table with standard errors.

    python -m experiments.verify_theory --quick
    python -m experiments.verify_theory

The first takes under two minutes on two CPU cores, the second perhaps ten. Both print a table of
more than three hundred rows (prediction, measurement, standard error, tolerance, difference, what
is allowed) and should end with "0 failed"; any failed row makes the exit code 1.
Simulations use toy/ and automatic differentiation and ask theory/ for nothing: a family is
simulated first and judged afterwards. How many wrong formulas the table notices is measured by
`python -m tests.mutation.table`.
"""

from typing import Any

from truncated_weights.experiments.run.program import Program
from truncated_weights.experiments.verify_theory.settings import VerifyTheory


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.verify_theory.measure import STUDY

    return STUDY


PROGRAM = Program("verify_theory", VerifyTheory, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
