"""How answers, noise and spectra of a language model develop over its training steps.

    python -m experiments.model_dynamics --checkpoints=DIR --task=indirect_object

DIR holds a checkpoint directory per training step, stepN/, as experiments.fetch_model and
experiments.train_mini_pythia write them. At each step: p(answer), p(" the"),
p(best distractor) (in stories the giver, S), margins between them, for the full model and after
each of --interventions, with 95 % intervals from resampling examples; and the singular
values of --spectra. A step that was measured is not measured again when an interrupted run
is continued. Some 10 s per step of Pythia-70m on two CPU cores.
"""

from typing import Any

from truncated_weights.experiments.model_dynamics.settings import ModelDynamics
from truncated_weights.experiments.run.program import Program


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.model_dynamics.measure import STUDY

    return STUDY


PROGRAM = Program("model_dynamics", ModelDynamics, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
