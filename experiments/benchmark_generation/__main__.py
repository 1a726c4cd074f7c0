"""Tokens per second of generation: keys and values kept, against a whole forward per token.

    python -m experiments.benchmark_generation
    python -m experiments.benchmark_generation --new_tokens=256 --d_model=1024
    python -m experiments.benchmark_generation --length=704 --shared=602 --whole=false

Random weights of a Llama's shape (grouped heads, a gate), random prompts, greedy tokens. Three
ways: one whole forward pass for every token, keys and values kept, and the same with every
feed-forward matrix in factors of a share of its rank. With --shared a fourth: prompts that begin
alike, the beginning run once. All are timed once compiled, taking
turns. The first two must choose the same tokens, or the run fails; ratios of one run can be
compared, seconds of two cannot. About a minute on two CPU cores.
"""

from typing import Any

from truncated_weights.experiments.benchmark_generation.settings import BenchmarkGeneration
from truncated_weights.experiments.run.program import Program


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.benchmark_generation.measure import STUDY

    return STUDY


PROGRAM = Program("benchmark_generation", BenchmarkGeneration, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
