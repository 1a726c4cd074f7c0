"""A sum over slices of a batch, whose gradient is made and added up slice by slice.

    grad sum_i l(w, x_i)  =  sum_{slices} grad sum_{i in slice} l(w, x_i)

exact up to the order of the sum; a mean is this over its count, which does not depend on w. The
gradient of an ordinary loop keeps what the backward pass needs of all slices, as much as of the
whole batch. Here value and gradient of a slice are made together and added to the sums before,
so that the memory is that of one slice and one more copy of w. The work is that of the whole
batch, and less time: the temporaries of a slice stay in the processor's cache, and with what does
not fit, a processor spends its time on memory. The price: the sum has no second derivative.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Numbers in the largest temporary of a slice that keep an accelerator busy.
ACCELERATOR_NUMBERS = 2**28


_for_accelerator = contextvars.ContextVar("for_accelerator", default=False)


@contextlib.contextmanager
def for_accelerator() -> Iterator[None]:
    """What is traced within is sliced as on an accelerator, wherever this process runs."""
    token = _for_accelerator.set(True)
    try:
        yield
    finally:
        _for_accelerator.reset(token)


def numbers(on_processor: int) -> int:
    """Numbers that the largest temporary of a slice should hold.

    on_processor where this process runs on a CPU, else ACCELERATOR_NUMBERS.
    """
    here = jax.default_backend() == "cpu" and not _for_accelerator.get()
    return on_processor if here else ACCELERATOR_NUMBERS


def fewest(batch_size: int, each: int, on_processor: int) -> int:
    """The fewest even slices of a batch that are small enough.

    each: numbers that one example has in the largest temporary; on_processor: see `numbers`.
    """
    most = max(1, numbers(on_processor) // each)
    counts = (n for n in range(1, batch_size + 1) if batch_size % n == 0)
    return next(n for n in counts if batch_size <= n * most)


def divide(batch: Any, count: int) -> Any:
    """Every leaf [batch, ...] as [count, batch / count, ...].

    Each slice takes from all over the batch, so that a batch spread over devices stays so.
    """

    def one(leaf: Array) -> Array:
        return jnp.moveaxis(leaf.reshape(-1, count, *leaf.shape[1:]), 1, 0)

    return jax.tree.map(one, batch)


def summed(
    function: Callable[[Any, Any, Any], Array], params: Any, rest: Any, batch: Any, count: int
) -> Float[Array, ""]:
    """function(params, rest, batch), a sum over the examples of a batch, in `count` slices.

    batch: any pytree whose leaves [batch, ...] count divides. function must hold no traced value of
    its own. The gradient is with respect to params alone, and the first derivative only.
    """
    if count == 1:
        return function(params, rest, batch)
    return _total(function, params, rest, divide(batch, count))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _total(
    function: Callable[[Any, Any, Any], Array], params: Any, rest: Any, pieces: Any
) -> Float[Array, ""]:
    """Sum of function(params, rest, piece) over the leading axis of pieces."""
    return jnp.sum(jax.lax.map(lambda piece: function(params, rest, piece), pieces))


def _forward(function: Callable, params: Any, rest: Any, pieces: Any) -> tuple[Array, Any]:
    def add(sums: Any, piece: Any) -> tuple[Any, None]:
        found = jax.value_and_grad(function)(params, rest, piece)
        return jax.tree.map(jnp.add, sums, found), None

    zero = jnp.float32(0), jax.tree.map(jnp.zeros_like, params)
    (value, gradient), _ = jax.lax.scan(add, zero, pieces)
    return value, gradient


def _backward(function: Callable, gradient: Any, cotangent: Array) -> tuple[Any, None, None]:
    return jax.tree.map(lambda leaf: cotangent * leaf, gradient), None, None


_total.defvjp(_forward, _backward)
