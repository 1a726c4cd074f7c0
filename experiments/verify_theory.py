"""Every prediction of theory/ against simulation, in one table with standard errors.

    python -m experiments.verify_theory --quick
    python -m experiments.verify_theory

The first takes under two minutes on two CPU cores, the second under fifteen. Both print a table
of about a hundred rows and should end with "0 failed"; any failed row makes the exit code 1.
Simulations use toy/ and automatic differentiation and share no code with theory/.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence

import numpy as np
from absl import flags

from experiments import figures_theory, program
from experiments.progress import Progress
from experiments.run_directory import RunDirectory, open_run
from experiments.verification import (
    attention_step,
    effort,
    first_step,
    learning_times,
    memory_flow,
    recall_chain,
    table,
)
from experiments.verification.effort import Effort, Outcome
from experiments.verification.table import Row

FAMILIES: dict[str, Callable[[Effort, int], Outcome]] = {
    "memory": memory_flow.verify,
    "chain": recall_chain.verify,
    "first": first_step.verify,
    "attention": attention_step.verify,
    "learning": learning_times.verify,
}

flags.DEFINE_bool("quick", False, "Smaller simulations: two minutes instead of fifteen.")
flags.DEFINE_multi_enum("families", list(FAMILIES), list(FAMILIES), "Which predictions to verify.")
flags.DEFINE_integer("seed", 0, "Seed of every simulation.", lower_bound=0, upper_bound=2**31)
program.define_output_flags("verify_theory")


@dataclasses.dataclass(frozen=True)
class VerifyConfig:
    """Every flag of this program, under the same name."""

    quick: bool
    families: tuple[str, ...]
    seed: int


def main() -> int:
    """Flags in, run directory out; 1 if a verdict fails."""
    config = program.config_from_flags(VerifyConfig)
    directory = open_run(flags.FLAGS.out, config, overwrite=flags.FLAGS.overwrite)
    rows = run(config, directory)
    print(table.markdown(rows))
    failed = table.failures(rows)
    for row in failed:
        print(f"FAIL {row.family}: {row.name} ({row.setting})")
    print(
        f"{len(rows)} rows, {len(failed)} failed; z limit {table.z_limit(rows):.2f} for a false "
        f"alarm rate of {table.FALSE_ALARMS:g} over the table"
    )
    print(f"figures: {directory.path / 'figures'}")
    return 1 if failed else 0


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


if __name__ == "__main__":
    program.run(main)
