"""No links in what a run owns: following one would write, move or remove somebody else's files.

The run directory itself may be reached through links; below it every folder is the run's own.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from truncated_weights.experiments.run.program import UserError


def refuse(folder: Path, names: Iterable[str], *, leaf: bool = True) -> None:
    """UserError where one of these places below folder is a link, or lies behind one.

    leaf: also where only the last part of a name is a link; a name with a slash at its end is a
    folder, of which that always holds.
    """
    seen: set[Path] = set()
    for name in names:
        parts = PurePosixPath(name).parts
        count = len(parts) if leaf or name.endswith("/") else len(parts) - 1
        place = folder
        for part in parts[:count]:
            place = place / part
            if place not in seen and is_link(place):
                raise UserError(
                    f"--out={folder}: {place.relative_to(folder)} is a link, and a run writes "
                    "only into its own directory; remove the link or choose another"
                )
            seen.add(place)


def is_link(path: Path) -> bool:
    """Whether there is a link at this place, wherever it leads."""
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except OSError:
        return False


def is_own(folder: Path, path: Path) -> bool:
    """Whether path, itself perhaps a link, lies in folder by its true place."""
    try:
        parent = path.parent.resolve(strict=True)
    except OSError:
        return False
    return parent == folder.resolve() / path.parent.relative_to(folder)
