"""The results that --overwrite replaces: moved aside, removed once the new run has begun well.

A run directory lists what it owns in manifest.json. To overwrite it, all of that is moved into
.previous/, the manifest last; the new run then writes its own. When the new run has shown its
first result, .previous/ becomes .discarded/ and is removed. If it fails before, or is killed, what
is in .previous/ goes back, now or when the directory is opened again.

Every step is one rename on one file system, and a kill between two of them is recognised:

    .previous/ without a manifest     moving aside was cut short; nothing new was written
    .previous/ with a manifest        the manifest in place, if any, is that of the new run
    .discarded/                       the new run has begun well; only removing was cut short
"""

import json
import shutil
from pathlib import Path

MANIFEST = "manifest.json"
_ASIDE, _DISCARDED = ".previous", ".discarded"


def owned(folder: Path) -> list[str]:
    """What the manifest of a run directory lists: files, and folders with a slash at the end.

    Empty where there is no manifest; ValueError where it is damaged.
    """
    try:
        names = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / MANIFEST} is damaged") from error
    if not isinstance(names, list) or not all(_is_inside(name) for name in names):
        raise ValueError(f"{folder / MANIFEST} is damaged")
    return names


def _is_inside(name: object) -> bool:
    # A manifest must never lead out of its own directory.
    parts = Path(name).parts if isinstance(name, str) else ("..",)
    return bool(parts) and ".." not in parts and not Path(*parts).is_absolute()


def move_aside(folder: Path) -> None:
    """Take away everything the run in this directory owns; put_back or discard comes next."""
    aside = folder / _ASIDE
    aside.mkdir(exist_ok=True)
    for name in (*owned(folder), MANIFEST):
        _move(folder / name, aside / name)


def put_back(folder: Path) -> bool:
    """Undo move_aside, whatever the new run has written meanwhile; False if there was none."""
    shutil.rmtree(folder / _DISCARDED, ignore_errors=True)
    aside = folder / _ASIDE
    if not aside.is_dir():
        return False
    if (aside / MANIFEST).exists():
        remove(folder)
    # The manifest goes last: until then another attempt does the same again.
    for name in (*owned(aside), *(p.name for p in aside.iterdir() if p.name != MANIFEST)):
        _move(aside / name, folder / name)
    _move(aside / MANIFEST, folder / MANIFEST)
    shutil.rmtree(aside)
    return True


def discard(folder: Path) -> None:
    """The new run has begun well: what was moved aside is removed for good."""
    aside, discarded = folder / _ASIDE, folder / _DISCARDED
    shutil.rmtree(discarded, ignore_errors=True)
    if aside.is_dir():
        aside.rename(discarded)
        shutil.rmtree(discarded, ignore_errors=True)


def remove(folder: Path) -> None:
    """Remove everything the run in this directory owns, its manifest last."""
    for name in owned(folder):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        _remove_empty(path.parent, folder)
    (folder / MANIFEST).unlink(missing_ok=True)


def _move(source: Path, target: Path) -> None:
    if not source.is_symlink() and not source.exists():
        return
    if target.is_dir() and source.is_dir() and not source.is_symlink():
        for entry in list(source.iterdir()):
            _move(entry, target / entry.name)
        _remove_empty(source, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    _remove_empty(source.parent, target.parent)


def _remove_empty(folder: Path, top: Path) -> None:
    """A folder that held only what has gone, as figures/, goes too."""
    if folder != top and folder.name not in (_ASIDE,) and folder.is_dir():
        try:
            folder.rmdir()
        except OSError:
            return
