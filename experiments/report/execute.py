"""Run what is missing, one program after another; what fails does not stop the others."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from truncated_weights.experiments.report.plan import Planned
from truncated_weights.experiments.report.runs import PRESETS
from truncated_weights.experiments.run import stop
from truncated_weights.experiments.run.program import UserError, one_line
from truncated_weights.experiments.run.progress import say, stage
from truncated_weights.truncation.files import regular, strict

# What begins a program; its name, its flags and --out follow.
COMMAND = (sys.executable, "-m", "truncated_weights.experiments.report.child")
# Between two looks at a program that runs.
PATIENCE = 0.1
# Bytes of the end of a log in which its last line is looked for.
LONGEST_TALE = 2**16


@dataclasses.dataclass(frozen=True)
class Done:
    """How a run stands. reason: why it is not finished, as a verdict says it; seconds it took."""

    finished: bool
    reason: str = ""
    seconds: float | None = None


def execute(planned: Sequence[Planned]) -> dict[str, Done]:
    """Run each unless it is there; Interrupted where a signal asks to stop."""
    done: dict[str, Done] = {}
    for number, one in enumerate(planned):
        stop.check()
        failed = [name for name in sorted(one.run.needs()) if not done[name].finished]
        if one.missing:
            done[one.name] = Done(False, one.missing)
        elif is_there(one):
            done[one.name] = Done(True, seconds=seconds_of(one.path))
            say(f"run {number + 1}/{len(planned)}, {one.name}: there already")
        elif failed:
            done[one.name] = Done(False, f"not run: {failed[0]} did not finish")
        else:
            say(f"run {number + 1}/{len(planned)}, {one.name}: about {one.minutes:g} min")
            done[one.name] = start(one)
            # A failure is told once, here and in the verdicts; the others go on.
            if not done[one.name].finished:
                say(f"run {number + 1}/{len(planned)}, {one.name}, {done[one.name].reason}")
    return done


def look(*plans: Mapping[str, Planned]) -> tuple[dict[str, Planned], dict[str, Done]]:
    """How the runs of these plans, quick and full, stand; nothing is run.

    Returns of each run the plan whose settings it has, wherever its inputs are now.
    """
    planned, done = {}, {}
    for name, one in plans[0].items():
        alike = [plan[name] for plan in plans if is_there(plan[name], anywhere=True)]
        planned[name] = alike[0] if alike else one
        if alike:
            done[name] = Done(True, seconds=seconds_of(one.path))
        elif (one.path / "config.json").exists():
            done[name] = Done(False, f"not run: {one.path} is unfinished or has other settings")
        else:
            done[name] = Done(False, one.missing or f"not run: no {one.path}")
    return planned, done


def is_there(one: Planned, *, anywhere: bool = False) -> bool:
    """Whether its directory holds this very run, finished; with its inputs where they are now,
    or anywhere.
    """
    try:
        if not (one.path / "summary.json").exists():
            return False
        config = _config(one.path)
        mine = one.settings()
        here = all(config["flags"].get(name) == mine[name] for name in one.inputs)
        return one.is_of(config) and (anywhere or here)
    except UserError:
        return False


def start(one: Planned) -> Done:
    """Run a program to its end, continuing where it was interrupted; tell how it went.

    Its output goes to NAME.log beside its directory, what is told of it to NAME.json.
    """
    one.path.parent.mkdir(parents=True, exist_ok=True)
    command = [*COMMAND, one.run.program, *one.arguments, f"--out={one.path}"]
    if not _continues(one):
        command.append("--overwrite")
    began, log = time.monotonic(), one.path.with_name(f"{one.name}.log")
    stage(f"running {one.name}")
    with log.open("w", encoding="utf-8") as output:
        # Of its own session: a Ctrl-C reaches the report, which passes it on once.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, env=os.environ | {"PYTHONPATH": _import_path()},
        )  # fmt: skip
        while process.poll() is None:
            if stop.asked():
                process.terminate()
                process.wait()
                stop.check()
            time.sleep(PATIENCE)
    seconds = round(time.monotonic() - began, 1)
    # A verdict of its own can make a program's exit code 1 though it is finished.
    if not (one.path / "summary.json").exists():
        return Done(False, f"not run: {_last_line(log)} ({log.name})", seconds)
    one.path.with_name(f"{one.name}.json").write_text(
        json.dumps({"seconds": seconds}) + "\n", encoding="utf-8"
    )
    return Done(True, seconds=seconds)


def seconds_of(path: Path) -> float | None:
    """What start told of a run's time, if anything."""
    try:
        return float(strict.read(path.with_name(f"{path.name}.json"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _continues(one: Planned) -> bool:
    """Whether what is there, if anything, is this run, unfinished; anything else is replaced.

    To the last setting: a run begun before one existed is not continued by its program either.
    """
    if not (one.path / "config.json").exists():
        return True
    if (one.path / "summary.json").exists():
        return False
    try:
        return _config(one.path) | {"flags": one.settings()} == _config(one.path)
    except UserError:
        return False


def _config(path: Path) -> dict[str, Any]:
    try:
        found = strict.read(path / "config.json")
        if not isinstance(found["flags"], dict):
            raise TypeError("flags is no dictionary")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path / 'config.json'} is damaged: {one_line(error)}") from error
    return found


def _import_path() -> str:
    # The programs are where this one is, also where the package is not installed.
    return os.pathsep.join([str(PRESETS.parent), os.environ.get("PYTHONPATH", "")]).rstrip(":")


def _last_line(log: Path) -> str:
    # It may be long: the end is what tells.
    with regular.opened(log) as file:
        file.seek(max(0, log.stat().st_size - LONGEST_TALE))
        text = file.read(LONGEST_TALE).decode(errors="replace")
    lines = [line for line in text.split("\n") if line.strip()]
    told = [line.partition("error: ")[2] for line in lines if line.startswith("error: ")]
    return (told or lines or ["it ended without a word"])[-1][:200]
