"""Which claims of the papers hold here? Every one predicted, published, measured, on one page.

    python -m experiments.report --quick --out=report
    python -m experiments.report --from=report --out=redrawn
    python -m experiments.report --out=report_full --models=pythia-410m,gpt-j-6b

The first runs what is missing below report/runs, under twenty minutes on two CPU cores, and
writes report/index.html, one file that opens without a network. The second draws the page anew
from runs that exist. The third runs what the claims deserve, the published task on a text of
yours and language models from their directories; it says beforehand how long. A claim that fails
makes the exit code 1. Finished runs are kept: the same command with --overwrite goes on.
"""

from truncated_weights.experiments.report.settings import Report
from truncated_weights.experiments.run.program import Program

PROGRAM = Program("report", Report, __doc__)

if __name__ == "__main__":
    PROGRAM.start()
