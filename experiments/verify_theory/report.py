"""The verification run: each family once, then the table, the summary and the figures."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence

import numpy as np

from experiments.run.directory import RunDirectory
from experiments.run.progress import Progress
from experiments.verify_theory import (
    attention_step,
    effort,
    first_step,
    learning_times,
    memory_flow,
    recall_chain,
    table,
)
from experiments.verify_theory import figures as figures_theory
from experiments.verify_theory.effort import Effort, Outcome
from experiments.verify_theory.table import Row

FAMILIES: dict[str, Callable[[Effort, int], Outcome]] = {
    "memory": memory_flow.verify,
    "chain": recall_chain.verify,
    "first": first_step.verify,
    "attention": attention_step.verify,
    "learning": learning_times.verify,
}


@dataclasses.dataclass(frozen=True)
class VerifyConfig:
    """Every flag of experiments/verify_theory/__main__.py, under the same name."""

    quick: bool
    families: tuple[str, ...]
    seed: int


def run(config: VerifyConfig, directory: RunDirectory, sizes: Effort | None = None) -> list[Row]:
    """Verify the families not yet done in this directory, then write table and figures."""
    sizes = sizes or (effort.QUICK if config.quick else effort.FULL)
    rows: list[Row] = []
    arrays: dict[str, np.ndarray] = {}
    progress = Progress(len(config.families), label="family")
    for index, name in enumerate(dict.fromkeys(config.families)):
        outcome = _finished(directory, name)
        if outcome is None:
            began = time.monotonic()
            outcome = FAMILIES[name](sizes, config.seed)
            _keep(directory, name, outcome)
            directory.append_metrics(
                {"step": index + 1, f"{name}/rows": len(outcome.rows)}
                | {f"{name}/seconds": round(time.monotonic() - began, 2)}
            )
        rows += outcome.rows
        arrays |= outcome.arrays
        progress.update(index + 1, rows=len(rows), failed=len(table.failures(rows)))
    progress.close()
    directory.write_arrays(arrays)
    directory.write_json("table.json", table.records(rows))
    for name, figure in figures_theory.draw(arrays):
        directory.save_figure(figure, name)
    directory.finish(summarise(rows))
    return rows


def summarise(rows: Sequence[Row]) -> dict[str, float]:
    """The flat dictionary of summary.json."""
    summary: dict[str, float] = {
        "rows": len(rows),
        "failed": len(table.failures(rows)),
        "z_limit": table.z_limit(rows),
    }
    for row in rows:
        key = f"{row.family}/{row.name}/{row.setting}"
        summary[f"{key}/predicted"] = row.predicted
        summary[f"{key}/measured"] = row.measured
        if row.error is not None:
            summary[f"{key}/sem"] = row.error
    return summary


def _keep(directory: RunDirectory, name: str, outcome: Outcome) -> None:
    """Store a finished family, arrays first: the rows mark it as finished."""
    directory.checkpoints.mkdir(exist_ok=True)
    directory.write_arrays(outcome.arrays, f"checkpoints/{name}.npz")
    directory.write_json(
        f"checkpoints/{name}.json", [dataclasses.asdict(row) for row in outcome.rows]
    )


def _finished(directory: RunDirectory, name: str) -> Outcome | None:
    path = directory.checkpoints / f"{name}.json"
    if not path.exists():
        return None
    rows = [Row(**row) for row in json.loads(path.read_text())]
    return Outcome(rows, directory.read_arrays(f"checkpoints/{name}.npz"))
