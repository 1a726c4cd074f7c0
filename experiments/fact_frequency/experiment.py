"""The comparison itself: measure every checkpoint, fit the memory, compare, write, draw."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.fact_frequency import figures
from experiments.fact_frequency.facts import PARTS
from experiments.fact_frequency.fitted import fit_all
from experiments.fact_frequency.measured import measure
from experiments.fact_frequency.plan import Plan, make_plan
from experiments.fact_frequency.settings import FactFrequency
from experiments.fact_frequency.tables import ENDS, compare, report
from experiments.run import provenance, stop
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.program import Place, RunFailedError
from experiments.run.progress import Progress, stage

Arrays = dict[str, np.ndarray]


def main(config: FactFrequency, place: Place) -> None:
    """Settings in, run directory out."""
    plan = make_plan(config)
    digests = {}
    for name, paths in plan.checkpoints.items():
        for part in PARTS:
            digests[f"{name} {part}"] = provenance.of_files(Path(name) / "prompts" / part)
        for step, path in paths.items():
            stage(f"reading the weights of {path}")
            stop.check()
            digests[f"{name} step{step}"] = provenance.of_files(path)
    inputs = {f"runs={name}": name for name in config.runs}
    directory = open_run(place, config, inputs=inputs, digests=digests)
    report(plan, run(plan, directory), directory)


def redraw(out: str, **drawing: Any) -> None:
    """Draw the figures of a finished run again, from its arrays and table."""
    directory, config = open_finished(out, "fact_frequency", FactFrequency, drawing)
    arrays = directory.read_arrays()
    rows = directory.read_rows("windows.jsonl")
    for name, figure in figures.draw(arrays, rows, config.bins):
        print(directory.save_figure(figure, name))


def run(plan: Plan, directory: RunDirectory) -> dict[str, Any]:
    """Measure, fit, compare, draw; returns what summary.json holds."""
    directory.rewrite_metrics([])
    measured, cuts = measure_all(plan, directory)
    facts, config = plan.facts, plan.config
    arrays: Arrays = {
        "steps": np.array(plan.steps), "frequency": facts.frequency, "test": facts.test,
        "alpha": np.array(facts.alpha),
    } | {f"measured/{name}": values for name, values in measured.items()}  # fmt: skip
    fits, said = fit_all(plan, directory, measured)
    arrays |= said
    rows, correlations = compare(plan, arrays, cuts)
    directory.write_csv("windows.csv", rows)
    directory.write_jsonl("windows.jsonl", rows)
    directory.write_csv("correlations.csv", correlations)
    directory.write_arrays(arrays)
    summary: dict[str, Any] = dict(fits)
    for row in correlations:
        name = f"{row['run']}/{row['step']}/{row['answers']}/{row['cut']}/{row['gain']}"
        summary |= {f"{name}/rank_correlation{end}": row[f"rho{end}"] for end in ENDS}
    for row in rows:
        place = f"{row['run']}/{row['step']}/{row['who']}"
        summary |= {f"{place}/{k}": v for k, v in row.items() if k not in ("run", "step", "who")}
    for name, figure in figures.draw(arrays, rows, config.bins):
        directory.save_figure(figure, name)
    directory.finish(summary)
    return summary


def measure_all(plan: Plan, directory: RunDirectory) -> tuple[Arrays, list[list[str]]]:
    """before/SCORE and after/SCORE [runs, steps, facts], and the cuts by run and step."""
    progress = Progress(len(plan.checkpoints) * len(plan.steps), label="checkpoint")
    found: list[list[Arrays]] = []
    cuts: list[list[str]] = []
    named = zip(plan.names, plan.checkpoints.values(), strict=True)
    for number, (run, paths) in enumerate(named):
        found.append([])
        cuts.append([])
        for step, path in paths.items():
            stop.check()
            # One file per checkpoint: what an interrupted run continues from.
            kept = directory.kept(f"run{number}_step{step}")
            if kept is None:
                stage(f"measuring {path}")
                scores, cut = measure(plan.config, plan.facts, path)
                if bad := [name for name, v in scores.items() if not np.isfinite(v).all()]:
                    raise RunFailedError(f"{path}: {bad[0]} is not finite; earlier steps are kept")
                directory.keep(f"run{number}_step{step}", scores, cut)
                kept = scores, cut
            found[-1].append(kept[0])
            cuts[-1].append(kept[1])
            line = {name: float(v[plan.facts.test].mean()) for name, v in kept[0].items()}
            directory.append_metrics({"run": run, "step": step, "cut": kept[1], **line})
            progress.update(sum(map(len, found)), p_the=line["before/p_the"])
    progress.close()
    names = list(found[0][0])
    return {n: np.array([[one[n] for one in steps] for steps in found]) for n in names}, cuts
