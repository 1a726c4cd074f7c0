"""The settings of the benchmark; Benchmark() is what the notes quote."""

import dataclasses

from truncated_weights.training.settings import Settings, setting

# What --quick measures instead: a check that all of it runs.
QUICK = {"length": 64, "d_model": 64, "batch_size": 16, "probe_batch": 32}


@dataclasses.dataclass(frozen=True)
class Benchmark(Settings):
    """Shapes and repetitions."""

    length: int = setting(256, "Tokens in a sequence.", lower=8, upper=65_536)
    d_model: int = setting(256, "Width.", lower=8, upper=65_536)
    batch_size: int = setting(64, "Sequences per step.", lower=1, upper=10**7)
    probe_batch: int = setting(
        512, "Sequences of a record, and of the larger steps.", lower=1, upper=10**7
    )
    rounds: int = setting(3, "Times everything is measured; medians are told.", lower=1, upper=1000)
    plan: str = setting(
        "", "Count memory and operations of --plan_preset for one of these; run nothing.",
        choices=("", "h200", "h100", "a100"),
    )  # fmt: skip
    plan_preset: str = setting(
        "published", "Flag file of experiments.noisy_recall that --plan reads.",
        choices=("published", "published_small", "small", "demo"),
    )  # fmt: skip
    quick: bool = setting(False, "Small shapes and no growth: a check that all of it runs.")
    matmul_precision: str = setting(
        "highest", "On accelerators.", choices=("highest", "high", "default")
    )
