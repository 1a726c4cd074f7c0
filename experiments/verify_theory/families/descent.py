"""Descent of a linear memory on the exact loss, and its limit of small steps.

    logits = X W,   loss = - sum_i law_i sum_k target_ik log softmax(X W)_ik  (+ decay / 2 |W|^2)

from W = 0, by automatic differentiation, in float64. Two runs of steps h and 2 h give
2 W_h - W_2h, from which the first order of the step is gone.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def gradual(run: Callable[[float], dict[str, np.ndarray]], step: float) -> dict[str, np.ndarray]:
    """2 run(step) - run(2 step), entry by entry."""
    fine, coarse = run(step), run(2 * step)
    return {name: 2 * fine[name] - coarse[name] for name in fine}


def flow(
    features: Float[np.ndarray, "facts inputs"],
    law: Float[np.ndarray, " facts"],
    targets: Float[np.ndarray, "facts classes"],
    times: tuple[float, ...],
    *,
    step: float,
) -> Float[np.ndarray, "times inputs classes"]:
    """W at these times, multiples of 2 step; first order in the step taken away."""
    found = gradual(lambda size: {"w": descend(features, law, targets, times, step=size)}, step)
    return found["w"]


def descend(
    features: Float[np.ndarray, "facts inputs"],
    law: Float[np.ndarray, " facts"],
    targets: Float[np.ndarray, "facts classes"],
    times: tuple[float, ...],
    *,
    step: float,
) -> Float[np.ndarray, "times inputs classes"]:
    """W at these times, which are multiples of the step."""
    with jax.enable_x64(True):
        x, pi, target = (jnp.asarray(a, jnp.float64) for a in (features, law, targets))

        @jax.jit
        def advance(w: Array, count: int | Array) -> Array:
            def loss(w: Array) -> Array:
                return -jnp.sum(pi[:, None] * target * jax.nn.log_softmax(x @ w, axis=-1))

            return jax.lax.fori_loop(0, count, lambda _, w: w - step * jax.grad(loss)(w), w)

        w, done, found = jnp.zeros((x.shape[1], target.shape[1])), 0, []
        for time in times:
            stop = round(time / step)
            w, done = advance(w, stop - done), stop
            found.append(np.asarray(w))
    return np.array(found)


def with_shared(size: int, shared: float) -> Float[np.ndarray, "facts inputs"]:
    """Inputs sqrt(1 - r) e_i + sqrt(r) e_0, the shared direction first."""
    own = np.sqrt(1 - shared) * np.eye(size, size + 1, k=1)
    own[:, 0] = np.sqrt(shared)
    return own


def zipf(size: int, exponent: float = 1.0) -> Float[np.ndarray, " facts"]:
    """Frequencies proportional to rank^-exponent."""
    law = np.arange(1, size + 1) ** -exponent
    return law / law.sum()


def own_answers(size: int, noise: tuple[float, ...]) -> Float[np.ndarray, "facts classes"]:
    """Targets: each fact's own class, then the noise tokens."""
    correct = (1 - sum(noise)) * np.eye(size)
    return np.concatenate([correct, np.tile(noise, (size, 1))], axis=1)
