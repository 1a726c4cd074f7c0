"""The opening of a run directory: begun, continued, replaced, or refused and left as it was."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from truncated_weights.experiments.run import program, provenance, stop
from truncated_weights.experiments.run.directory import holding, numerics, previous, reading
from truncated_weights.experiments.run.directory.files import Bystander, RunDirectory
from truncated_weights.experiments.run.directory.strict import plain
from truncated_weights.experiments.run.program import Place, UserError, one_line
from truncated_weights.training import atomic, processes

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
    and digests is continued; where another random stream or precision would make a mixture of it,
    it is refused. A finished or different run of the same program is replaced if
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
        previous.require_own(folder)
        previous.put_back(folder)
        found = reading.found(folder, place.program)
    except (ValueError, FileExistsError, NotADirectoryError) as error:
        raise UserError(f"--out={folder}: {one_line(error)}; choose another") from error
    continues = found is not None and not place.overwrite
    if found is not None and continues:
        if (folder / "summary.json").exists():
            raise UserError(
                f"--out={folder} holds a finished run; add --overwrite or choose another"
            )
        reading.require_same(folder, found, record)
        if told := numerics.refusal(found):
            raise UserError(
                f"--out={folder} holds an unfinished run that {told}, add --overwrite or choose "
                "another"
            )
    left = previous.owned(folder)
    for name in (*left, previous.MANIFEST):
        for leftover in atomic.leftovers(folder / name):
            leftover.unlink(missing_ok=True)
    # What is about to be moved aside belongs to the run before.
    replaces = found is not None and not continues
    run = RunDirectory(folder, owned=() if replaces else left, begun=continues, replaces=replaces)
    stop.promise(run.promise)
    program.reason_of_failure(run.gone)
    if found is not None and continues:
        _tell_changes(run, found)
        return run
    program.undo_on_failure(run.take_back)
    if replaces:
        previous.move_aside(folder)
    run.write_json("config.json", {**record, **_environment()})
    return run


def _environment() -> dict[str, Any]:
    return {**provenance.environment(), **numerics.environment()}


def _tell_changes(run: RunDirectory, found: Mapping[str, Any]) -> None:
    """Say and record that a run goes on where sums may be taken in another order."""
    now = _environment()
    if not (changed := numerics.changes(found, now)):
        return
    program.note(
        f"{', '.join(changed)} since this run began: it goes on, but not to the bit as it would "
        "have"
    )
    # config.json stays what the run was begun with; every other place it went on in stands behind.
    before = found.get("continued", [])
    if now not in before:
        run.write_json("config.json", {**found, "continued": [*before, now]})


def open_finished(
    path: str | os.PathLike[str],
    name: str,
    config_type: type[Config],
    drawing: Mapping[str, Any] | None = None,
) -> tuple[RunDirectory, Config]:
    """A finished run of this program and its settings, to draw its figures again.

    drawing: settings to draw with instead of those that the run had.
    """
    folder = Path(path)
    settings = reading.settings_of(folder, name, config_type)
    with program.user_errors():
        settings = dataclasses.replace(settings, **(drawing or {}))  # type: ignore[type-var]
    if not (folder / "summary.json").exists():
        raise UserError(f"--out={folder} is not finished: it has no summary.json yet")
    holding.lock(folder)
    try:
        previous.require_own(folder)
        owned = previous.owned(folder)
    except ValueError as error:
        raise UserError(one_line(error)) from error
    run = RunDirectory(folder, owned=owned)
    program.reason_of_failure(run.gone)
    return run, settings
