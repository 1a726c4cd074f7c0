"""Count the matrix products in a JAX function: operations, and bytes read and written."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from jax.extend import core


class Count(NamedTuple):
    """What every dot_general of a program does, loops counted every turn.

    operations: multiplications and additions. moved: bytes of both factors and of the result.
    decompositions: eigen- and singular-value decompositions, whose operations are not in it.
    """

    operations: int = 0
    moved: int = 0
    decompositions: int = 0

    def __add__(self, other: "Count") -> "Count":  # type: ignore[override]
        return Count(*(a + b for a, b in zip(self, other, strict=True)))

    def times(self, turns: int) -> "Count":
        """The same so many times."""
        return Count(*(turns * value for value in self))


DECOMPOSITIONS = ("eigh", "svd", "qr", "eig")


def matrix_product_operations(function: Callable, *arguments: Any) -> int:
    """Multiplications and additions of every dot_general that function(*arguments) does.

    Read off the traced program, before the compiler sees it. Raises ValueError for a loop of
    products whose length is not known.
    """
    return count(jax.make_jaxpr(function)(*arguments).jaxpr).operations


def count(program: core.Jaxpr, *, turns: int | None = None) -> Count:
    """The products of a traced program; of a branch those of the costliest side.

    turns: what a loop of unknown length is counted as; ValueError where there is one and None.
    """
    total = Count()
    for equation in program.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            arrays = [_array(v) for v in (*equation.invars, *equation.outvars)]
            inner = math.prod(arrays[0].shape[axis] for axis in contracted)
            moved = sum(one.size * one.dtype.itemsize for one in arrays)
            total += Count(2 * inner * arrays[-1].size, moved)
            continue
        if name in DECOMPOSITIONS:
            # A batch of matrices is so many decompositions.
            total += Count(decompositions=math.prod(_array(equation.invars[0]).shape[:-2]))
            continue
        inside = [count(inner, turns=turns) for inner in _programs(parameters)]
        if name == "cond":
            total += max(inside)
            continue
        here = sum(inside, start=Count())
        if name == "scan":
            here = here.times(parameters["length"])
        if name == "while" and any(here):
            if turns is None:
                raise ValueError("a while loop has matrix products and no known number of turns")
            here = here.times(turns)
        total += here
    return total


def _programs(parameters: dict[str, Any]) -> Iterator[core.Jaxpr]:
    for value in parameters.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, core.ClosedJaxpr):
                yield one.jaxpr
            elif isinstance(one, core.Jaxpr):
                yield one


def _array(variable: Any) -> Any:
    """Shape and dtype of what a variable holds."""
    return variable.aval
