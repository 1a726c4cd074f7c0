"""Options of a task, written after its files: gsm8k:test.jsonl:shots=8:exemplars=cot.jsonl.

What a task accepts is the keywords of its reader, with their types and defaults.
"""

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any

from truncated_weights.bridge.tasks.example import TaskError

_OPTION = re.compile(r":([a-z_]+)=([^:]*)$")
_TRUTHS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def split(text: str) -> tuple[str, dict[str, str]]:
    """The text before its options, and these; TaskError where one is given twice."""
    options: dict[str, str] = {}
    while found := _OPTION.search(text):
        name, value = found.groups()
        if name in options:
            raise TaskError(f"task {text!r}: {name} is given twice")
        options[name] = value
        text = text[: found.start()]
    return text, dict(reversed(options.items()))


def keywords(function: Callable[..., Any], given: Mapping[str, str]) -> dict[str, Any]:
    """The options as keywords of function, in their types.

    Raises TaskError for an option that function does not have, and for a value that is not
    of its type.
    """
    types = typing.get_type_hints(function)
    known = _accepted(function)
    found = {}
    for name, value in given.items():
        if name not in known:
            raise TaskError(f"no option {name!r} here; known are {' '.join(known) or 'none'}")
        found[name] = _parsed(types[name], value, f"option {name}={value}")
    return found


def described(function: Callable[..., Any]) -> str:
    """The options with their defaults, as they are written: "shots=0:seed=0"."""
    parameters = inspect.signature(function).parameters
    return ":".join(f"{name}={_written(parameters[name].default)}" for name in _accepted(function))


def _accepted(function: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


def _written(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    return str(default)


def _parsed(kind: Any, value: str, where: str) -> Any:
    if typing.get_origin(kind) is typing.Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise TaskError(f"{where}: expected {' or '.join(choices)}")
        return value
    if kind is bool:
        if value not in _TRUTHS:
            raise TaskError(f"{where}: expected yes or no")
        return _TRUTHS[value]
    if kind is int:
        try:
            number = int(value)
        except ValueError:
            raise TaskError(f"{where}: expected a whole number") from None
        if abs(number) >= 2**62:
            raise TaskError(f"{where}: beyond the range of whole numbers")
        return number
    return value
