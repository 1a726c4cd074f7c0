"""A folder of its own for a run: apart from what is read, writable, and held by one process."""

import fcntl
import os
from pathlib import Path

from experiments.run.program import UserError

# The kernel releases a lock when its process ends, however it ends.
_locks: dict[str, int] = {}


def require_apart(out: Path, flag: str, path: str | os.PathLike[str]) -> None:
    """UserError where --flag=path is the folder out, lies in it or holds it."""
    if not os.fspath(path):
        return
    ours, theirs = out.resolve(), Path(path).resolve()
    for inner, outer, how in ((ours, theirs, "lies in"), (theirs, ours, "holds")):
        if inner == outer:
            raise UserError(
                f"--out={out} is --{flag}={path}; results need a directory of their own"
            )
        if outer in inner.parents:
            raise UserError(
                f"--out={out} {how} --{flag}={path}; results need a directory of their own"
            )


def make(folder: Path) -> None:
    """Make the folder if it is not there; UserError where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--out={folder} cannot be written: {error.strerror}") from error


def lock(folder: Path) -> None:
    """Hold the folder until this process ends; UserError where another one does."""
    name = str(folder.resolve())
    if name in _locks:
        return
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UserError(f"--out={folder} is in use by another process") from error
    except OSError:
        # Some network file systems know no locks; there the second process is not noticed.
        pass
    _locks[name] = descriptor
