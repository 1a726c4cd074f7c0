"""Curvature of the loss along training: the sharpest directions and what they move.

    H u = lambda u,   H the Hessian of the mean loss over a fixed batch

by power iteration on Hessian-vector products (a derivative of the gradient: one forward and
backward more, never a matrix). Heavy ball with rate eta and momentum mu is stable along u while
lambda < 2 (1 + mu) / eta, the edge of stability.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Weights = Any
Loss = Callable[[Weights], Float[Array, ""]]


class Sharpest(NamedTuple):
    """The largest eigenvalue of the Hessian and its unit eigenvector, shaped like the weights."""

    value: Float[Array, ""]
    direction: Weights


def sharpest(loss: Loss, params: Weights, key: PRNGKeyArray, *, iterations: int = 20) -> Sharpest:
    """Power iteration from a random direction; the eigenvalue of largest modulus.

    The relative error falls like (lambda_2 / lambda_1)^(2 iterations). The loss of a classifier
    has its large eigenvalues on the positive side, so modulus and value agree there.
    """

    def product(direction: Weights) -> Weights:
        return jax.jvp(jax.grad(loss), (params,), (direction,))[1]

    def one(_: Array, carry: tuple[Weights, Array]) -> tuple[Weights, Array]:
        direction = _unit(carry[0])
        bent = product(direction)
        return bent, _inner(direction, bent)

    leaves, shape = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    start = jax.tree.unflatten(
        shape, [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    )
    direction, value = jax.lax.fori_loop(0, iterations, one, (start, jnp.zeros(())))
    return Sharpest(value, _unit(direction))


def response(
    logits: Callable[[Weights], Float[Array, "*batch classes"]], params: Weights, direction: Weights
) -> Float[Array, " classes"]:
    """Share of each class in what a direction does to the logits, mean squares, summing to one.

    The mean over classes is taken out first: it changes no probability.
    """
    change = jax.jvp(logits, (params,), (direction,))[1]
    change = change - jnp.mean(change, axis=-1, keepdims=True)
    power = jnp.mean(change.reshape(-1, change.shape[-1]) ** 2, axis=0)
    return power / jnp.sum(power)


def shares(direction: Weights) -> Weights:
    """Squared norm of each leaf of a unit direction."""
    return jax.tree.map(lambda x: jnp.sum(x**2), direction)


def _inner(a: Weights, b: Weights) -> Float[Array, ""]:
    return sum(
        (jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)),
        start=jnp.zeros(()),
    )


def _unit(direction: Weights) -> Weights:
    size = jnp.sqrt(_inner(direction, direction))
    return jax.tree.map(lambda x: x / size, direction)
