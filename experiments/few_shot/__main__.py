"""Does a cut help few-shot reasoning? Word problems by number of shots, full against cut.

    python -m experiments.few_shot --model=DIR --problems=gsm8k/test.jsonl \
        --exemplars=cot.jsonl --shots=0,1,2,4,8 --interventions=31.fc_in@0.1

Every problem stands after the same worked examples (--style=thought, the first n of a file of
{"question", "target"}) or training rows (--style=plain); answers are generated greedily and
marked by the number they end in, with both published matches of texts beside it, and the loss
of the published solution, which still moves where accuracy is at its floor. Changes to the full
model come with 95 % intervals from resampling problems. The first paper (arXiv 2406.03068)
tells of gains at 1 and 2 shots and losses at 8, second-hand +1.5 to 3.1 points and 42.6 -> 36.8.

Writes generations.jsonl for reading, answers.csv, and a figure. Long: an 8-shot prompt has 630
to 790 tokens and an answer up to 256, for each of 1,319 problems; progress tells the time left,
and an interrupted run continues after its last batch.
"""

from typing import Any

from truncated_weights.experiments.few_shot.settings import FewShot
from truncated_weights.experiments.run.program import Program


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.few_shot.measure import STUDY

    return STUDY


PROGRAM = Program("few_shot", FewShot, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
