"""How answers, noise and spectra of a GPT-NeoX model develop over its training steps.

    python -m experiments.pythia_dynamics --checkpoints=DIR --task=indirect_object

DIR holds a checkpoint directory per training step, stepN/, as experiments.fetch_pythia and
experiments.train_mini_pythia write them. At each step: p(answer), p(" the"), the margin
between them and the logit difference to the best distractor, for the full model and after
each of --interventions, with 95 % intervals from resampling examples; and the singular
values of --spectra. A step that was measured is not measured again when an interrupted run
is continued. Some 10 s per step of Pythia-70m on two CPU cores.
"""

from experiments.pythia_dynamics.settings import PythiaDynamics
from experiments.run.program import Program

PROGRAM = Program("pythia_dynamics", PythiaDynamics, __doc__)

if __name__ == "__main__":
    PROGRAM.start()
