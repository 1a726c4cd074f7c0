"""What a training step costs, and where the time goes; everything in one run, as ratios.

    python -m experiments.benchmark
    python -m experiments.benchmark --length=256 --d_model=256 --batch_size=64 --probe_batch=512
    python -m experiments.benchmark --plan=h200 --preset=published

Measures, side by side and in turns: the plain formulation of the model (every position, every
matrix by itself) and ours, step by step and record by record (the full model and 15 truncations,
with noise and without), both at the published cadence of a record every 5 steps, the machine's
matrix-product rate, drawing the data, and how a step grows with length, width, batch and seeds.
About five minutes on two CPU cores, two of them a plain record; --quick: a check that all of it
runs. Expect, at the default shapes, a step 1.9 times, a record 18 times and a record with the 5
steps before it 12 times (batch 64) and 5.6 times (batch 512) faster than plain.

--plan compiles a step, a record and the evaluation of a preset at full size, runs none of them,
and tells the memory and the operations that the compiled programs ask for, and how long an
accelerator would need at least.
"""

from typing import Any

from truncated_weights.experiments.benchmark.settings import Benchmark
from truncated_weights.experiments.run.program import Program


def study() -> Any:
    """Imported when there is work to do, so that --help answers at once."""
    from truncated_weights.experiments.benchmark.measure import STUDY

    return STUDY


PROGRAM = Program("benchmark", Benchmark, __doc__, study)

if __name__ == "__main__":
    PROGRAM.start()
