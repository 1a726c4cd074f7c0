"""absl flags from a settings dataclass, and the help a program prints about itself.

One flag per field: its name, type, default, bounds and help are those of the field
(training/settings.py), so that nothing about a setting is written a second time here. A field
that would be a word of Python's ends in an underscore, which its flag has not: from_ is --from.
"""

import dataclasses
import os
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from absl import flags

from truncated_weights.training import settings
from truncated_weights.training.settings import Settings
from truncated_weights.truncation.files import regular

Config = TypeVar("Config", bound=Settings)

LARGEST_FLAG_FILE = 2**20
MOST_FLAG_FILES = 100
HELP = ("--help", "-help", "-h", "--h", "-?", "--helpfull", "-helpfull", "--helpshort")


class Parser(flags.ArgumentParser):
    """The text of a flag as the value of its setting, checked by the setting's own rule."""

    def __init__(self, kind: type, several: bool, rule: settings.Rule):
        super().__init__()
        self.kind, self.several, self.rule = kind, several, rule
        self.syntactic_help = settings.bounds(rule)

    def parse(self, argument: Any) -> Any:
        """The value; ValueError says in one line what is wrong with the text."""
        value = argument
        if isinstance(argument, str):
            if self.several:
                entries = argument.split(",") if argument.strip() else []
                value = tuple(_convert(self.kind, entry.strip()) for entry in entries)
            else:
                value = _convert(self.kind, argument)
        if problem := settings.complaint(self.kind, self.several, self.rule, value):
            raise ValueError(problem)
        return value

    def flag_type(self) -> str:
        """The name absl has for the type."""
        return ("comma separated " if self.several else "") + self.kind.__name__


class Serializer(flags.ArgumentSerializer):
    """The text of a value; a tuple is joined by commas."""

    def serialize(self, value: Any) -> str:
        """What a flag file would hold."""
        return text_of(value)


def _convert(kind: type, text: str) -> Any:
    if kind is str:
        return text
    # int() and float() would also take "1_0" and the digits of other scripts.
    pattern = r"[+-]?\d+" if kind is int else r"[+-]?[\d.]+(e[+-]?\d+)?|[+-]?(inf|nan)"
    try:
        if re.fullmatch(pattern, text.strip(), re.ASCII | re.IGNORECASE):
            return kind(text)
    except ValueError:
        pass
    raise ValueError(f"{text!r} is not a {'whole ' if kind is int else ''}number")


class Values(flags.FlagValues):
    """Flags of a command line and of the files that --flagfile names, one on each line."""

    def read_flags_from_files(self, argv: Sequence[str], force_gnu: bool = True) -> list[str]:
        """The arguments with every --flagfile replaced by the lines of its file.

        absl's own would wait for a pipe, and follow files that name each other for ever.
        ValueError or OSError, in one line, where a file cannot be read.
        """
        return super().read_flags_from_files(list(_expanded(argv, (), [])), force_gnu)


def presets(folder: Path) -> dict[str, Path]:
    """The flag files of a program by name, from its folder."""
    return {file.stem: file for file in sorted(folder.glob("*.flags"))}


def with_presets(arguments: Sequence[str], known: Mapping[str, Path]) -> list[str]:
    """The arguments with every --preset=NAME replaced by its flag file; ValueError if unknown."""
    found, rest = [], iter(arguments)
    for argument in rest:
        name, equals, preset = argument.partition("=")
        if name not in ("--preset", "-preset"):
            found.append(argument)
            continue
        preset = preset if equals else next(rest, "")
        if preset not in known:
            raise ValueError(f"--preset={preset}: there are {', '.join(known) or 'none'}")
        found.append(f"--flagfile={known[preset]}")
    return found


