"""Regular files alone are read: a FIFO or a device would be waited for, or never end."""

import errno
import io
import os
import stat
from pathlib import Path

from truncated_weights.truncation.files import room


class UnreadableError(OSError, ValueError):
    """What is there is no file to read; a ValueError too, as all that a user can cause.

    line: where in a text the fault is, None where it is in no line.
    """

    line: int | None = None

    def __str__(self) -> str:
        """One line that opens with the name, and the line if there is one."""
        where = "" if self.line is None else f", line {self.line}"
        return f"{self.filename}{where}: {self.strerror}"


# Of one file that is read whole; weights and data sets in columns are read in parts.
LARGEST = 2**31


def opened(path: str | os.PathLike[str]) -> io.BufferedReader:
    """The file, open for reading; links are followed.

    Raises OSError, whose strerror is one line, where it cannot be opened; UnreadableError, which
    is one, where it is no regular file.
    """
    name = os.fspath(path)
    flags = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    try:
        descriptor = os.open(name, flags)
    except ValueError:  # a NUL in the name, or letters that no file name here can have
        raise UnreadableError(errno.EINVAL, "no file can have this name", name) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        if not stat.S_ISREG(mode):
            raise UnreadableError(errno.EINVAL, "not a regular file", name)
        return io.BufferedReader(io.FileIO(descriptor))
    except BaseException:
        os.close(descriptor)
        raise


def content(path: str | os.PathLike[str], most: int = LARGEST) -> bytes:
    """All bytes of a regular file.

    Raises OSError where it cannot be read or has more than `most` bytes, or more than there is
    memory for; strerror is one line in every case.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > min(most, room.host()):
            most = min(most, room.host())
            reason = f"{room.told(size)} are more than the {room.told(most)} that are read"
            raise UnreadableError(errno.EINVAL, reason, os.fspath(path))
        # A file can grow meanwhile, and those of /proc have no size.
        found = file.read(most + 1)
    if len(found) > most:
        reason = f"more than the {room.told(most)} that are read"
        raise UnreadableError(errno.EINVAL, reason, os.fspath(path))
    return found


def text(path: str | os.PathLike[str], most: int = LARGEST) -> str:
    """A UTF-8 text, without a byte-order mark, every line ended by a line feed.

    Raises OSError as content does, and where it is not UTF-8.
    """
    raw = content(path, most)
    try:
        found = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 text ({error.reason})"
        fault = UnreadableError(errno.EILSEQ, reason, os.fspath(path))
        fault.line = raw.count(b"\n", 0, error.start) + 1
        raise fault from None
    return found.replace("\r\n", "\n").replace("\r", "\n")


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is anything of this name, also where no file can have it."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False
