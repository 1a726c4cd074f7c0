"""The verification run: each family once, then the table, the summary and the figures."""

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np

from experiments.run import stop
from experiments.run import table as terminal
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.program import Place
from experiments.run.progress import Progress
from experiments.verify_theory import effort, figures, table
from experiments.verify_theory.effort import Effort, Outcome
from experiments.verify_theory.families import (
    attention_step,
    first_step,
    frequent_memory,
    lazy,
    learning_times,
    memory_decay,
    memory_flow,
    plateau,
    recall_chain,
    transformer,
)
from experiments.verify_theory.settings import VerifyTheory
from experiments.verify_theory.table import Row

FAMILIES: dict[str, Callable[[Effort, int], Outcome]] = {
    "memory": memory_flow.verify,
    "frequent": frequent_memory.verify,
    "decay": memory_decay.verify,
    "chain": recall_chain.verify,
    "first": first_step.verify,
    "attention": attention_step.verify,
    "learning": learning_times.verify,
    "lazy": lazy.verify,
    "transformer": transformer.verify,
    "plateau": plateau.verify,
}


def main(config: VerifyTheory, place: Place) -> int:
    """Settings in, run directory out; 1 if a verdict fails."""
    directory = open_run(place, config)
    return report(run(config, directory), directory)


def redraw(out: str) -> None:
    """Draw the figures of a finished run again, from its arrays alone."""
    directory, _ = open_finished(out, "verify_theory", VerifyTheory)
    for name, figure in figures.draw(directory.read_arrays()):
        print(directory.save_figure(figure, name))


def run(config: VerifyTheory, directory: RunDirectory, sizes: Effort | None = None) -> list[Row]:
    """Verify the families not yet done in this directory, then write table and figures."""
    sizes = sizes or (effort.QUICK if config.quick else effort.FULL)
    rows: list[Row] = []
    arrays: dict[str, np.ndarray] = {}
    progress = Progress(len(config.families), label="family")
    directory.rewrite_metrics([])
    for index, name in enumerate(config.families):
        stop.check()
        outcome, seconds = _verified(directory, name, sizes, config.seed)
        directory.append_metrics(
            {"step": index + 1, f"{name}/rows": len(outcome.rows), f"{name}/seconds": seconds}
        )
        rows += outcome.rows
        arrays |= outcome.arrays
        progress.update(index + 1, rows=len(rows), failed=len(table.failures(rows)))
    progress.close()
    directory.write_arrays(arrays)
    directory.write_json("table.json", table.records(rows))
    directory.write_text("table.md", table.markdown(rows))
    for name, figure in figures.draw(arrays):
        directory.save_figure(figure, name)
    directory.finish(summarise(rows))
    return rows


def _verified(
    directory: RunDirectory, name: str, sizes: Effort, seed: int
) -> tuple[Outcome, float]:
    """One family, kept by an interrupted run or simulated now; and the seconds it took."""
    if (kept := directory.kept(name)) is not None:
        arrays, found = kept
        return Outcome([table.restored(row) for row in found["rows"]], arrays), found["seconds"]
    began = time.monotonic()
    outcome = FAMILIES[name](sizes, seed)
    seconds = round(time.monotonic() - began, 2)
    rows = [dataclasses.asdict(row) for row in outcome.rows]
    directory.keep(name, outcome.arrays, {"rows": rows, "seconds": seconds})
    return outcome, seconds


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


def report(rows: Sequence[Row], directory: RunDirectory) -> int:
    """Print the table and what it says; 1 if a verdict fails."""
    print(terminal.text(table.told(rows)))
    failed = table.failures(rows)
    for row in failed:
        print(f"FAIL {row.family}: {row.name} ({row.setting})")
    print(
        f"{len(rows)} rows, {len(failed)} failed; z limit {table.z_limit(rows):.2f} for a false "
        f"alarm rate of {table.FALSE_ALARMS:g} over the table"
    )
    print(f"figures: {directory.path / 'figures'}")
    return 1 if failed else 0
