"""JSON objects of checkpoints: size capped, everything else as truncation.files.strict has it."""

import pathlib
from typing import Any

from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.truncation.files import regular, strict

LARGEST_FILE = 16 * 2**20


def parse(text: bytes, where: str) -> dict[str, Any]:
    """The JSON object in text.

    Raises CheckpointError, opening with `where`, for anything else: bad UTF-8, bad JSON,
    NaN or Infinity, a key given twice at any depth, nesting too deep, numbers of a hundred
    digits, a top level that is not an object.
    """
    try:
        value = strict.parse(text)
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def read(path: pathlib.Path) -> dict[str, Any]:
    """The JSON object in the file at path; CheckpointError if missing, over 16 MiB or bad."""
    try:
        text = regular.content(path, LARGEST_FILE)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    return parse(text, str(path))
