"""The settings of the comparison; Linearised() is the default run."""

import dataclasses

from truncated_weights.training.settings import Settings, setting

PARTS = ("ff1", "ff2", "attention", "values")
# linear:PART makes that part linear and no other; free:PART makes every other part linear.
VARIANTS = (
    "full",
    "linearised",
    *(f"linear:{part}" for part in PARTS),
    *(f"free:{part}" for part in PARTS),
)


@dataclasses.dataclass(frozen=True)
class Linearised(Settings):
    """Task, networks, training. Every width runs with every learning rate and every variant."""

    variants: tuple[str, ...] = setting(
        ("full", "linearised"), "Which matrices are linear.", choices=VARIANTS, required=True
    )
    widths: tuple[int, ...] = setting((64,), "Widths.", lower=2, upper=4096, required=True)
    learning_rates: tuple[float, ...] = setting(
        (0.03,), "Learning rates.", lower=1e-6, upper=100.0, required=True
    )
    num_tokens: int = setting(32, "Ordinary tokens, Zipf.", lower=3, upper=10_000)
    alpha: float = setting(0.5, "Probability of noise.", lower=0.01, upper=0.99)
    length: int = setting(64, "Tokens in a sequence.", lower=4, upper=65_536)
    steps: int = setting(600, "Optimiser steps.", lower=1, upper=10**6)
    batch_size: int = setting(64, "Sequences per step.", lower=1, upper=10**6)
    momentum: float = setting(0.9, "Momentum.", lower=0.0, upper=0.999)
    eval_batch: int = setting(128, "Clean sequences per record.", lower=1, upper=10**6)
    eval_every: int = setting(
        50, "Steps between later records, beside 1, 2, 4, ...", lower=1, upper=10**6
    )
    every_step_until: int = setting(
        64, "Every step up to this one is recorded.", lower=0, upper=10**6
    )
    seed: int = setting(0, "First seed.", lower=0, upper=2**31)
    num_seeds: int = setting(2, "Seeds trained side by side.", lower=1, upper=65_536)
