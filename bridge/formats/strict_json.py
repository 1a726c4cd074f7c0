"""JSON from files nobody vouches for: size capped, duplicate keys and non-numbers refused."""

import json
import pathlib
from typing import Any

from bridge.errors import CheckpointError

LARGEST_FILE = 16 * 2**20


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise CheckpointError(f"the key {twice[:80]!r} occurs twice")
    return result


def _refuse_constant(name: str) -> None:
    raise CheckpointError(f"{name} is not JSON")


def parse(text: bytes, where: str) -> dict[str, Any]:
    """The JSON object in text.

    Raises CheckpointError, opening with `where`, for anything else: bad UTF-8, bad JSON,
    NaN or Infinity, a key given twice at any depth, nesting too deep, a top level that is
    not an object.
    """
    try:
        value = json.loads(
            text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from None
    except RecursionError:
        raise CheckpointError(f"{where}: nested too deeply") from None
    except ValueError as error:
        raise CheckpointError(f"{where}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def read(path: pathlib.Path) -> dict[str, Any]:
    """The JSON object in the file at path; CheckpointError if missing, over 16 MiB or bad."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if len(text) > LARGEST_FILE:
        raise CheckpointError(f"{path}: larger than {LARGEST_FILE} bytes")
    return parse(text, str(path))
