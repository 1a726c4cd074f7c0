"""Read the lines of a run and write them for another reader."""

import dataclasses
import importlib.util
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from truncated_weights.experiments.export_metrics import tags
from truncated_weights.experiments.export_metrics.settings import ExportMetrics
from truncated_weights.experiments.run import flags, provenance, table
from truncated_weights.experiments.run.directory import RunDirectory, read_config
from truncated_weights.experiments.run.program import UserError
from truncated_weights.experiments.run.study import Input, Study
from truncated_weights.training.records import Records

Lines = Sequence[Mapping[str, Any]]
# What each target needs beside the project itself: the module, and the extra it comes with.
NEEDS = {"tensorboard": ("tensorboardX", "tensorboard"), "wandb": ("wandb", "wandb"), "csv": None}


@dataclasses.dataclass(frozen=True)
class Plan:
    """A run's settings and lines, read and checked."""

    config: ExportMetrics
    settings: Mapping[str, Any]
    lines: Lines


def prepare(config: ExportMetrics) -> Plan:
    """Read the run; UserError where it has nothing to export, or the target is not installed."""
    if (need := NEEDS[config.to]) and not importlib.util.find_spec(need[0]):
        raise UserError(
            f"--to={config.to} needs {need[0]}: pip install 'truncated-weights[{need[1]}]'"
        )
    settings, source = read_config(config.run), RunDirectory(config.run)
    lines = checked(source.read_rows("metrics.jsonl"), source.path / "metrics.jsonl")
    return Plan(config, settings, lines)


def export(plan: Plan, directory: RunDirectory) -> Records:
    """Write the other reader's files; nothing is measured."""
    directory.begin()
    WRITERS[plan.config.to](plan.config, plan.settings, plan.lines, directory)
    return Records({})


def summarise(plan: Plan, records: Records) -> dict[str, float]:
    """How much was exported, and the last line."""
    scalars = sum(len(scalars_of(line)) for line in plan.lines)
    last = {f"last/{name}": value for name, value in scalars_of(plan.lines[-1]).items()}
    return {"lines": len(plan.lines), "scalars": scalars, **last}


def tell(plan: Plan, records: Records, summary: Mapping[str, Any]) -> None:
    """Print how much was exported."""
    print(table.text([{"lines": summary["lines"], "scalars": summary["scalars"]}]))


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


def _digest(run: str) -> str:
    return provenance.of_files(run, ("metrics.jsonl", "config.json", "summary.json"))


WRITERS = {"tensorboard": to_tensorboard, "wandb": to_wandb, "csv": to_csv}

STUDY = Study(
    name="export_metrics",
    settings=ExportMetrics,
    prepare=prepare,
    measure=export,
    summarise=summarise,
    tell=tell,
    inputs=lambda config: {"run": Input(config.run, _digest)},
)
