"""How much memory reading a file would take, refused before anything is allocated."""

import os
from pathlib import Path

# What a file may always unpack to, and how many times its own size beyond that.
HARMLESS = 2**28
RATIO = 32


class TooLargeError(ValueError):
    """What is in a file would take too much memory; the message is one line with the size."""


def host() -> int:
    """Bytes of the machine's memory, or of what its control group allows."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limits.append(int((Path("/sys/fs/cgroup") / name).read_text("ascii")))
        except (OSError, ValueError):  # no such limit, or the word "max"
            continue
    return min(limits)


def require(needed: int | float, what: str, *, stored: int | float = float("inf")) -> None:
    """TooLargeError if `what` needs more bytes than there are.

    stored: the size of the file; of a small one that needs many times as much nothing is read,
    however much memory there is.
    """
    limit = min(host(), max(HARMLESS, RATIO * stored))
    if not needed <= limit:
        raise TooLargeError(f"{what} would take {told(needed)}, and {told(limit)} are allowed")


def told(number: int | float) -> str:
    """Bytes in words, as "1.5 GB"."""
    for unit, size in (("GB", 2**30), ("MB", 2**20), ("kB", 2**10)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number:,.0f} bytes"
