r"""How much of noisy recall a Transformer learns with the kernel it starts with.

    python -m experiments.linearised
    python -m experiments.linearised --variants=full,linear:values,free:values --steps=300
    python -m experiments.linearised --widths=32,64,128 --learning_rates=0.01,0.03,0.1 \
        --steps=300 --num_seeds=4

Trains the same network on the same data in full and made linear in its weights around the start,
wholly or in some of its matrices, beside the noise predicted without training. The first takes
some minutes on two free CPU cores: p(noise) goes about .04, .12, .40, .74 in the first four steps
of both, p(correct) reaches .48 by step 200 in full and .04 in the linear model. The last takes
most of an hour, most of it at d = 128, and draws one page (overview): both learn the noise alike
until it overshoots; recall comes in full and hardly in the linear model, which
learns more of it the wider it is and the larger the rate.
"""

from typing import Any

from truncated_weights.experiments.linearised.settings import Linearised
from truncated_weights.experiments.run.program import Program


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.linearised.measure import STUDY

    return STUDY


PROGRAM = Program("linearised", Linearised, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
