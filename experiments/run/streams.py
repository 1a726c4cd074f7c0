"""Output whose reader may go away, or was never there: a run goes on to its result all the same.

`program 2>&1 | head -1` closes the pipe after one line, a daemon starts with descriptors closed,
a terminal hangs up. What is printed then goes nowhere; the results are in the files.

Names from files are printed too, and a terminal obeys what is in them: see Shown.

Only the standard library is needed here, so that settle() comes before everything else.
"""

import contextlib
import errno
import io
import os
import sys
from typing import Any

from truncated_weights.truncation.files import telling

# Of a pipe without a reader, a terminal without a user, a connection that was cut.
_NOBODY = (errno.EPIPE, errno.EIO, errno.ENOTCONN, errno.ECONNRESET)


class _Lasting(io.FileIO):
    """A descriptor that leads to nowhere once nobody reads it."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in _NOBODY:
                raise
            # For the descriptor too: libraries in other languages write to it directly.
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.fileno())
            return memoryview(data).nbytes


class Shown(io.TextIOWrapper):
    """A stream on which control characters are shown, not obeyed: names in a text come from files.

    Line breaks and tabs are the programs' own; what a bar needs beside them goes to raw().
    """

    def write(self, text: str) -> int:
        """Write the text; returns how many characters it had."""
        super().write(telling.shown(text, lines=True))
        return len(text)


class _Raw:
    """The stream below Shown, for a bar that goes back to the beginning of its line."""

    def __init__(self, stream: Shown) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return io.TextIOWrapper.write(self._stream, text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def raw(stream: Any) -> Any:
    """What to write to where a text moves the cursor; it holds no names from files."""
    return _Raw(stream) if isinstance(stream, Shown) else stream


def settle() -> None:
    """Make sys.stdout and sys.stderr last; nothing for those that were replaced by a test."""
    # A descriptor that is closed would be given to the next file that is opened, and what is
    # printed would be written into it.
    for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, flags)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
    for number, name in ((1, "stdout"), (2, "stderr")):
        before = getattr(sys, name)
        if before is not None and not isinstance(before, io.TextIOWrapper):
            continue
        with contextlib.suppress(OSError, ValueError):
            if before is not None:
                before.flush()
        below = _Lasting(number, "w", closefd=False)
        stream = Shown(
            io.BufferedWriter(below),
            encoding=getattr(before, "encoding", "utf-8"),
            # A terminal that cannot show a sign gets a question mark, not a traceback.
            errors="replace",
            line_buffering=number == 2 or below.isatty(),
        )
        setattr(sys, name, stream)


def speak_utf8() -> None:
    """Start this program again in Python's UTF-8 mode, unless file names are UTF-8 already.

    In a locale of fewer letters the names on a command line would come as halves of surrogate
    pairs, which config.json and archives of arrays cannot hold. Python does the same by itself for
    LC_ALL=C, unless PYTHONUTF8=0 forbids it. What is printed stays in the locale's encoding.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1":
        return
    shown = getattr(sys.stdout, "encoding", None) or "ascii"
    new = {"PYTHONUTF8": "1", "PYTHONIOENCODING": f"{shown}:replace"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **new})
