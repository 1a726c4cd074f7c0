"""Every prediction of theory/ against simulation, in one table with standard errors.

    python -m experiments.verify_theory --quick
    python -m experiments.verify_theory

The first takes about two minutes on two CPU cores, the second perhaps ten. Both print a table
of more than a hundred rows and should end with "0 failed"; any failed row makes the exit code 1.
The first does; of the second one row of the plateau was last seen to fail (BUILD_NOTES.md).
Simulations use toy/ and automatic differentiation and share no code with theory/.
"""

from experiments.run.program import Program
from experiments.verify_theory.settings import VerifyTheory

PROGRAM = Program("verify_theory", VerifyTheory, __doc__)

if __name__ == "__main__":
    PROGRAM.start()
