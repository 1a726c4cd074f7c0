"""A folder of its own for a run: apart from what is read, writable, and held by one process."""

import contextlib
import fcntl
import os
import secrets
import socket
import tempfile
from pathlib import Path

from truncated_weights.experiments.run import stop
from truncated_weights.experiments.run.program import UserError
from truncated_weights.training import atomic
from truncated_weights.truncation.files import regular

# Where a file system knows no locks, this file says which process has the folder.
HELD = ".held"
LONGEST_NAME = 4096
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
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"--out={folder} cannot be written: {error.strerror}") from error


def lock(folder: Path) -> None:
    """Hold the folder until this process ends; UserError where another one does."""
    name = str(folder.resolve())
    if name in _locks and _is_here(folder, _locks[name]):
        return
    try:
        descriptor = atomic.opener(str(folder / ".lock"), os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise UserError(f"--out={folder}: .lock cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UserError(f"--out={folder} is in use by another process") from error
    except OSError:
        # Some network file systems know no locks.
        _hold_by_file(folder)
    _locks[name] = descriptor


def _is_here(folder: Path, descriptor: int) -> bool:
    """Whether the lock that is held is this folder's still, not that of one removed since."""
    try:
        return os.path.samestat(os.stat(folder / ".lock"), os.fstat(descriptor))
    except OSError:
        return False


def _hold_by_file(folder: Path) -> None:
    """Hold the folder by a file that only one process can make, and that says who did."""
    path, mine = folder / HELD, _who(os.getpid())
    for _ in range(2):
        try:
            with open(path, "x", encoding="utf-8", opener=atomic.opener) as file:
                file.write(mine)
        except FileExistsError:
            if not _is_stale(path):
                break
            _take_away(path)
        else:
            stop.before_leaving(lambda: _let_go(path, mine))
            return
    raise UserError(
        f"--out={folder} is in use by the process that {HELD} names; if that has ended, remove "
        "the file"
    )


def _who(process: int) -> str:
    """Host, number and time of start of a process, or no time where it has ended."""
    try:
        status = Path(f"/proc/{process}/stat").read_text("utf-8", "replace")
        started = status.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        started = "ended"
    return f"{socket.gethostname()} {process} {started}"


def _is_stale(path: Path) -> bool:
    """Whether the process that a file names was one of this host and has ended."""
    try:
        named = regular.text(path, LONGEST_NAME)
        host, process, _ = named.split()
        return host == socket.gethostname() and _who(int(process)) != named
    except (OSError, ValueError):
        return False


def _take_away(path: Path) -> None:
    """Remove a stale file; where another process was faster, what it made is put back."""
    moved = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with contextlib.suppress(OSError):
        path.rename(moved)
        if not _is_stale(moved):
            os.link(moved, path)
        moved.unlink()


def _let_go(path: Path, mine: str) -> None:
    with contextlib.suppress(OSError):
        if regular.text(path, LONGEST_NAME) == mine:
            path.unlink()
