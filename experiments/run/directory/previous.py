"""The results that --overwrite replaces: moved aside, removed once the new run has begun well.

A run directory lists what it owns in manifest.json. To overwrite it, all of that is moved into
.previous/, the manifest last; the new run then writes its own. When the new run has shown its
first result, .previous/ becomes .discarded/ and is removed. If it fails before, or is killed, what
is in .previous/ goes back, now or when the directory is opened again.

Every step is one rename on one file system, and a kill between two of them is recognised:

    .previous/ without a manifest     moving aside was cut short; nothing new was written
    .previous/ with a manifest        the manifest in place, if any, is that of the new run
    .discarded/                       the new run has begun well; only removing was cut short

Both are made by this module alone: a file or a link of such a name is refused when the directory
is opened (require_own), before anything is touched.
"""

import shutil
from pathlib import Path

from truncated_weights.experiments.run.directory import links
from truncated_weights.experiments.run.program import UserError
from truncated_weights.truncation.files import strict

MANIFEST = "manifest.json"
_ASIDE, _DISCARDED = ".previous", ".discarded"
# What a run directory has beside the files of the run.
_RESERVED = (_ASIDE, _DISCARDED, ".lock")


def owned(folder: Path) -> list[str]:
    """What the manifest of a run directory lists: files, and folders with a slash at the end.

    Empty where there is no manifest; ValueError where it is damaged.
    """
    try:
        names = strict.read(folder / MANIFEST)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / MANIFEST} is damaged") from error
    if not isinstance(names, list) or not all(_is_inside(name) for name in names):
        raise ValueError(f"{folder / MANIFEST} is damaged")
    return names


def _is_inside(name: object) -> bool:
    # A manifest must never lead out of its own directory, nor to what is no file of the run.
    parts = Path(name).parts if isinstance(name, str) and "\0" not in name else ("..",)
    inside = bool(parts) and ".." not in parts and not Path(*parts).is_absolute()
    return inside and parts[0] not in _RESERVED


def require_own(folder: Path) -> None:
    """UserError where this directory cannot be opened without following or removing a stranger."""
    for name in (_ASIDE, _DISCARDED):
        path = folder / name
        if links.is_link(path) or (path.exists() and not path.is_dir()):
            kind = "a link" if links.is_link(path) else "no folder"
            raise UserError(
                f"--out={folder}: {name} is {kind}, and that is where earlier results are put "
                "aside; move it away or choose another"
            )
    links.refuse(folder, (MANIFEST, "config.json"))
    aside = folder / _ASIDE
    for place in (folder, aside):
        links.refuse(place, owned(place), leaf=False)


def move_aside(folder: Path) -> None:
    """Take away everything the run in this directory owns; put_back or discard comes next."""
    aside = folder / _ASIDE
    aside.mkdir(exist_ok=True)
    for name in (*owned(folder), MANIFEST):
        _move(folder / name, aside / name)


def put_back(folder: Path) -> bool:
    """Undo move_aside, whatever the new run has written meanwhile; False if there was none."""
    if not links.is_link(folder / _DISCARDED):
        shutil.rmtree(folder / _DISCARDED, ignore_errors=True)
    aside = folder / _ASIDE
    if links.is_link(aside) or not aside.is_dir():
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
    if links.is_link(aside) or links.is_link(discarded):
        return
    shutil.rmtree(discarded, ignore_errors=True)
    if aside.is_dir():
        aside.rename(discarded)
        shutil.rmtree(discarded, ignore_errors=True)


def remove(folder: Path) -> None:
    """Remove everything the run in this directory owns, its manifest last."""
    for name in owned(folder):
        path = folder / name
        if not links.is_own(folder, path):
            continue  # not there, or behind a link and so somebody else's
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        _remove_empty(path.parent, folder)
    (folder / MANIFEST).unlink(missing_ok=True)


def _move(source: Path, target: Path) -> None:
    if not source.is_symlink() and not source.exists():
        return
    if _is_folder(target) and _is_folder(source):
        for entry in list(source.iterdir()):
            _move(entry, target / entry.name)
        _remove_empty(source, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    _remove_empty(source.parent, target.parent)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove_empty(folder: Path, top: Path) -> None:
    """A folder that held only what has gone, as figures/, goes too."""
    if folder != top and folder.name not in (_ASIDE,) and folder.is_dir():
        try:
            folder.rmdir()
        except OSError:
            return
