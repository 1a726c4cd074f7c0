"""JSON files of examples, read so that whatever is wrong is told with its file and line."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from truncated_weights.bridge.tasks.example import TaskError
from truncated_weights.truncation.files import regular, strict

_SPACE = " \t\r\n"


class Row:
    """One JSON object of a file, with the line it begins at.

    unit is what the number counts: lines, or the rows of a file that has no lines.
    """

    def __init__(self, path: pathlib.Path, line: int, value: Any, unit: str = "line"):
        """Raises TaskError where the value is not an object."""
        self.path, self.line, self.unit = path, line, unit
        if not isinstance(value, dict):
            raise self.error(f"expected an object, found {_kind(value)}")
        self.value: dict[str, Any] = value

    def error(self, problem: str) -> TaskError:
        """An error that names the file and line."""
        return TaskError(f"{self.path}, {self.unit} {self.line}: {problem}")

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        return name in self.value

    def text(self, *names: str) -> str:
        """The first of these fields that is there; it must be a string that is not blank."""
        name = next((name for name in names if name in self.value), None)
        if name is None:
            raise self.error(f"no field {' or '.join(map(repr, names))}")
        found = self.value[name]
        if not isinstance(found, str):
            raise self.error(f"{name!r} is {_kind(found)}; expected a string")
        if not found.strip():
            raise self.error(f"{name!r} is blank")
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings that are not blank; empty where the field is not there."""
        found = self.value.get(name, [])
        if not isinstance(found, list):
            raise self.error(f"{name!r} is {_kind(found)}; expected a list of strings")
        for item in found:
            if not isinstance(item, str):
                raise self.error(f"{name!r} holds {_kind(item)}; expected strings")
            if not item.strip():
                raise self.error(f"{name!r} holds a blank string")
        return tuple(found)

    def nested(self, name: str) -> "Row":
        """The object in this field."""
        if name not in self.value:
            raise self.error(f"no field {name!r}")
        if not isinstance(self.value[name], dict):
            raise self.error(f"{name!r} is {_kind(self.value[name])}; expected an object")
        return Row(self.path, self.line, self.value[name], self.unit)

    def integer(self, name: str) -> int:
        """A whole number of at most 62 bits that must be there."""
        found = self.value.get(name)
        if type(found) is not int or not abs(found) < 2**62:
            seen = f"{name!r} is {_kind(found)}" if name in self.value else f"no field {name!r}"
            raise self.error(f"{seen}; expected a whole number")
        return found

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers of at most 62 bits that must be there."""
        found = self.value.get(name)
        whole = isinstance(found, list) and all(
            type(item) is int and abs(item) < 2**62 for item in found
        )
        if not isinstance(found, list) or not whole:
            raise self.error(f"{name!r} is not a list of whole numbers")
        return tuple(found)

    def numbers(self, but: Sequence[str]) -> dict[str, float]:
        """All fields that are numbers, without those in `but`."""
        return {
            name: float(found)
            for name, found in self.value.items()
            if name not in but and isinstance(found, int | float) and not isinstance(found, bool)
        }


def lines(path: pathlib.Path) -> list[Row]:
    """The objects of a JSON-lines file; blank lines are skipped."""
    rows = []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = strict.parse(line)
        except ValueError as error:
            raise TaskError(f"{path}, line {number}: {error}") from None
        rows.append(Row(path, number, value))
    return _not_empty(rows, path)


def array(path: pathlib.Path) -> list[Row]:
    """The objects of a JSON file that holds one array."""
    text = _text(path)
    return _not_empty(_rows(path, text, _Json(path, text).members(0, "[")), path)


def whole(path: pathlib.Path) -> Row:
    """The object that a JSON file holds."""
    members = _Json(path, _text(path)).members(0, "{")
    return Row(path, 1, {key: value for key, value, _ in members})


def object_with_array(path: pathlib.Path, name: str) -> tuple[Row, list[Row]]:
    """The object that a JSON file holds, and the objects of the array in its field `name`."""
    text = _text(path)
    members = {key: (value, at) for key, value, at in _Json(path, text).members(0, "{")}
    whole = Row(path, 1, {key: value for key, (value, _) in members.items()})
    if name not in members:
        raise whole.error(f"no field {name!r}")
    at = members[name][1]
    if not isinstance(members[name][0], list):
        found = _kind(members[name][0])
        raise TaskError(f"{path}, line {_line(text, at)}: {name!r} is {found}; expected a list")
    inside = _Json(path, text).members(at, "[", partial=True)
    return whole, _not_empty(_rows(path, text, inside), path)


def _rows(path: pathlib.Path, text: str, members: Iterable[tuple[str, Any, int]]) -> list[Row]:
    """Members with their lines, counted on from one to the next: files have 50 MB."""
    rows, line, counted = [], 1, 0
    for _, value, at in members:
        line += text.count("\n", counted, at)
        counted = at
        rows.append(Row(path, line, value))
    return rows


def opening(path: pathlib.Path) -> str:
    """The first character that is not space, or "" of a blank file."""
    return _text(path).lstrip(_SPACE)[:1]


def _text(path: pathlib.Path) -> str:
    try:
        return regular.text(path)
    except FileNotFoundError:
        raise TaskError(f"{path}: no such file") from None
    except regular.UnreadableError as error:
        raise TaskError(error) from None
    except OSError as error:
        raise TaskError(f"{path}: {error.strerror}") from None


def _not_empty(rows: list[Row], path: pathlib.Path) -> list[Row]:
    if not rows:
        raise TaskError(f"{path}: no examples in it")
    return rows


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value"}
    return "null" if value is None else names.get(type(value), "a number")


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


@dataclasses.dataclass(frozen=True)
class _Json:
    """The text of a file, read piece by piece; every complaint names the line.

    json tells offsets only of syntax errors, and the line of a wrong field is wanted: so
    the outermost level is walked here and each member is decoded on its own.
    """

    path: pathlib.Path
    text: str

    def skip(self, position: int) -> int:
        """The first position from here on that is not space."""
        while position < len(self.text) and self.text[position] in _SPACE:
            position += 1
        return position

    def wrong(self, position: int, problem: str) -> TaskError:
        return TaskError(f"{self.path}, line {_line(self.text, position)}: {problem}")

    def early(self) -> TaskError:
        return self.wrong(len(self.text), "not JSON: the file ends too early")

    def expect(self, position: int, characters: str) -> str:
        """The character here, which must be one of these."""
        if position >= len(self.text):
            raise self.early()
        found = self.text[position]
        if found not in characters:
            wanted = " or ".join(repr(c) for c in characters)
            raise self.wrong(position, f"not JSON: found {found!r}, expected {wanted}")
        return found

    def decode(self, position: int) -> tuple[Any, int]:
        """The value that begins here, and the position after it."""
        try:
            return strict.parse_at(self.text, position)
        except json.JSONDecodeError as error:
            raise self.wrong(error.pos, f"not JSON: {error.msg}") from None
        except ValueError as error:
            raise self.wrong(position, str(error)) from None

    def members(
        self, at: int, opening: str, *, partial: bool = False
    ) -> Iterator[tuple[str, Any, int]]:
        """(key, value, offset of the value) of each member of the array or object at `at`.

        partial: text may follow the closing bracket.
        """
        text, closing = self.text, {"[": "]", "{": "}"}[opening]
        start = self.skip(at)
        if start < len(text) and text[start] in "[{" and text[start] != opening:
            wanted = "a list" if opening == "[" else "an object"
            raise self.wrong(start, f"the file does not hold {wanted}")
        self.expect(start, opening)
        position = self.skip(start + 1)
        first = True
        while not (first and position < len(text) and text[position] == closing):
            key = ""
            if opening == "{":
                self.expect(position, '"')
                key, position = self.decode(position)
                position = self.skip(position)
                self.expect(position, ":")
                position = self.skip(position + 1)
            if position >= len(text):
                raise self.early()
            begun = position
            value, position = self.decode(position)
            yield key, value, begun
            first = False
            position = self.skip(position)
            if self.expect(position, f",{closing}") == closing:
                break
            position = self.skip(position + 1)
        after = self.skip(position + 1)
        if not partial and after < len(text):
            raise self.wrong(after, f"not JSON: text after the closing {closing!r}")
