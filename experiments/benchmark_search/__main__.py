r"""What a search saves against one full forward per candidate.

    python -m experiments.benchmark_search
    python -m experiments.benchmark_search --shape=llama-70m --matrices=fc_gate,fc_in,fc_out \
        --prompts=facts
    python -m experiments.benchmark_search --flagfile=experiments/benchmark_search/laser.flags

Random weights of Pythia-70m's shape, 64 prompts of 16 random tokens, every layer's fc_in and
fc_out at 7 rho. The baseline edits the parameters and computes the logits of all positions for
each candidate, all prompts together or one by one as the public loops do; both sides share the
decompositions, take turns and are timed once compiled. --prompts=facts have several lengths and
shared beginnings: the search runs what is shared once and padding not at all, the baseline runs
the padded rectangle, or one by one no padding. Expect a ratio of 5 and losses equal within 1e-5
nats in float32. About three minutes on two CPU cores, most of it the baseline; ratios of one run
can be compared, seconds of two cannot. Compiling costs the same however many candidates and
layers there are.
"""

from typing import Any

from truncated_weights.experiments.benchmark_search.settings import BenchmarkSearch
from truncated_weights.experiments.run.program import Program


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.benchmark_search.measure import STUDY

    return STUDY


PROGRAM = Program("benchmark_search", BenchmarkSearch, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
