"""Files written beside their place and moved there, so that a kill leaves no half of one.

The file beside it has a name that nobody can guess and is made by this call or not at all
(O_EXCL), and a link at its place is never followed (O_NOFOLLOW): what is written lands in the
folder of the target and nowhere else. A link at the target itself is replaced, not followed.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_TOKEN_BYTES = 8
# A name may have 255 bytes, and the one beside it is longer by a token and two dots.
_KEPT = 255 - 2 * _TOKEN_BYTES - 2


@contextlib.contextmanager
def replacing(target: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """The file to write to; on leaving without an error it takes the place of target."""
    target = Path(target)
    temporary = target.with_name(f"{_beginning(target.name)}{secrets.token_hex(_TOKEN_BYTES)}")
    file = open(temporary, "xb", opener=opener)  # noqa: SIM115
    try:
        with file:
            yield file
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_bytes(target: str | os.PathLike[str], data: bytes) -> None:
    """Write a whole file, or leave what was there."""
    with replacing(target) as file:
        file.write(data)


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write a whole text file in UTF-8, whatever the locale, or leave what was there."""
    write_bytes(target, encoded(text))


def encoded(text: str) -> bytes:
    """The text in UTF-8; bytes of the command line that the locale could not read come back.

    Other halves of surrogate pairs, which are no text, are written as escapes.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def opener(path: str, flags: int) -> int:
    """For open(..., opener=opener): OSError where a link (ELOOP) or a pipe (ENXIO) is there."""
    # Without O_NONBLOCK a pipe would be waited for until somebody reads it.
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)


def leftovers(target: Path) -> list[Path]:
    """What a kill in the middle of replacing(target) left beside it."""
    # Told from a user's own hidden files by the token, of a fixed length.
    pattern = re.compile(re.escape(_beginning(target.name)) + f"[0-9a-f]{{{2 * _TOKEN_BYTES}}}")
    if not target.parent.is_dir():
        return []
    return [path for path in target.parent.iterdir() if pattern.fullmatch(path.name)]


def _beginning(name: str) -> str:
    return f".{os.fsdecode(os.fsencode(name)[:_KEPT])}."
