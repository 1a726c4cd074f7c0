"""The directory a run leaves behind, the same for every program.

    config.json      the program, every resolved setting, digests of what it read, versions, device
    metrics.jsonl    one flat line per logged step, slash-named scalars
    trajectory.npz   the same and more as arrays, enough to redraw every figure
    checkpoints/     what an interrupted run continues from
    figures/         *.png and *.pdf
    summary.json     one flat dictionary of final figures; written last, it marks a finished run
    manifest.json    every file that the run wrote, and so may remove

Every file is written beside its place and moved there, so that a kill at any moment leaves the old
file or the new one, never half of one. One process at a time may have a directory open. JSON is
strict: what is not a finite number is null.
"""

import contextlib
import csv
import dataclasses
import fcntl
import io
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.run import previous, program, provenance, stop
from experiments.run.program import Place, UserError, one_line, user_errors
from training import processes

Config = TypeVar("Config")

# The kernel releases a lock when its process ends, however it ends.
_locks: dict[str, int] = {}


class RunDirectory:
    """The files of one run; open_run opens one for writing."""

    def __init__(self, path: str | os.PathLike[str]):
        """Reading what is there needs no open_run, and this does not touch the disk."""
        self.path = Path(path)
        self._owned: dict[str, None] = {}
        self._begun, self._undone = True, False

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

    def own(self, name: str) -> Path:
        """The path of a file, or with a slash at the end a folder, that this run is to write.

        It is in the manifest before it is on the disk, so that nothing is left behind.
        """
        if name not in self._owned and not any(
            name.startswith(folder) for folder in self._owned if folder.endswith("/")
        ):
            self._owned[name] = None
            with _replacing(self.path / previous.MANIFEST) as temporary:
                temporary.write_text(json.dumps(list(self._owned), indent=0) + "\n")
        path = self.path / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        return path

    def begin(self) -> None:
        """The run has its first result: what it replaces is removed for good."""
        if not self._begun:
            self._begun = True
            previous.discard(self.path)

    def write_json(self, name: str, value: Any) -> None:
        """Write one JSON file, floats with all their digits."""
        self.write_text(name, json.dumps(plain(value), indent=1, allow_nan=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write one text file."""
        with _replacing(self.own(name)) as temporary:
            temporary.write_text(text)

    def write_csv(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """One line per row under the union of their keys in order of appearance."""
        buffer = io.StringIO()
        columns = list(dict.fromkeys(key for row in rows for key in row))
        writer = csv.DictWriter(buffer, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write_text(name, buffer.getvalue())

    def write_jsonl(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """One JSON object per row."""
        self.write_text(name, "".join(_line(row) for row in rows))

    def write_arrays(self, arrays: Mapping[str, Any], name: str = "trajectory.npz") -> None:
        """Write named arrays as one .npz."""
        self.begin()
        buffer = io.BytesIO()
        np.savez(buffer, **{key: np.asarray(value) for key, value in arrays.items()})  # type: ignore[arg-type]
        with _replacing(self.own(name)) as temporary:
            temporary.write_bytes(buffer.getvalue())

    def read_arrays(self, name: str = "trajectory.npz") -> dict[str, np.ndarray]:
        """What write_arrays wrote; empty where nothing was, UserError where it is damaged."""
        file = self.path / name
        if not file.exists():
            return {}
        try:
            # The checksum of every array is verified as it is read.
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
                return dict(arrays)
        except Exception as error:  # zipfile, zlib and numpy have an exception for every damage
            raise UserError(f"{file} is damaged; add --overwrite to begin again") from error

    def keep(self, name: str, arrays: Mapping[str, Any], value: Any = None) -> None:
        """Keep a finished part of the run, arrays and a JSON-able value: checkpoints/NAME.npz."""
        self.own("checkpoints/")
        text = json.dumps(plain(value), allow_nan=False)
        self.write_arrays({**arrays, "json": np.array(text)}, f"checkpoints/{name}.npz")

    def kept(self, name: str) -> tuple[dict[str, np.ndarray], Any] | None:
        """What keep kept; None where it did not, or where it is damaged: then make it again."""
        try:
            arrays = self.read_arrays(f"checkpoints/{name}.npz")
            return (arrays, json.loads(str(arrays.pop("json")))) if arrays else None
        except (UserError, ValueError, KeyError):
            program.note(f"checkpoints/{name}.npz is damaged; that part is made again")
            return None

    def forget(self, name: str) -> None:
        """Remove what was kept under a name, file or folder, and is no longer needed."""
        (self.path / "checkpoints" / f"{name}.npz").unlink(missing_ok=True)
        shutil.rmtree(self.path / "checkpoints" / name, ignore_errors=True)

    def read_rows(self, name: str) -> list[dict[str, Any]]:
        """The rows that write_jsonl wrote; UserError where they are not there or damaged."""
        file = self.path / name
        try:
            return [json.loads(line) for line in file.read_text().splitlines()]
        except (OSError, ValueError) as error:
            raise UserError(f"{file} is missing or damaged: {one_line(error)}") from error

    def rewrite_metrics(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace metrics.jsonl: on continuing, lines beyond the checkpoint go."""
        self.write_jsonl("metrics.jsonl", records)

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add one flat record to metrics.jsonl."""
        self.begin()
        with self.own("metrics.jsonl").open("a") as file:
            file.write(_line(record))

    def save_figure(self, figure: Figure, name: str) -> Path:
        """Write figures/NAME.png and .pdf and return the first."""
        for suffix in ("png", "pdf"):
            # No dates inside: the same arrays give the same bytes.
            stamp = {"CreationDate": None} if suffix == "pdf" else {}
            with _replacing(self.own(f"figures/{name}.{suffix}")) as temporary:
                figure.savefig(temporary, format=suffix, dpi=160, metadata=stamp)
            # The layout is found by drawing; both files have the one that was found first.
            figure.set_layout_engine("none")
        return self.path / "figures" / f"{name}.png"

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, which marks the run as finished."""
        self.begin()
        self.write_json("summary.json", summary)


class Bystander(RunDirectory):
    """The directory as a process sees it that only helps to compute: read, never written."""

    def own(self, name: str) -> Path:
        """Where process 0 has this file."""
        return self.path / name

    def begin(self) -> None:
        """Nothing: process 0 does."""

    def write_text(self, name: str, text: str) -> None:
        """Nothing: process 0 does."""

    def write_arrays(self, arrays: Mapping[str, Any], name: str = "trajectory.npz") -> None:
        """Nothing: process 0 does."""

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Nothing: process 0 does."""

    def save_figure(self, figure: Figure, name: str) -> Path:
        """Nothing: process 0 does."""
        return self.path / "figures" / f"{name}.png"

    def forget(self, name: str) -> None:
        """Nothing: process 0 does."""


def open_run(
    place: Place,
    config: Any,
    *,
    inputs: Mapping[str, str | os.PathLike[str]] | None = None,
    digests: Mapping[str, str] | None = None,
) -> RunDirectory:
    """Open place.out for a run of place.program with this configuration (a dataclass).

    inputs: {flag: path} that the run reads; none may lie in the directory or around it.
    digests: {what: digest} of everything that the results depend on beside the configuration.

    A new or empty directory is begun. An unfinished run of the same program with the same settings
    and digests is continued. A finished or different run of the same program is replaced if
    place.overwrite; it comes back if the new run fails before its first result. Anything else
    raises UserError, and nothing is touched.

    Of several processes, process 0 does this and the others learn how it ended; what they then
    hold reads but never writes.
    """
    if not processes.first():
        if told := processes.tell(""):
            raise UserError(told)
        bystander = Bystander(place.out)
        stop.promise(bystander.promise)
        return bystander
    try:
        opened = _open(place, config, inputs or {}, digests or {})
    except UserError as error:
        processes.tell(str(error))
        raise
    processes.tell("")
    return opened


def _open(
    place: Place,
    config: Any,
    inputs: Mapping[str, str | os.PathLike[str]],
    digests: Mapping[str, str],
) -> RunDirectory:
    folder = Path(place.out)
    for flag, path in inputs.items():
        _require_apart(folder, flag, path)
    record = {
        "program": place.program,
        "flags": plain(dataclasses.asdict(config)),
        "inputs": dict(digests),
    }
    _make(folder)
    _lock(folder)
    try:
        previous.put_back(folder)
        found = _found(folder, place.program)
    except ValueError as error:
        raise UserError(f"--out={folder}: {one_line(error)}; choose another") from error
    run = RunDirectory(folder)
    continues = False
    if found is not None and not place.overwrite:
        if (folder / "summary.json").exists():
            raise UserError(
                f"--out={folder} holds a finished run; add --overwrite or choose another"
            )
        _require_same(folder, found, record)
        continues = True
    run._owned = dict.fromkeys(previous.owned(folder))
    _sweep(folder, run._owned)
    stop.promise(run.promise)
    if continues:
        return run
    run._begun = False
    program.undo_on_failure(lambda: _take_back(run))
    if found is not None:
        previous.move_aside(folder)
        run._owned = {}
    run.write_json("config.json", {**record, **provenance.environment()})
    return run


def open_finished(
    path: str | os.PathLike[str], name: str, config_type: type[Config]
) -> tuple[RunDirectory, Config]:
    """A finished run of this program and its settings, to draw its figures again."""
    folder = Path(path)
    settings = settings_of(folder, name, config_type)
    if not (folder / "summary.json").exists():
        raise UserError(f"--out={folder} is not finished: it has no summary.json yet")
    _lock(folder)
    run = RunDirectory(folder)
    try:
        run._owned = dict.fromkeys(previous.owned(folder))
    except ValueError as error:
        raise UserError(one_line(error)) from error
    return run, settings


def settings_of(path: str | os.PathLike[str], name: str, config_type: type[Config]) -> Config:
    """The settings with which a run of this program was started; UserError where it is none.

    A setting that the program did not have then is what its default says: every default means
    what was done before it existed.
    """
    found = read_config(path, name)
    fields = {field.name for field in dataclasses.fields(config_type)}  # type: ignore[arg-type]
    if not fields & set(found):
        raise UserError(f"{path} is not a run of {name}: it has none of its flags")
    with user_errors():
        return config_type(
            **{k: tuple(v) if isinstance(v, list) else v for k, v in found.items() if k in fields}
        )


def read_config(path: str | os.PathLike[str], name: str | None = None) -> dict[str, Any]:
    """The settings of a run directory; UserError where there is none, or of another program."""
    file = Path(path) / "config.json"
    if not os.fspath(path):
        raise UserError("no run directory is named")
    # Of a name that is too long pathlib raises an error; this says no.
    if not os.path.isfile(file):
        raise UserError(f"{path} is not a run directory: it has no config.json")
    try:
        found = json.loads(file.read_text())
        if "flags" in found and "program" not in found:
            raise ValueError("it names no program, as one of another version does")
        settings, program_name = found["flags"], found["program"]
        if not isinstance(settings, dict):
            raise TypeError("flags is no dictionary")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged: {one_line(error)}") from error
    if name is not None and program_name != name:
        raise UserError(f"{path} is a run of {program_name}, not of {name}")
    return settings


def plain(value: Any) -> Any:
    """Value as strict JSON has it: arrays as lists, numbers that are not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _require_apart(out: Path, flag: str, path: str | os.PathLike[str]) -> None:
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


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--out={folder} cannot be written: {error.strerror}") from error


def _lock(folder: Path) -> None:
    name = str(folder.resolve())
    if name in _locks:
        return
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UserError(f"--out={folder} is in use by another process") from error
    except OSError:
        # Some network file systems know no locks; there the second process is not noticed.
        pass
    _locks[name] = descriptor


def _found(folder: Path, name: str) -> dict[str, Any] | None:
    """config.json of the run in this directory, None for an empty one.

    UserError where the directory holds something else than a run of this program.
    """
    if (folder / "config.json").exists():
        read_config(folder, name)
        previous.owned(folder)
        return json.loads((folder / "config.json").read_text())
    # A run killed at its very beginning has only a manifest.
    visible = [p.name for p in folder.iterdir() if not p.name.startswith(".")]
    if any(entry != previous.MANIFEST for entry in visible):
        raise UserError(f"--out={folder} is not empty and holds no run; choose another")
    return None


def _require_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    hint = "add --overwrite or choose another"
    old, new = before["flags"], now["flags"]
    for name in sorted(set(old) | set(new)):
        if old.get(name) != new.get(name):
            raise UserError(
                f"--out={folder} holds an unfinished run with --{name}={old.get(name)}, "
                f"not {new.get(name)}; {hint}"
            )
    for name, digest in now["inputs"].items():
        if before.get("inputs", {}).get(name) != digest:
            raise UserError(
                f"--out={folder} holds an unfinished run, and {name} has changed since; {hint}"
            )


def _take_back(run: RunDirectory) -> None:
    """The run failed before its first result: leave the directory as it was found."""
    if not run._begun:
        run._begun = run._undone = True
        if not previous.put_back(run.path):
            previous.remove(run.path)


def _sweep(folder: Path, names: Iterable[str]) -> None:
    """Remove what a kill in the middle of a write left beside its place (see _replacing)."""
    for name in (*names, previous.MANIFEST):
        target = folder / name
        for leftover in target.parent.glob(f".{target.name}.*"):
            if leftover.suffix[1:].isdigit():
                leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(plain(record), allow_nan=False) + "\n"
