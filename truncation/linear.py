"""The parameters of one linear map: a dense matrix or two thin factors, with a bias or not.

A leaf is an array [d_in, d_out], or a dict holding either "kernel" or the pair "kernel_in"
[d_in, r], "kernel_out" [r, d_out], and optionally "bias" [d_out].
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

Leaf = Any
PRECISE = jax.lax.Precision.HIGHEST


def apply(leaf: Leaf, x: Float[Array, "*batch d_in"]) -> Float[Array, "*batch d_out"]:
    """x @ W + bias, through the factors where there are factors."""
    if not isinstance(leaf, Mapping):
        return jnp.matmul(x, leaf)
    if "kernel_in" in leaf:
        outputs = jnp.matmul(jnp.matmul(x, leaf["kernel_in"]), leaf["kernel_out"])
    else:
        outputs = jnp.matmul(x, leaf["kernel"])
    if "bias" in leaf:
        outputs = outputs + jnp.broadcast_to(leaf["bias"], outputs.shape)
    return outputs


def followed_by(leaf: Leaf, matrix: Float[Array, "d_out d_next"]) -> Leaf:
    """The one dense map that applies the leaf and then a matrix; a bias goes through it too."""
    if not isinstance(leaf, Mapping):
        return jnp.matmul(leaf, matrix)
    if "kernel_in" in leaf:
        kernel = jnp.matmul(leaf["kernel_in"], jnp.matmul(leaf["kernel_out"], matrix))
    else:
        kernel = jnp.matmul(leaf["kernel"], matrix)
    return {"kernel": kernel, "bias": leaf["bias"] @ matrix} if "bias" in leaf else kernel


def dense(leaf: Leaf) -> Shaped[Array, "d_in d_out"]:
    """The matrix itself, multiplied out where it is stored as factors."""
    if not isinstance(leaf, Mapping):
        return leaf
    if "kernel_in" in leaf:
        return jnp.matmul(leaf["kernel_in"], leaf["kernel_out"], precision=PRECISE)
    return leaf["kernel"]


def _rest(leaf: Leaf) -> dict[str, Array]:
    kernels = ("kernel", "kernel_in", "kernel_out")
    return {k: v for k, v in leaf.items() if k not in kernels} if isinstance(leaf, Mapping) else {}


def with_matrix(leaf: Leaf, matrix: Float[Array, "d_in d_out"]) -> Leaf:
    """The leaf with another dense matrix; a bias stays."""
    return {**_rest(leaf), "kernel": matrix} if isinstance(leaf, Mapping) else matrix


def with_factors(
    leaf: Leaf, kernel_in: Float[Array, "d_in r"], kernel_out: Float[Array, "r d_out"]
) -> Leaf:
    """The leaf with kernel_in @ kernel_out for its matrix; a bias stays."""
    return {**_rest(leaf), "kernel_in": kernel_in, "kernel_out": kernel_out}


def with_added_bias(leaf: Leaf, bias: Float[Array, " d_out"]) -> Leaf:
    """The leaf with `bias` added to its output."""
    if not isinstance(leaf, Mapping):
        return {"kernel": leaf, "bias": bias}
    return {**leaf, "bias": leaf["bias"] + bias if "bias" in leaf else bias}
