"""A linear associative memory with noise: what it learns, and what truncation does, over time.

    python -m experiments.associative_memory --num_inputs=2
    python -m experiments.associative_memory --num_inputs=4 --time=10000
    python -m experiments.associative_memory --num_inputs=64 --frequencies=zipf --shared=0.5 \
        --time=1000 --step_size=1

The first (the default, 15 s on two CPU cores) ends with p(noise) = alpha = 0.3 in the full
memory and 0.04 in its rank-one truncation at t = 1,000. The second shows the spectral crossing
at t = 233, after which the noise is the largest component and truncation must drop the top. In
the third inputs overlap and come with Zipf frequencies: 18 of 64 facts are right at t = 1,000 and
33 after the top component is dropped; the difference are those just too rare for the full memory.
"""

from typing import Any

from truncated_weights.experiments.associative_memory.settings import Memory
from truncated_weights.experiments.run.program import Program


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.associative_memory.measure import STUDY

    return STUDY


PROGRAM = Program("associative_memory", Memory, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
