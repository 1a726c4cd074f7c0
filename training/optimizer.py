"""Optimisers and learning-rate schedules, by name."""

import dataclasses
from typing import Literal

import optax

OptimizerName = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["constant", "cosine", "linear"]


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """sgd and adam add weight_decay times the weight to the gradient, as the reference run does.

    adamw decays the weight itself instead. A schedule falls from learning_rate to zero over
    `steps`, after `warmup` steps that rise from zero.
    """

    name: OptimizerName = "sgd"
    learning_rate: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: ScheduleName = "constant"
    warmup: int = 0
    steps: int = 1

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}, it must be positive")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}, it must lie in [0, 1)")
        if self.weight_decay < 0 or self.warmup < 0:
            raise ValueError("weight_decay and warmup must not be negative")
        if self.warmup >= self.steps and self.warmup > 0:
            raise ValueError(f"warmup is {self.warmup}, it must be below the {self.steps} steps")


def build(config: OptimizerConfig) -> optax.GradientTransformation:
    """The optax transformation."""
    rate = _schedule(config)
    if config.name == "adamw":
        return optax.adamw(rate, b1=config.momentum, weight_decay=config.weight_decay)
    descent = (
        optax.adam(rate, b1=config.momentum)
        if config.name == "adam"
        else optax.sgd(rate, momentum=config.momentum or None)
    )
    if config.weight_decay == 0:
        return descent
    return optax.chain(optax.add_decayed_weights(config.weight_decay), descent)


def _schedule(config: OptimizerConfig) -> optax.ScalarOrSchedule:
    after = max(config.steps - config.warmup, 1)
    if config.schedule == "constant" and config.warmup == 0:
        return config.learning_rate
    falling = {
        "constant": optax.constant_schedule(config.learning_rate),
        "cosine": optax.cosine_decay_schedule(config.learning_rate, after),
        "linear": optax.linear_schedule(config.learning_rate, 0.0, after),
    }[config.schedule]
    rising = optax.linear_schedule(0.0, config.learning_rate, config.warmup)
    return optax.join_schedules([rising, falling], [config.warmup]) if config.warmup else falling
