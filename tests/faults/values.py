"""Random command lines for a program, derived from its settings: valid, at a bound, and wrong."""

import dataclasses
import math
import random
from collections.abc import Mapping

from truncated_weights.training import settings

# What no setting of the type takes, or takes only by mistake.
WRONG = {
    bool: ("maybe", "2"),
    int: ("", "x", "1.5", "²", "1e3", "0x10", "nan", "1_0", "--", "1" * 30, "9" * 400),
    float: ("", "x", "nan", "inf", "-inf", "1,5", "1e999", "٣", "9" * 400),
    str: (
        "",
        "²",
        "a,b",
        "/nowhere",
        "x" * 300,
        "-",
        "\t",
        "a\nb",
        "../..",
        "a\0b",
        "\udcff",
        "\x1b[31m",
    ),
}
ENTRIES = (
    "",
    ",",
    "a,,b",
    "nan",
    "inf",
    "-1",
    "²",
    "1,1",
    "0.5,0.50",
    "x" * 300,
    "1e999",
    "/",
    "9" * 400,
    "\0",
    "\x1b[2J",
)


@dataclasses.dataclass(frozen=True)
class Pins:
    """Values that keep a program small: name -> what may be drawn for it, the first always given.

    huge: settings of which an absurd value must be refused for want of memory or time.
    """

    values: Mapping[str, tuple[str, ...]]
    huge: tuple[str, ...] = ()


def flag(name: str, value: str) -> str:
    name = name.rstrip("_")  # as experiments/run/flags.py has it
    if value in ("yes", "no") and not name.startswith("="):
        return f"--{'' if value == 'yes' else 'no'}{name}"
    return f"--{name}={value}"


def draw(config_type: type, pins: Pins, chance: random.Random) -> list[str]:
    """One command line: every pinned setting, and up to three drawn anew."""
    types, rules = settings.kinds(config_type), {}
    for field in dataclasses.fields(config_type):
        rules[field.name] = settings.rule(field)
    given = {name: values[0] for name, values in pins.values.items()}
    for name in chance.sample(sorted(types), chance.randint(1, 3)):
        given[name] = one(name, *types[name], rules[name], pins, chance)
    return [flag(name, value) for name, value in given.items()]


def one(
    name: str,
    kind: type,
    several: bool,
    rule: settings.Rule,
    pins: Pins,
    chance: random.Random,
) -> str:
    """A value of one setting, as the text after --NAME=."""
    pinned = pins.values.get(name, ())
    what = chance.choice(("valid", "valid", "bound", "wrong"))
    if kind is bool:
        return chance.choice(("yes", "no", *WRONG[bool][: what == "wrong"]))
    if what == "wrong":
        if several:
            return chance.choice(ENTRIES)
        if kind is str and rule.choices:
            return chance.choice(("nonsense", "", rule.choices[0].upper()))
        return chance.choice(WRONG[kind] + (("1" + "0" * 13,) if name in pins.huge else ()))
    if rule.choices:
        # A choice can be a large model: what is pinned stays.
        return chance.choice(pinned or rule.choices)
    if what == "bound" and kind in (int, float) and not several:
        return chance.choice(bounds(kind, rule, bool(pinned)) or (pinned or ("1",)))
    if pinned:
        return chance.choice(pinned)
    if kind is int:
        return str(chance.randint(int(rule.lower or 0), int(rule.lower or 0) + 3))
    if kind is float:
        low, high = rule.lower or 0.0, 1.0 if rule.upper is None else rule.upper
        return repr(chance.uniform(low, high))
    return chance.choice(ENTRIES) if several else chance.choice(WRONG[str])


def bounds(kind: type, rule: settings.Rule, small: bool) -> tuple[str, ...]:
    """Values at and just beyond the bounds; the upper one only of settings that cost nothing."""
    found = []
    for limit, step in ((rule.lower, -1), (rule.upper, 1)):
        if limit is None:
            continue
        if step == -1 or not small:
            found.append(str(limit))
        beyond = limit + step if kind is int else math.nextafter(limit, step * math.inf)
        found.append(str(beyond))
    return tuple(found)
