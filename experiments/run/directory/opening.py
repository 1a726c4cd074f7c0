"""The opening of a run directory: begun, continued, replaced, or refused and left as it was."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from experiments.run import program, provenance, stop
from experiments.run.directory import holding, previous, reading
from experiments.run.directory.files import Bystander, RunDirectory
from experiments.run.directory.replacing import sweep
from experiments.run.directory.strict import plain
from experiments.run.program import Place, UserError, one_line
from training import processes

Config = TypeVar("Config")


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
        holding.require_apart(folder, flag, path)
    record = {
        "program": place.program,
        "flags": plain(dataclasses.asdict(config)),
        "inputs": dict(digests),
    }
    holding.make(folder)
    holding.lock(folder)
    try:
        previous.put_back(folder)
        found = reading.found(folder, place.program)
    except ValueError as error:
        raise UserError(f"--out={folder}: {one_line(error)}; choose another") from error
    continues = found is not None and not place.overwrite
    if found is not None and continues:
        if (folder / "summary.json").exists():
            raise UserError(
                f"--out={folder} holds a finished run; add --overwrite or choose another"
            )
        reading.require_same(folder, found, record)
    left = previous.owned(folder)
    sweep(folder, left)
    # What is about to be moved aside belongs to the run before.
    replaces = found is not None and not continues
    run = RunDirectory(folder, owned=() if replaces else left, begun=continues)
    stop.promise(run.promise)
    if continues:
        return run
    program.undo_on_failure(run.take_back)
    if replaces:
        previous.move_aside(folder)
    run.write_json("config.json", {**record, **provenance.environment()})
    return run


def open_finished(
    path: str | os.PathLike[str], name: str, config_type: type[Config]
) -> tuple[RunDirectory, Config]:
    """A finished run of this program and its settings, to draw its figures again."""
    folder = Path(path)
    settings = reading.settings_of(folder, name, config_type)
    if not (folder / "summary.json").exists():
        raise UserError(f"--out={folder} is not finished: it has no summary.json yet")
    holding.lock(folder)
    try:
        owned = previous.owned(folder)
    except ValueError as error:
        raise UserError(one_line(error)) from error
    return RunDirectory(folder, owned=owned), settings
