"""Optimisers and learning-rate schedules, by name."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
import optax.contrib

OptimizerName = Literal["sgd", "adam", "adamw", "muon"]
ScheduleName = Literal["constant", "cosine", "linear"]


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """sgd and adam add weight_decay times the weight to the gradient, as the reference run does.

    adamw and muon decay the weight itself instead. momentum is Adam's b1 and Muon's beta too, b2
    is Adam's alone. muon (Jordan et al., 2024; optax.contrib) turns the momentum of every matrix
    into its nearest orthogonal one, so that all singular directions learn at one pace; what is no
    matrix is left to adamw. A
    schedule falls from learning_rate to zero over `steps`, after `warmup` steps from zero.
    """

    name: OptimizerName = "sgd"
    learning_rate: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: ScheduleName = "constant"
    warmup: int = 0
    steps: int = 1
    b2: float = 0.999

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}, it must be positive")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}, it must lie in [0, 1)")
        if not 0 <= self.b2 < 1:
            raise ValueError(f"b2 is {self.b2}, it must lie in [0, 1)")
        if self.weight_decay < 0 or self.warmup < 0:
            raise ValueError("weight_decay and warmup must not be negative")
        if self.warmup >= self.steps and self.warmup > 0:
            raise ValueError(f"warmup is {self.warmup}, it must be below the {self.steps} steps")


# What may differ between runs side by side: traced where values has it, else a constant.
TRACED = ("learning_rate", "momentum", "weight_decay", "b2")


def build(
    config: OptimizerConfig, values: Mapping[str, Any] | None = None
) -> optax.GradientTransformation:
    """The optax transformation; values may hold any of TRACED, in place of the config's own.

    functools.partial(build, config) is the optimiser of a Trainer whose runs differ in them.
    """
    values = values or {}
    rate, momentum, decay, b2 = (values.get(name, getattr(config, name)) for name in TRACED)
    schedule = _schedule(config, rate)
    if config.name == "adamw":
        return optax.adamw(schedule, b1=momentum, b2=b2, weight_decay=decay)
    if config.name == "muon":
        return optax.contrib.muon(
            schedule, beta=momentum, weight_decay=decay, adam_b1=momentum, adam_b2=b2
        )
    if config.name == "adam":
        descent = optax.adam(schedule, b1=momentum, b2=b2)
    else:
        constant_zero = "momentum" not in values and momentum == 0
        descent = optax.sgd(schedule, momentum=None if constant_zero else momentum)
    if "weight_decay" not in values and decay == 0:
        return descent
    return optax.chain(optax.add_decayed_weights(decay), descent)


def unfreezing(
    descent: optax.GradientTransformation, first: Callable[[Any], Any]
) -> optax.GradientTransformation:
    """The same descent, in which each weight stays until its step and then begins afresh.

    first: (params) -> tree of the same form with the step of each weight, 0 for those that learn
    from the beginning. As where a weight is left out of the optimiser until then: no momentum,
    no decay and no count of steps before.
    """

    def held_until(step: int) -> optax.GradientTransformation:
        def init(params: Any) -> Any:
            return jnp.int32(0), descent.init(params)

        def update(gradients: Any, state: Any, params: Any = None) -> Any:
            count, inner = state
            updates, after = descent.update(gradients, inner, params)
            live = count >= step
            updates = jax.tree.map(lambda u: jnp.where(live, u, jnp.zeros_like(u)), updates)
            kept = jax.tree.map(lambda new, old: jnp.where(live, new, old), after, inner)
            return updates, (count + 1, kept)

        return optax.GradientTransformation(init, update)

    def transform(params: Any) -> optax.GradientTransformation:
        steps = first(params)
        groups = {step: held_until(step) for step in sorted(set(jax.tree.leaves(steps)))}
        return optax.partition(groups, steps)

    return optax.GradientTransformation(
        lambda params: transform(params).init(params),
        lambda gradients, state, params=None: transform(params).update(gradients, state, params),
    )


def _schedule(config: OptimizerConfig, rate: Any) -> optax.ScalarOrSchedule:
    after = max(config.steps - config.warmup, 1)
    if config.schedule == "constant" and config.warmup == 0:
        return rate
    # The laws of a rate of one, scaled: optax's own refuse a traced rate.
    falling = {
        "constant": optax.constant_schedule(1.0),
        "cosine": optax.cosine_decay_schedule(1.0, after),
        "linear": optax.linear_schedule(1.0, 0.0, after),
    }[config.schedule]
    rising = optax.linear_schedule(0.0, 1.0, config.warmup)
    law = optax.join_schedules([rising, falling], [config.warmup]) if config.warmup else falling
    return lambda step: rate * law(step)
