"""Read the lines of a run and write them for another reader."""

import importlib.util
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.export_metrics import tags
from experiments.export_metrics.settings import ExportMetrics
from experiments.run import flags, provenance, table
from experiments.run.directory import RunDirectory, open_run, read_config
from experiments.run.program import Place, UserError, user_errors

Lines = Sequence[Mapping[str, Any]]
# What each target needs beside the project itself: the module, and the extra it comes with.
NEEDS = {"tensorboard": ("tensorboardX", "tensorboard"), "wandb": ("wandb", "wandb"), "csv": None}


def main(config: ExportMetrics, place: Place) -> None:
    """Settings in, the other reader's files out."""
    if (need := NEEDS[config.to]) and not importlib.util.find_spec(need[0]):
        raise UserError(
            f"--to={config.to} needs {need[0]}: pip install 'truncated-weights[{need[1]}]'"
        )
    settings = read_config(config.run)
    source = RunDirectory(config.run)
    lines = checked(source.read_rows("metrics.jsonl"), source.path / "metrics.jsonl")
    with user_errors():
        digest = provenance.of_files(config.run, ("metrics.jsonl", "config.json", "summary.json"))
    directory = open_run(place, config, inputs={"run": config.run}, digests={"run": digest})
    directory.begin()
    WRITERS[config.to](config, settings, lines, directory)
    scalars = sum(len(scalars_of(line)) for line in lines)
    last = {f"last/{name}": value for name, value in scalars_of(lines[-1]).items()}
    directory.finish({"lines": len(lines), "scalars": scalars, **last})
    rows = [{"lines": len(lines), "scalars": scalars, "written to": str(directory.path)}]
    print(table.text(rows))


def redraw(out: str) -> None:
    """There is nothing to draw."""
    raise UserError(f"--redraw: {out} holds no figures; export the run again")


def checked(rows: Sequence[Any], file: Path) -> Lines:
    """The rows if each is a dictionary with a step; UserError otherwise."""
    if not rows:
        raise UserError(f"{file} has no lines")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("step"), int | float):
            raise UserError(f"{file}, line {number}: no step")
    return rows


def scalars_of(line: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a line beside its step; null stands for what is not finite."""
    return {
        name: float(value)
        for name, value in line.items()
        if name != "step" and isinstance(value, int | float) and math.isfinite(value)
    }


def to_csv(
    _config: ExportMetrics, settings: Mapping[str, Any], lines: Lines, directory: RunDirectory
) -> None:
    """metrics.csv, one line per step, and settings.csv."""
    directory.write_csv(
        "metrics.csv", [{"step": line["step"], **scalars_of(line)} for line in lines]
    )
    rows = [{"setting": k, "value": flags.text_of(value)} for k, value in settings.items()]
    directory.write_csv("settings.csv", rows)


def to_tensorboard(
    config: ExportMetrics, settings: Mapping[str, Any], lines: Lines, directory: RunDirectory
) -> None:
    """Event files, one scalar per name (as tags.py spells it) and step, the settings as text."""
    from tensorboardX import SummaryWriter

    name = Path(config.run).resolve().name
    folder = directory.own(f"{name}/")
    # A retry begins anew: event files are never overwritten, and TensorBoard reads all there are.
    for stale in folder.glob("events.*"):
        stale.unlink()
    with SummaryWriter(str(folder)) as writer:
        text = "\n".join(f"    {k}: {flags.text_of(value)}" for k, value in settings.items())
        writer.add_text("settings", text)
        for line in lines:
            for key, value in scalars_of(line).items():
                writer.add_scalar(tags.spelled(key), value, int(line["step"]))


def to_wandb(
    config: ExportMetrics, settings: Mapping[str, Any], lines: Lines, directory: RunDirectory
) -> None:
    """An offline run: nothing is sent anywhere; `wandb sync` uploads it where it is wanted."""
    # Its own diary would stand beside the one line a user is told.
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    directory.own("wandb/")
    run = wandb.init(
        mode="offline",
        dir=str(directory.path),
        project=config.project,
        name=Path(config.run).resolve().name,
        config=dict(settings),
    )
    for line in lines:
        run.log(scalars_of(line), step=int(line["step"]))
    run.finish()


WRITERS = {"tensorboard": to_tensorboard, "wandb": to_wandb, "csv": to_csv}
