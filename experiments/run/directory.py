"""The directory a run leaves behind, the same for every program.

    config.json      every resolved flag, versions, device, git commit
    metrics.jsonl    one flat line per logged step, slash-named scalars
    trajectory.npz   the same and more as arrays, enough to redraw every figure
    checkpoints/     what an interrupted run continues from
    figures/         *.png and *.pdf
    summary.json     one flat dictionary of final figures; written last, it marks a finished run

Every file is written beside its place and moved there, so that a kill at any moment leaves
the old file or the new one, never half of one.
"""

import contextlib
import dataclasses
import io
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.run import stop
from experiments.run.program import UserError

OURS = ("config.json", "metrics.jsonl", "trajectory.npz", "summary.json", "checkpoints", "figures")
# Settings that say where results go, not what they are.
PLACES = ("out", "overwrite")


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """One open run; create it with open_run."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Absolute, as orbax wants it."""
        return (self.path / "checkpoints").absolute()

    def promise(self) -> str:
        """What an interrupted run says about continuing."""
        try:
            kept = any(not path.name.startswith(".") for path in self.checkpoints.iterdir())
        except OSError:
            kept = False
        if kept:
            return "the same command continues from the last checkpoint"
        return "no checkpoint was written yet, the same command begins again"

    def write_json(self, name: str, value: Any) -> None:
        """Write one JSON file, floats with all their digits."""
        text = json.dumps(value, indent=1, default=_plain) + "\n"
        with _replacing(self.path / name) as temporary:
            temporary.write_text(text)

    def write_arrays(self, arrays: Mapping[str, Any], name: str = "trajectory.npz") -> None:
        """Write named arrays as one .npz."""
        buffer = io.BytesIO()
        np.savez(buffer, **{key: np.asarray(value) for key, value in arrays.items()})  # type: ignore[arg-type]
        with _replacing(self.path / name) as temporary:
            temporary.write_bytes(buffer.getvalue())

    def read_arrays(self, name: str = "trajectory.npz") -> dict[str, np.ndarray]:
        """What write_arrays wrote; empty where nothing was."""
        if not (self.path / name).exists():
            return {}
        with np.load(self.path / name) as arrays:
            return dict(arrays)

    def rewrite_metrics(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace metrics.jsonl: on continuing, lines beyond the checkpoint go."""
        with _replacing(self.path / "metrics.jsonl") as temporary:
            temporary.write_text("".join(_line(record) for record in records))

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add one flat record to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(_line(record))

    def save_figure(self, figure: Figure, name: str) -> Path:
        """Write figures/NAME.png and .pdf and return the first."""
        folder = self.path / "figures"
        folder.mkdir(exist_ok=True)
        for suffix in ("pdf", "png"):
            # No dates inside: the same arrays give the same bytes.
            stamp = {"CreationDate": None} if suffix == "pdf" else {}
            with _replacing(folder / f"{name}.{suffix}") as temporary:
                figure.savefig(temporary, format=suffix, dpi=160, metadata=stamp)
        return folder / f"{name}.png"

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, which marks the run as finished."""
        self.write_json("summary.json", summary)


def open_run(path: str | os.PathLike[str], config: Any, *, overwrite: bool) -> RunDirectory:
    """Open --out for a run with this configuration (a dataclass).

    A new or empty directory is begun; an unfinished run with the same settings is
    continued; anything else needs overwrite, which removes only what a run wrote.
    Raises UserError where the directory cannot be used.
    """
    folder = Path(path)
    settings = json.loads(json.dumps(dataclasses.asdict(config), default=_plain))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--out={folder} cannot be written: {error.strerror}") from error

    run = RunDirectory(folder)
    stop.promise(run.promise)
    _sweep(folder)
    if overwrite:
        for name in OURS:
            target = folder / name
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
    elif (folder / "summary.json").exists():
        raise UserError(f"--out={folder} holds a finished run; add --overwrite or choose another")
    elif (folder / "config.json").exists():
        _require_same_settings(folder, settings)
        return run
    run.write_json("config.json", {"flags": settings, **_environment()})
    return run


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The flags of a run directory; UserError where there is none."""
    file = Path(path) / "config.json"
    if not file.exists():
        raise UserError(f"{path} is not a run directory: it has no config.json")
    try:
        return json.loads(file.read_text())["flags"]
    except (json.JSONDecodeError, KeyError) as error:
        raise UserError(f"{file} is damaged: {error}") from error


def _sweep(folder: Path) -> None:
    """Remove what a kill in the middle of a write left beside its place (see _replacing)."""
    for name in (*OURS, "figures/*"):
        for leftover in folder.glob(str(Path(name).parent / f".{Path(name).name}.*")):
            if leftover.suffix[1:].isdigit():
                leftover.unlink(missing_ok=True)


def _require_same_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    before = read_config(folder)
    for name in sorted(set(before) | set(settings)):
        if name not in PLACES and before.get(name) != settings.get(name):
            raise UserError(
                f"--out={folder} holds an unfinished run with --{name}={before.get(name)}, "
                f"not {settings.get(name)}; add --overwrite or choose another"
            )


def _environment() -> dict[str, Any]:
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")
    device = jax.devices()[0]
    return {
        "versions": {name: metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "device": f"{device.device_kind} x {jax.local_device_count()} ({device.platform})",
        "git_commit": _git_commit(),
    }


def _git_commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        root = Path(__file__).parent
        return subprocess.run(
            command, cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return np.asarray(value).tolist()
    return str(value)
