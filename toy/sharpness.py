"""Curvature of the loss along training: the sharpest directions and what they move.

    H u = lambda u,   H the Hessian of the mean loss over a fixed batch

by power iteration on products with H, which is never made:

    H v  =  d/de grad L(w + e v)  at e = 0             (Hessian)
    G v  =  J^T (diag p - p p^T) (J v)                  (its Gauss-Newton part, J = d logits / d w)

Each is one derivative forward and one backward, a few times the cost of a gradient. The matrix
itself would cost one such product per weight, and memory for the square of their number. The
linearisation of the logits is shared by all products with G.

Heavy ball with rate eta and momentum mu is stable along u while lambda < 2 (1 + mu) / eta, the
edge of stability. And which curvatures a given direction g has components in: the measure
sum_i (g . u_i)^2 delta(h - h_i) over the eigenpairs of G, by Lanczos from g.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
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
        image = product(direction)
        return image, _inner(direction, image)

    leaves, shape = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    start = jax.tree.unflatten(
        shape, [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    )
    direction, value = jax.lax.fori_loop(0, iterations, one, (start, jnp.zeros(())))
    return Sharpest(value, _unit(direction))


class Modes(NamedTuple):
    """Curvatures in which a direction has components, rising, and the squares of these."""

    curvatures: Float[Array, " modes"]
    weights: Float[Array, " modes"]


def gauss_newton(
    logits: Callable[[Weights], Float[Array, "batch scored classes"]],
    params: Weights,
    counted: Float[Array, "batch scored"],
) -> Callable[[Weights], Weights]:
    """v -> G v, G = mean of J^T (diag p - p p^T) J over what is counted.

    The Hessian of the mean cross-entropy less what the residuals add, which vanishes in the mean
    where the labels are drawn from the model. Never negative, as the Hessian may be.
    """
    values, push = jax.linearize(logits, params)
    pull = jax.linear_transpose(push, params)
    p = jax.nn.softmax(values, axis=-1)
    share = (counted / jnp.sum(counted))[:, :, None]

    def product(direction: Weights) -> Weights:
        change = push(direction)
        centred = change - jnp.sum(p * change, axis=-1, keepdims=True)
        return pull(share * p * centred)[0]

    return product


def lanczos(product: Callable[[Weights], Weights], start: Weights, *, steps: int) -> Modes:
    """Gauss quadrature of the measure of `start` over the eigenvalues of a symmetric matrix.

    steps: nodes, at most as many as the matrix has rows. Moments up to 2 steps - 1 are exact up
    to rounding; weights sum to |start|^2. Where start lies in fewer eigenspaces the other nodes
    have weight 0.
    Memory: `steps` copies of the weights, against which each new one is made orthogonal twice.
    """
    flat, unflatten = jax.flatten_util.ravel_pytree(start)
    size = jnp.linalg.norm(flat)

    def one(carry: tuple[Array, Array], place: Array) -> tuple[tuple[Array, Array], tuple]:
        basis, vector = carry
        basis = basis.at[place].set(vector)
        image = jax.flatten_util.ravel_pytree(product(unflatten(vector)))[0]
        diagonal = jnp.vdot(vector, image)
        for _ in range(2):
            image = image - basis.T @ (basis @ image)
        off_diagonal = jnp.linalg.norm(image)
        # Rounding alone is left where the space is exhausted: no direction, not a false one.
        there = off_diagonal > 1e-5 * jnp.maximum(jnp.abs(diagonal), 1e-30)
        after = jnp.where(there, image / jnp.maximum(off_diagonal, 1e-30), 0.0)
        return (basis, after), (diagonal, jnp.where(there, off_diagonal, 0.0))

    initial = (jnp.zeros((steps, flat.size), flat.dtype), flat / size)
    _, (diagonal, off_diagonal) = jax.lax.scan(one, initial, jnp.arange(steps))
    matrix = jnp.diag(diagonal) + jnp.diag(off_diagonal[:-1], 1) + jnp.diag(off_diagonal[:-1], -1)
    values, vectors = jnp.linalg.eigh(matrix)
    return Modes(values, size**2 * vectors[0] ** 2)


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
