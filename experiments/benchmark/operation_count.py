"""Count the floating-point operations of the matrix products in a JAX function."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


def matrix_product_operations(function: Callable, *arguments: Any) -> int:
    """Multiplications and additions of every dot_general that function(*arguments) does.

    Read off the traced program, before the compiler sees it; a loop of known length counts
    every turn. Raises ValueError for a loop whose length is not known.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(program: core.Jaxpr) -> int:
    total = 0
    for equation in program.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            left = _shape(equation.invars[0])
            inner = math.prod(left[axis] for axis in contracted)
            total += 2 * inner * math.prod(_shape(equation.outvars[0]))
            continue
        turns = parameters.get("length", 1) if name == "scan" else 1
        inside = sum(_count(inner_program) for inner_program in _programs(parameters))
        if name == "while" and inside:
            raise ValueError("a while loop has matrix products and no known number of turns")
        total += turns * inside
    return total


def _programs(parameters: dict[str, Any]) -> Iterator[core.Jaxpr]:
    for value in parameters.values():
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape
