"""Gradient descent of the associative memory in float64, whatever the process computes in."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax

from toy import memory


def descend(
    problem: memory.Memory,
    *,
    step_size: float,
    stops: Sequence[int] | np.ndarray,
    measure: Callable[[memory.Weights], Any],
) -> list[Any]:
    """measure(weights) after each number of steps in `stops` (rising), fetched to the host.

    Float64, because over five decades of time the last steps are below the resolution of
    float32; only inside this function.
    """
    with jax.enable_x64(True):
        key = jax.random.key(0)
        params, frozen = problem.init(key)
        descent = optax.sgd(step_size)

        def one(_: int | jax.Array, params: memory.Weights) -> memory.Weights:
            gradient = jax.grad(problem.loss)(params, frozen, key, lambda x: x)
            updates, _state = descent.update(gradient, descent.init(params), params)
            return optax.apply_updates(params, updates)

        @jax.jit
        def advance(params: memory.Weights, count: int | jax.Array) -> tuple[memory.Weights, Any]:
            params = jax.lax.fori_loop(0, count, one, params)
            return params, measure({**frozen, **params})

        measured, done = [], 0
        for stop in map(int, stops):
            params, found = advance(params, stop - done)
            done = stop
            measured.append(jax.device_get(found))
    return measured
