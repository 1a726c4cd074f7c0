"""Which facts does a cut correct, by how often the text states them, and does theory say so?

    python -m experiments.fact_frequency --runs=runs/seed0,runs/seed1,runs/seed2

RUNS are directories of train_mini_pythia that differ in the seed alone. At each step the best
cut is chosen on one half of the facts, by the loss; of the other half p(" the"), p(answer) and
accuracy are told before and after it, by frequency, beside the associative memory with the same
frequencies and the same alpha (theory/frequent_memory: every fact an answer of its own;
theory/text/shared_answers: the answers of the text). Its overlap r and its clock are fitted to the
uncut model on the facts for choosing; what it says of cuts is not fitted. Predicted and measured
gains are compared by rank correlation over facts, with bootstrap intervals, for every run and
over all. About half a minute of processor time per checkpoint, and two minutes for the memories.
"""

from typing import Any

from truncated_weights.experiments.fact_frequency.settings import FactFrequency
from truncated_weights.experiments.run.program import Program


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.fact_frequency.measure import STUDY

    return STUDY


PROGRAM = Program("fact_frequency", FactFrequency, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
