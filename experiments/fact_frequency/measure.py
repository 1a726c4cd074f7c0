"""The comparison itself: measure every checkpoint, fit the memory, compare, write, tell."""

import functools
from typing import Any

import xarray as xr

from truncated_weights.experiments.fact_frequency import checkpoint, figures, tables
from truncated_weights.experiments.fact_frequency.facts import tested
from truncated_weights.experiments.fact_frequency.fitted import fit_all
from truncated_weights.experiments.fact_frequency.plan import Plan, digest, prepare
from truncated_weights.experiments.fact_frequency.settings import FactFrequency
from truncated_weights.experiments.run import parts
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.parts import Part
from truncated_weights.experiments.run.study import Input, Study
from truncated_weights.training.records import Records, cells, name, of_rows, rows_of, spelled


def measure(plan: Plan, directory: RunDirectory) -> Records:
    """Blocks `measured`, `fits` and `predicted`, and the tables `windows` and `correlations`.

    measured: SCORES [run, step, model, fact] before and after the cut `chosen` [run, step].
    """
    measured = measure_all(plan, directory)
    records = Records({"measured": measured, **fit_all(plan, directory, measured)})
    windows, correlations = tables.compare(plan, records)
    directory.write_csv("windows.csv", windows)
    directory.write_jsonl("windows.jsonl", windows)
    directory.write_csv("correlations.csv", correlations)
    found = {"windows": of_rows(windows), "correlations": of_rows(correlations)}
    return Records({**records, **found})


def measure_all(plan: Plan, directory: RunDirectory) -> xr.Dataset:
    """What each checkpoint says before and after its cut; one part per checkpoint."""
    directory.rewrite_metrics([])

    def one(run: str, step: int) -> Records:
        path = plan.checkpoints[run][step]
        return Records({"measured": checkpoint.measure(plan.config, plan.facts, path)})

    def means(found: Records) -> dict[str, float]:
        here = tested(found.measured)[list(checkpoint.SCORES)]
        return {spelled(key): float(x.values.mean()) for key, x in cells(here, "fact")}

    asked = {
        f"run{number}_step{step}": (called, run, step)
        for number, (called, run) in enumerate(zip(plan.names, plan.checkpoints, strict=True))
        for step in plan.steps
    }
    work = [Part(key, functools.partial(one, run, step)) for key, (_, run, step) in asked.items()]
    rows: dict[str, list[xr.Dataset]] = {}
    for part, found in parts.measured(
        directory,
        work,
        label="checkpoint",
        show=lambda found: {"p_the": means(found)[spelled(name("p_the", model="before"))]},
    ):
        called, _, step = asked[part.name]
        line = {"run": called, "step": step, "cut": str(found.measured.chosen.values)}
        directory.append_metrics(line | means(found))
        rows.setdefault(called, []).append(found.measured.assign_coords(step=step))
    every = [xr.concat(row, "step").assign_coords(run=run) for run, row in rows.items()]
    return xr.concat(every, "run")


def summarise(plan: Plan, records: Records) -> dict[str, Any]:
    """Fits by run, step and answers; rank correlations and windows by run, step and who says so."""
    summary: dict[str, Any] = {spelled(key): float(value) for key, value in cells(records.fits)}
    for row in rows_of(records.correlations):
        place = f"{row['run']}/{row['step']}/{row['answers']}/{row['cut']}/{row['gain']}"
        ends = {end: row[f"rho{end}"] for end in tables.ENDS}
        summary |= {f"{place}/rank_correlation{end}": value for end, value in ends.items()}
    for row in rows_of(records.windows):
        place = f"{row.pop('run')}/{row.pop('step')}/{row.pop('who')}"
        if not row["cut"]:  # only what was measured of one run has a cut with a name
            del row["cut"]
        summary |= {f"{place}/{key}": value for key, value in row.items()}
    return summary


def inputs(config: FactFrequency) -> dict[str, Input]:
    """The runs: their prompts, and their weights at the steps that are compared."""
    of_run = functools.partial(digest, config.steps)
    return {f"runs={run}": Input(run, of_run) for run in config.runs}


STUDY = Study(
    name="fact_frequency",
    settings=FactFrequency,
    prepare=prepare,
    measure=measure,
    figures=figures.figures,
    summarise=summarise,
    tell=tables.tell,
    inputs=inputs,
    leaves=("windows.csv", "correlations.csv"),
)
