"""Cut the matrices of a language model, or search for the cut, and measure on tasks.

    python -m experiments.truncate_model --model=DIR --interventions=5.mlp@0,5.fc_in@0.1
    python -m experiments.truncate_model --model=DIR --tasks=jsonl:FILE --search=grid
    python -m experiments.truncate_model --model=DIR --search=grid --plan=h200

The last prints what the search would take there, from counted operations and bytes; DIR needs
config.json and tokenizer.json alone for that.

Candidates are compared on validation examples; the test examples see the choice once (with
--interventions, all of them). Every figure comes with its change to the full model and a 95 %
interval from resampling examples. Writes TASK_candidates.csv and .jsonl, TASK_parts.csv (what
the kept and the removed components answer alone), TASK_components.csv (the tokens that each
removed component of fc_out, out_proj or ov raises), TASK_predictions.csv (what is said after
each prompt before and after), TASK_flips.csv, heatmaps and before/after distributions. On
Pythia-70m with 64 prompts a grid of 84 candidates takes about a minute on two CPU cores.
"""

from typing import Any

from truncated_weights.experiments.run.program import Program
from truncated_weights.experiments.truncate_model.settings import TruncateModel


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.truncate_model.measure import STUDY

    return STUDY


PROGRAM = Program("truncate_model", TruncateModel, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
