"""What a run directory says about itself: its program and the settings it was started with."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from truncated_weights.experiments.run.directory import numerics, previous
from truncated_weights.experiments.run.program import UserError, one_line, user_errors
from truncated_weights.truncation.files import strict

Config = TypeVar("Config")


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
        found = strict.read(file)
        if "flags" in found and "program" not in found:
            raise ValueError("it names no program, as one of another version does")
        settings, program_name = found["flags"], found["program"]
        if not isinstance(settings, dict):
            raise TypeError("flags is no dictionary")
        if not isinstance(found.get("inputs", {}), dict):
            raise TypeError("inputs is no dictionary")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged: {one_line(error)}") from error
    if name is not None and program_name != name:
        raise UserError(f"{path} is a run of {program_name}, not of {name}")
    return settings


def require_same_stream(path: str | os.PathLike[str]) -> None:
    """UserError where what a run drew from its seeds is not what this process would draw."""
    read_config(path)
    if told := numerics.refusal(strict.read(Path(path) / "config.json"), stream_only=True):
        raise UserError(f"the run in {path} {told}")


def found(folder: Path, name: str) -> dict[str, Any] | None:
    """config.json of the run in this directory, None for an empty one.

    UserError where the directory holds something else than a run of this program.
    """
    if (folder / "config.json").exists():
        read_config(folder, name)
        previous.owned(folder)
        return strict.read(folder / "config.json")
    # A run killed at its very beginning has only a manifest.
    visible = [p.name for p in folder.iterdir() if not p.name.startswith(".")]
    if any(entry != previous.MANIFEST for entry in visible):
        raise UserError(f"--out={folder} is not empty and holds no run; choose another")
    return None


def require_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """UserError where an unfinished run had other settings or read something else."""
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
