"""GGUF, the one file in which local models travel: weights, architecture and tokenizer.

container reads it, names says which parameter is what, tokens makes its tokenizer.
"""

import functools
import os
import pathlib
from typing import Any

from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.gguf import container

SUFFIX = ".gguf"


def place(path: str | os.PathLike[str]) -> pathlib.Path | None:
    """The GGUF file that a path means: itself, or the only one of a directory without config.json.

    Of a split file the first part. None where the path means none; CheckpointError where it may
    mean several.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() == SUFFIX and not path.is_dir():
        return path
    if not path.is_dir() or (path / "config.json").exists():
        return None
    found = sorted(
        file for file in path.glob(f"*{SUFFIX}")
        if "-of-" not in file.name or "-00001-of-" in file.name
    )  # fmt: skip
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:5])
        raise CheckpointError(f"{path}: several GGUF files ({names}); give the one that is meant")
    return found[0] if found else None


def read(path: pathlib.Path) -> container.Contents:
    """The contents of a file, read once while its parts stay as they are.

    Raises CheckpointError for an unsound file.
    """
    found = tuple(container.parts(path))
    try:
        stamps = tuple((part.stat().st_mtime_ns, part.stat().st_size) for part in found)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    return _read(found, stamps)


@functools.lru_cache(maxsize=2)
def _read(found: tuple[pathlib.Path, ...], stamps: tuple[Any, ...]) -> container.Contents:
    return container.read(found)
