"""Sums and products of small integers, after the eigenpruning work (arXiv 2404.03147).

    "3 x 4 =" -> " 12"        "17 + 25 =" -> " 42"

With `shots`, solved problems go before it, a line each. Distractors are what a slip gives: off
by one, one row further in the table, the other operation.
"""

import itertools
import operator
import random
from typing import Literal

from truncated_weights.bridge.tasks.example import Encode, Example, Task, TaskError

Operation = Literal["sum", "product"]
_SIGNS = {"sum": "+", "product": "x"}
_RESULTS = {"sum": operator.add, "product": operator.mul}


def load(
    encode: Encode,
    *,
    operation: Operation = "product",
    count: int = 256,
    smallest: int = 2,
    largest: int = 19,
    shots: int = 0,
    seed: int = 0,
) -> Task:
    """`count` different problems with operands from smallest to largest, or all there are.

    Solved problems of a prompt are drawn among those that are not asked in it. A result of
    several tokens stays: its tokens are scored together. Raises TaskError for an unknown
    operation or an empty range.
    """
    if operation not in _SIGNS:
        raise TaskError(f"operation {operation!r}: expected {' or '.join(_SIGNS)}")
    if not 0 <= smallest < largest:
        raise TaskError(f"operands from {smallest} to {largest}: expected a range above zero")
    rng = random.Random(f"arithmetic/{operation}/{seed}")
    problems = list(itertools.product(range(smallest, largest + 1), repeat=2))
    if not 0 <= shots < len(problems):
        raise TaskError(f"shots {shots}: expected 0 to {len(problems) - 1}")
    rng.shuffle(problems)
    examples = []
    for problem in problems[:count]:
        others = rng.sample(problems, shots + 1)
        solved = [other for other in others if other != problem][:shots]
        before = "".join(f"{_asked(operation, *o)} {_RESULTS[operation](*o)}\n" for o in solved)
        examples.append(_example(operation, problem, before))
    return _task(operation, examples, encode)


def every(encode: Encode, *, operation: Operation, smallest: int, largest: int) -> Task:
    """All ordered pairs of operands from smallest to largest, in order, nothing before them."""
    problems = itertools.product(range(smallest, largest + 1), repeat=2)
    return _task(operation, [_example(operation, problem) for problem in problems], encode)


def _example(operation: str, problem: tuple[int, ...], before: str = "") -> Example:
    first, second = problem
    right = _RESULTS[operation](first, second)
    wrong = dict.fromkeys(_slips(operation, first, second, right))
    wrong.pop(right, None)
    return Example(
        before + _asked(operation, first, second),
        f" {right}",
        tuple(f" {slip}" for slip in wrong if slip >= 0),
        group=operation,
        covariates={"first": float(first), "second": float(second)},
        # 3 x 4 and 4 x 3 are one fact to know.
        item=f"{operation} {min(problem)} {max(problem)}",
    )


def _task(operation: str, examples: list[Example], encode: Encode) -> Task:
    several = sum(len(encode(example.answer)) > 1 for example in examples)
    report = (f"{several} of {len(examples)} results are more than one token",) if several else ()
    return Task(f"{operation}s", tuple(examples), report)


def _asked(operation: str, first: int, second: int) -> str:
    return f"{first} {_SIGNS[operation]} {second} ="


def _slips(operation: str, first: int, second: int, right: int) -> tuple[int, ...]:
    if operation == "sum":
        return (right + 1, right - 1, right + 10, first * second)
    return (right + first, right - second, right + 1, first + second)