def _expanded(
    arguments: Sequence[str], within: tuple[str, ...], opened: list[str]
) -> Iterator[str]:
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            yield argument
            yield from rest
            return
        name, equals, file = argument.partition("=")
        if name not in ("--flagfile", "-flagfile"):
            yield argument
            continue
        file = os.path.expanduser((file if equals else next(rest, "")).strip())
        if not file:
            raise ValueError("--flagfile names no file")
        if file in within:
            raise ValueError(f"--flagfile={file} names itself")
        opened.append(file)
        if len(opened) > MOST_FLAG_FILES:
            raise ValueError(f"--flagfile: more than {MOST_FLAG_FILES} files")
        lines = [line.strip() for line in regular.text(file, LARGEST_FLAG_FILE).split("\n")]
        kept = [line for line in lines if line and not line.startswith(("#", "//"))]
        yield from _expanded(kept, (*within, file), opened)


def define(
    config_type: type[Settings],
    values: flags.FlagValues,
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Define a flag for every field; `defaults` replaces those of the fields it names."""
    types = settings.kinds(config_type)
    for field in dataclasses.fields(config_type):
        kind, several = types[field.name]
        rule = settings.rule(field)
        name = name_of(field)
        default = (defaults or {}).get(field.name, field.default)
        if kind is bool:
            flags.DEFINE_bool(name, default, rule.help, flag_values=values)
            continue
        # A required setting has no default: absl checks defaults too.
        start = None if rule.required and default in ("", ()) else default
        parser = Parser(kind, several, rule)
        flags.DEFINE(parser, name, start, rule.help, serializer=Serializer(), flag_values=values)


def read(config_type: type[Config], values: flags.FlagValues) -> Config:
    """The settings that the parsed flags hold; ValueError names what cannot be."""
    found = {}
    for field in dataclasses.fields(config_type):
        value = values[name_of(field)].value
        if value is None:
            raise ValueError(f"--{name_of(field)} must be given: {settings.rule(field).help}")
        found[field.name] = value
    return config_type(**found)


def usage(
    name: str,
    doc: str,
    groups: Mapping[str, type[Settings]],
    defaults: Mapping[str, Any],
    width: int | None = None,
    presets: Sequence[str] = (),
) -> str:
    """The help of a program: what it is for, and every flag with default, bounds and choices."""
    width = width or min(100, shutil.get_terminal_size((100, 24)).columns)
    parts = [f"usage: python -m experiments.{name} [--FLAG=VALUE ...]\n", doc.strip() + "\n"]
    for title, config_type in groups.items():
        parts.append(f"{title}:")
        types = settings.kinds(config_type)
        for field in dataclasses.fields(config_type):
            default = defaults.get(field.name, field.default)
            parts.append(
                _entry(name_of(field), types[field.name][0], settings.rule(field), default, width)
            )
        parts.append("")
    parts.append("also: --flagfile=FILE reads flags from a file, one per line")
    if presets:
        parts.append(f"      --preset=NAME, one of the program's own: {', '.join(presets)}")
    parts.append("")
    return "\n".join(parts)


def _entry(name: str, kind: type, rule: settings.Rule, default: Any, width: int) -> str:
    shown = f"--[no]{name}" if kind is bool else f"--{name}={text_of(default)}"
    notes = [rule.help]
    if kind is bool:
        notes.append(f"Default: {'yes' if default else 'no'}.")
    if rule.choices:
        notes.append(f"One of: {', '.join(rule.choices)}.")
    if limits := settings.bounds(rule):
        notes.append(f"Must {limits}.")
    if rule.required:
        notes.append("Required.")
    text = " ".join(notes)
    indent = 30
    if len(shown) <= indent - 4:
        first = f"  {shown:<{indent - 2}}"
        return textwrap.fill(
            text, width, initial_indent=first, subsequent_indent=" " * indent,
            break_on_hyphens=False,
        )  # fmt: skip
    return f"  {shown}\n" + textwrap.indent(
        textwrap.fill(text, width - indent, break_on_hyphens=False), " " * indent
    )


def name_of(field: dataclasses.Field) -> str:
    """The flag of a field, without its dashes."""
    return field.name.rstrip("_")


def text_of(value: Any) -> str:
    """A value as one would type it after --NAME=."""
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def is_help(argv: Sequence[str]) -> bool:
    """Whether help is asked for anywhere on the command line."""
    return any(argument in HELP for argument in argv)
