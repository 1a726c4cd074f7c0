"""The files of one run: named in its manifest, written whole, read back with their faults told."""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from matplotlib.figure import Figure

from truncated_weights.experiments.run import program
from truncated_weights.experiments.run.directory import links, previous, spreadsheet
from truncated_weights.experiments.run.directory.strict import line, plain
from truncated_weights.experiments.run.drawing import style
from truncated_weights.experiments.run.program import RunFailedError, UserError, one_line
from truncated_weights.training import atomic, records
from truncated_weights.training.records import Records
from truncated_weights.truncation.files import arrays, regular, room, strict

# Of a PNG, and of what a PDF holds as pixels.
DOTS_PER_INCH = 160


class RunDirectory:
    """The files of one run; open_run opens one for writing."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        owned: Iterable[str] = (),
        begun: bool = True,
        replaces: bool = False,
    ):
        """Reading what is there needs no open_run, and this does not touch the disk.

        owned: what is the run's already. begun: whether it has shown a result; until then
        take_back undoes it. replaces: whether an earlier run is moved aside for this one.
        """
        self.path = Path(path)
        self._owned = dict.fromkeys(owned)
        self._begun, self._undone, self._replaces = begun, False, replaces
        self._lost = ""
        # Of a run that continues config.json was there when it was opened.
        self._folder, self._configured = _identity(self.path), begun

    @property
    def checkpoints(self) -> Path:
        """Absolute, as orbax wants it."""
        return (self.path / "checkpoints").absolute()

    def promise(self) -> str:
        """What an interrupted run says about continuing."""
        if self._undone:
            return "nothing was begun, and what was there before is there again"
        with contextlib.suppress(OSError):
            if not self._begun and (self.path / ".previous").exists():
                return "nothing was begun, the earlier results stay"
            if any(not path.name.startswith(".") for path in self.checkpoints.iterdir()):
                return "the same command continues from the last checkpoint"
        return "no checkpoint was written yet, the same command begins again"

    def own(self, name: str, *, link: bool = False) -> Path:
        """The path of a file, or with a slash at the end a folder, that this run is to write.

        It is in the manifest before it is on the disk, so that nothing is left behind. UserError
        where a link is in the way (link: a link at the very place is the run's own),
        RunFailedError where the directory is no more what was opened.
        """
        if told := self.gone():
            raise RunFailedError(told)
        links.refuse(self.path, (name,), leaf=not link)
        if name not in self._owned and not any(
            name.startswith(folder) for folder in self._owned if folder.endswith("/")
        ):
            self._owned[name] = None
            manifest = json.dumps(list(self._owned), indent=0) + "\n"
            atomic.write_text(self.path / previous.MANIFEST, manifest)
        # Never the directory itself: removed since the look above, it stays removed.
        folder = self.path
        for part in Path(name).parts if name.endswith("/") else Path(name).parts[:-1]:
            folder /= part
            folder.mkdir(exist_ok=True)
        return self.path / name

    def begin(self) -> None:
        """The run has its first result: what it replaces is removed for good."""
        if not self._begun:
            self._begun = True
            previous.discard(self.path)

    def take_back(self) -> None:
        """Leave the directory as it was found, if the run failed before its first result."""
        if not self._begun:
            self._lost = self.gone()
            self._begun = self._undone = True
            if _identity(self.path) != self._folder:
                return  # removed, and whatever is there now is not this run's
            # Where the earlier run could not even be moved aside, what is there is still its own.
            if not previous.put_back(self.path) and not self._replaces:
                previous.remove(self.path)

    def gone(self) -> str:
        """What to say where the directory is no more the one that was opened; empty if it is."""
        if self._undone:
            return self._lost
        there = _identity(self.path) == self._folder
        if there and (not self._configured or (self.path / "config.json").exists()):
            return ""
        return f"{self.path} was removed or replaced while the run was going on"

    def write_json(self, name: str, value: Any) -> None:
        """Write one JSON file, floats with all their digits."""
        self.write_text(name, json.dumps(plain(value), indent=1, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write one text file."""
        atomic.write_text(self.own(name), text)
        self._configured |= name == "config.json"

    def write_csv(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """One line per row under the union of their keys in order of appearance.

        What does not exist, or is not finite, is empty.
        """
        self.write_text(name, spreadsheet.text(rows))

    def write_jsonl(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """One JSON object per row."""
        self.write_text(name, "".join(line(row) for row in rows))

    def write_arrays(self, arrays: Mapping[str, Any], name: str = "trajectory.npz") -> None:
        """Write named arrays as one .npz."""
        self.begin()
        buffer = io.BytesIO()
        np.savez(buffer, **{key: np.asarray(value) for key, value in arrays.items()})  # type: ignore[arg-type]
        atomic.write_bytes(self.own(name), buffer.getvalue())

    def read_arrays(self, name: str = "trajectory.npz") -> dict[str, np.ndarray]:
        """What write_arrays wrote; empty where nothing was, UserError where it is damaged."""
        file = self.path / name
        if not file.exists():
            return {}
        try:
            return arrays.read(file)
        except room.TooLargeError as error:
            raise UserError(f"{file.parent}: {error}") from error
        except Exception as error:  # zipfile, zlib and numpy have an exception for every damage
            raise UserError(f"{file} is damaged; add --overwrite to begin again") from error

    def write_records(self, found: Records, name: str = records.FILE) -> None:
        """Write all blocks as one netCDF file."""
        self.begin()
        atomic.write_bytes(self.own(name), records.encoded(found))

    def read_records(self, name: str = records.FILE) -> Records:
        """What write_records wrote; empty where nothing was, UserError where it is damaged."""
        if not (self.path / name).exists():
            return Records({})
        try:
            return records.decoded(regular.content(self.path / name))
        except (OSError, records.DamagedRecordsError) as error:
            raise UserError(
                f"{self.path / name}: {error}; add --overwrite to begin again"
            ) from error

    def keep(self, name: str, arrays: Mapping[str, Any], value: Any = None) -> None:
        """Keep a finished part of the run, arrays and a JSON-able value: checkpoints/NAME.npz."""
        self.own("checkpoints/")
        text = json.dumps(plain(value), allow_nan=False)
        self.write_arrays({**arrays, "json": np.array(text)}, f"checkpoints/{name}.npz")

    def kept(self, name: str) -> tuple[dict[str, np.ndarray], Any] | None:
        """What keep kept; None where it did not, or where it is damaged: then make it again."""
        try:
            found = self.read_arrays(f"checkpoints/{name}.npz")
            return (found, strict.parse(str(found.pop("json")))) if found else None
        except (UserError, ValueError, KeyError):
            program.note(f"checkpoints/{name}.npz is damaged; that part is made again")
            return None

    def keep_records(self, name: str, found: Records) -> None:
        """Keep a finished part of the run: checkpoints/NAME.nc."""
        self.own("checkpoints/")
        self.write_records(found, _part(name))

    def kept_records(self, name: str) -> Records | None:
        """What keep_records kept; None where it did not, or where it is damaged: make it again."""
        try:
            return self.read_records(_part(name)) or None
        except UserError:
            program.note(f"{_part(name)} is damaged; that part is made again")
            return None

    def forget(self, name: str) -> None:
        """Remove what was kept under a name, file or folder, and is no longer needed."""
        links.refuse(self.path, ("checkpoints/",))
        for suffix in ("npz", "nc"):
            (self.path / "checkpoints" / f"{name}.{suffix}").unlink(missing_ok=True)
        shutil.rmtree(self.path / "checkpoints" / name, ignore_errors=True)

    def read_rows(self, name: str) -> list[dict[str, Any]]:
        """The rows that write_jsonl wrote; UserError where they are not there or damaged."""
        file = self.path / name
        try:
            return strict.lines(file)
        except (OSError, ValueError) as error:
            raise UserError(f"{file} is missing or damaged: {one_line(error)}") from error

    def rewrite_metrics(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace metrics.jsonl: on continuing, lines beyond the checkpoint go."""
        self.write_jsonl("metrics.jsonl", records)

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add one flat record to metrics.jsonl."""
        self.begin()
        with open(self.own("metrics.jsonl"), "a", encoding="utf-8", opener=atomic.opener) as file:
            file.write(line(record))

    def save_figure(self, figure: Figure, name: str) -> Path:
        """Write figures/NAME.png and .pdf and return the first."""
        # Laid out once, at the resolution of the PNG. Left to savefig, the layout would be found
        # by drawing everything once more for each of the files, half of what they cost.
        figure.set_dpi(DOTS_PER_INCH)
        style.tame(figure)
        if (layout := figure.get_layout_engine()) is not None:
            layout.execute(figure)
            figure.set_layout_engine(None)
        for suffix in ("png", "pdf"):
            # No dates inside: the same arrays give the same bytes.
            stamp = {"CreationDate": None} if suffix == "pdf" else {}
            with atomic.replacing(self.own(f"figures/{name}.{suffix}")) as file:
                figure.savefig(file, format=suffix, dpi=DOTS_PER_INCH, metadata=stamp)
        return self.path / "figures" / f"{name}.png"

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, which marks the run as finished."""
        self.begin()
        self.write_json("summary.json", summary)


class Bystander(RunDirectory):
    """The directory as a process sees it that only helps to compute: read, never written."""

    def own(self, name: str, *, link: bool = False) -> Path:
        """Where process 0 has this file."""
        return self.path / name

    def begin(self) -> None:
        """Nothing: process 0 does."""

    def write_text(self, name: str, text: str) -> None:
        """Nothing: process 0 does."""

    def write_arrays(self, arrays: Mapping[str, Any], name: str = "trajectory.npz") -> None:
        """Nothing: process 0 does."""

    def write_records(self, found: Records, name: str = records.FILE) -> None:
        """Nothing: process 0 does."""

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Nothing: process 0 does."""

    def save_figure(self, figure: Figure, name: str) -> Path:
        """Nothing: process 0 does."""
        return self.path / "figures" / f"{name}.png"

    def forget(self, name: str) -> None:
        """Nothing: process 0 does."""


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells this directory from every other, whatever their names; None where none is."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _part(name: str) -> str:
    """The file of a part, whatever signs its name has."""
    return f"checkpoints/{quote(name, safe='@+:=,. ')}.nc"
