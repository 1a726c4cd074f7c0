"""A setting written once: name, type, default, bounds and help, as a field of a frozen dataclass.

    @dataclasses.dataclass(frozen=True)
    class Memory(Settings):
        alpha: float = setting(0.3, "Probability of noise.", lower=0.0, upper=1.0)

Memory() holds the defaults, Memory(alpha=2) raises a ValueError that names alpha, and command
lines, config.json and notebooks derive from the same field. Fields are bool, int, float, str or
tuples of the last three. Nothing here imports JAX, so that a program can tell its help at once.
"""

import dataclasses
import sys
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True)
class Rule:
    """What the values of one setting must satisfy, and the one line that explains it.

    lower, upper: inclusive bounds of a number, or of every number in a tuple.
    choices: the strings allowed, or allowed in a tuple; empty allows any.
    required: an empty value is refused. repeats: a tuple may hold one value twice.
    drawing: it is about figures alone, and may change when they are drawn again.
    """

    help: str
    lower: int | float | None = None
    upper: int | float | None = None
    choices: tuple[str, ...] = ()
    required: bool = False
    repeats: bool = False
    drawing: bool = False


def setting(
    default: Any,
    help: str,
    *,
    lower: int | float | None = None,
    upper: int | float | None = None,
    choices: Sequence[str] = (),
    required: bool = False,
    repeats: bool = False,
    drawing: bool = False,
) -> Any:
    """A dataclass field with its rule as metadata; see Rule for the arguments."""
    rule = Rule(help, lower, upper, tuple(choices), required, repeats, drawing)
    return dataclasses.field(default=default, metadata={"rule": rule})


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base of every settings class: a value outside its rule raises a ValueError at once."""

    def __post_init__(self) -> None:
        check(self)


def rule(field: dataclasses.Field) -> Rule:
    """The rule of a field made by setting."""
    return field.metadata["rule"]


def kinds(config_type: type) -> dict[str, tuple[type, bool]]:
    """For every field the type of one value, and whether the field is a tuple of them."""
    hints = typing.get_type_hints(config_type)
    found = {}
    for field in dataclasses.fields(config_type):
        hint = hints[field.name]
        several = typing.get_origin(hint) is tuple
        found[field.name] = (typing.get_args(hint)[0] if several else hint, several)
    return found


def of_flags(config_type: type[Config], flags: Mapping[str, Any]) -> Config:
    """The settings that a run's config.json holds; ValueError names one that cannot be.

    A setting that the program did not have then is what its default says: every default means
    what was done before it existed. One that it has no more is passed over.
    """
    fields = {field.name for field in dataclasses.fields(config_type)}  # type: ignore[arg-type]
    if not fields & set(flags):
        raise ValueError("it has none of the program's settings")
    return config_type(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in flags.items() if k in fields}
    )


def check(config: Any) -> None:
    """Raise ValueError, naming the setting, where a value has another type or breaks its rule."""
    types = kinds(type(config))
    for field in dataclasses.fields(config):
        problem = complaint(*types[field.name], rule(field), getattr(config, field.name))
        if problem:
            raise ValueError(f"{field.name} is {_shown(getattr(config, field.name))}; {problem}")


def complaint(kind: type, several: bool, rule: Rule, value: Any) -> str:
    """What is wrong with a value of a setting, as the end of a sentence; empty if nothing is."""
    if rule.required and (value is None or value in ("", ())):
        return "it must be given"
    if not several:
        return _complaint_about_one(kind, rule, value)
    if not isinstance(value, tuple):
        return "it must be a tuple"
    for one in value:
        if found := _complaint_about_one(kind, rule, one):
            return f"for {one!r}: {found}"
        if one == "":
            return "an entry is empty"
    if not rule.repeats:
        seen: set[Any] = set()
        for one in value:
            # "0.1" and "0.10" are one fraction of rank.
            same = _number(one)
            if same in seen:
                return f"{one!r} is in it twice"
            seen.add(same)
    return ""


def _complaint_about_one(kind: type, rule: Rule, value: Any) -> str:
    if kind is bool:
        return "" if isinstance(value, bool) else "it must be True or False"
    if kind is str:
        if not isinstance(value, str):
            return "it must be a string"
        if "\0" in value:
            return "it holds a NUL"
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            return "it is not UTF-8 text"
        if rule.choices and value not in rule.choices:
            return f"it must be one of {', '.join(rule.choices)}"
        return ""
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        return "it must be a whole number" if kind is int else "it must be a number"
    # A whole number of hundreds of digits is no float at all.
    if not -sys.float_info.max <= value <= sys.float_info.max:
        return "it must be finite"
    low, high = rule.lower, rule.upper
    if (low is not None and value < low) or (high is not None and value > high):
        return f"it must {bounds(rule)}"
    return ""


def bounds(rule: Rule) -> str:
    """The bounds of a rule in words, as "lie in [0, 1]"; empty where there are none."""
    if rule.lower is not None and rule.upper is not None:
        return f"lie in [{_plain(rule.lower)}, {_plain(rule.upper)}]"
    if rule.lower is not None:
        return f"be at least {_plain(rule.lower)}"
    if rule.upper is not None:
        return f"be at most {_plain(rule.upper)}"
    return ""


def _plain(number: int | float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def _number(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return repr(value) if isinstance(value, str) else str(value)
