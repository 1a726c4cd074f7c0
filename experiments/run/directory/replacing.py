"""Files written beside their place and moved there, so that a kill leaves no half of one."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from experiments.run.directory import previous


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """The path to write to; on leaving, what is there takes the place of target."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path, names: Iterable[str]) -> None:
    """Remove what a kill in the middle of a write left beside its place (see replacing)."""
    for name in (*names, previous.MANIFEST):
        target = folder / name
        for leftover in target.parent.glob(f".{target.name}.*"):
            if leftover.suffix[1:].isdigit():
                leftover.unlink(missing_ok=True)
