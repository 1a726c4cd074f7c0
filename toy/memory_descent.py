"""Gradient descent of the associative memory in float64, whatever the process computes in."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from truncated_weights.toy import memory


def descend(
    problem: memory.Memory,
    *,
    step_size: float,
    stops: Sequence[int] | np.ndarray,
    measure: Callable[[memory.Weights], Any],
) -> list[Any]:
    """measure(weights) after each number of steps in `stops` (rising), fetched at the end.

    The loss is the exact one, over all inputs and targets; ValueError where a batch is asked for.

    Float64, because over five decades of time the last steps are below the resolution of
    float32; only inside this function.
    """
    if problem.batch_size:
        raise ValueError(f"batch_size is {problem.batch_size}: descent is on the exact loss alone")
    with jax.enable_x64(True):
        params, frozen = jax.jit(problem.init)(jax.random.key(0))
        law, target = jax.jit(lambda: (problem.law(), problem.target()))()
        measured, done = [], 0
        for stop in map(int, stops):
            params, found = _advance(
                params, frozen, law, target, step_size, stop - done, measure=measure
            )
            done = stop
            measured.append(found)
        # All at once: a device that is asked for each waits for the host between any two.
        return jax.device_get(measured)


# What differs between memories of one size is traced, so that they share one program.
@functools.partial(jax.jit, static_argnames="measure")
def _advance(
    params: memory.Weights,
    frozen: memory.Weights,
    law: jax.Array,
    target: jax.Array,
    step_size: float | jax.Array,
    count: int | jax.Array,
    *,
    measure: Callable[[memory.Weights], Any],
) -> tuple[memory.Weights, Any]:
    def loss(params: memory.Weights) -> jax.Array:
        return memory.population_loss({**frozen, **params}, law, target)

    def one(_: int | jax.Array, params: memory.Weights) -> memory.Weights:
        gradient = jax.grad(loss)(params)
        return jax.tree.map(lambda p, g: p - step_size * g, params, gradient)

    params = jax.lax.fori_loop(0, count, one, params)
    return params, measure({**frozen, **params})


def descend_together(
    sizes: Sequence[int],
    alphas: Sequence[float],
    *,
    step_size: float,
    stops: Sequence[int] | np.ndarray,
    measure: Callable[[jax.Array], Any],
) -> list[Any]:
    """Memories of several sizes and noise rates, orthonormal embeddings, in one program.

    All live in matrices of the largest size M: [memories, M, M + 1], the noise in the last
    class. Inputs and classes that a memory does not have get no weight and no probability, so
    that their entries stay exactly zero and change no singular value but zeros. measure takes
    one such matrix; its results have a leading axis of memories. As in `descend`, in float64.
    """
    largest = max(sizes)
    with jax.enable_x64(True):
        has_input = jnp.arange(largest)[None] < jnp.asarray(sizes)[:, None]
        always = jnp.ones((len(sizes), 1), bool)
        has_class = jnp.concatenate([has_input, always], axis=1)
        noise_rates = jnp.asarray(alphas, jnp.float64)

        def loss(w: jax.Array, inputs: jax.Array, classes: jax.Array, alpha: jax.Array) -> Any:
            log_p = jax.nn.log_softmax(jnp.where(classes[None], w, -1e30), axis=1)
            correct, noise = jnp.diagonal(log_p), log_p[:, -1]
            each = jnp.where(inputs, (1 - alpha) * correct + alpha * noise, 0.0)
            return -jnp.sum(each) / jnp.sum(inputs)

        gradient = jax.vmap(jax.grad(loss))

        @jax.jit
        def advance(w: jax.Array, count: int | jax.Array) -> tuple[jax.Array, Any]:
            def one(_: Any, w: jax.Array) -> jax.Array:
                return w - step_size * gradient(w, has_input, has_class, noise_rates)

            w = jax.lax.fori_loop(0, count, one, w)
            return w, jax.vmap(measure)(w)

        weights, done, measured = jnp.zeros((len(sizes), largest, largest + 1)), 0, []
        for stop in map(int, stops):
            weights, found = advance(weights, stop - done)
            done = stop
            measured.append(found)
        return jax.device_get(measured)
