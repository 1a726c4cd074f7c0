"""Ctrl-C and SIGTERM: noted at once, obeyed between two dispatches, never in the midst of one.

A signal handler that raised would raise wherever the interpreter happens to be, inside a callback
of XLA for example, where the exception is swallowed or crashes the process. So the handlers here
do nothing. The kernel also writes the signal into a pipe (signal.set_wakeup_fd); a thread reads
it and sets a flag, and the loops of the programs call check() between two dispatches.

A dispatch, a compilation or an import may take long. Whoever has not come to check() within
GRACE seconds, or gets a second signal, is ended where it is: every file is written beside its
place and then moved, so this loses no more than a check would.

Only the standard library is imported here, so that listen() comes before everything heavy.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable

GRACE = 3.0
CODE = 130


class Interrupted(BaseException):
    """A signal asked the program to stop; not an Exception, so that nobody takes it for one."""


_asked = threading.Event()
_left = threading.Event()
_promise: list[Callable[[], str]] = []
_before_leaving: list[Callable[[], None]] = []


def listen() -> None:
    """Install the handlers for SIGINT and SIGTERM; only the main thread may call this."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(reader,), daemon=True).start()


def promise(tell: Callable[[], str]) -> None:
    """From now on work may be under way: tell() says what continuing it would find.

    Before the first promise nothing is under way, and a signal ends the program at once.
    """
    _promise[:] = [tell]


def before_leaving(action: Callable[[], None]) -> None:
    """Have action called when the process is about to end itself."""
    _before_leaving.append(action)


def asked() -> bool:
    """Whether a signal came since the program began."""
    return _asked.is_set()


def check() -> None:
    """Raise Interrupted if a signal came since the program began."""
    if asked():
        raise Interrupted


def leave() -> None:
    """End the process with exit code 130 and one line, without the interpreter's own farewell.

    Threads of XLA and of the checkpointer may be at work, and tearing the interpreter down
    under them can crash.
    """
    if _left.is_set():  # the other thread is already leaving
        time.sleep(GRACE)
    _left.set()
    told = _promise[0] if _promise else lambda: "nothing was begun"
    try:
        message = told()
    except Exception:  # the directory itself may be gone
        message = "what was finished is kept"
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    tell(f"error: interrupted; {message}")
    _last_actions()
    os._exit(CODE)


def farewell(code: int) -> None:
    """End the process with this exit code, now that everything is written.

    The interpreter's own way out would restore the usual handlers first, so that a late signal
    ends a finished run with an error, and would tear down under the threads of the checkpointer.
    """
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        # As where the output goes to a file on a full disk.
        tell(f"error: the output could not be written: {' '.join(str(error).split())}")
        code = code or 1
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    _last_actions()
    os._exit(code)


def tell(line: str) -> None:
    """Write a line to stderr from whatever thread and moment, or nowhere if nobody reads it."""
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode(errors="replace"))


def _last_actions() -> None:
    for action in _before_leaving:
        action()


def _wait(reader: int) -> None:
    deadline: float | None = None
    while True:
        timeout = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        for number in _read(reader, timeout):
            if number not in (signal.SIGINT, signal.SIGTERM):
                continue
            if _asked.is_set() or not _promise:
                leave()
            _asked.set()
            deadline = time.monotonic() + GRACE
        if deadline is not None and time.monotonic() >= deadline:
            leave()


def _read(reader: int, timeout: float | None) -> bytes:
    ready, _, _ = select.select([reader], [], [], timeout)
    return os.read(reader, 64) if ready else b""
