"""The comparison itself: measure every checkpoint, fit the memory, compare, write, draw."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.fact_frequency import compared, figures, predicted
from experiments.fact_frequency.facts import PARTS, Facts, read, same
from experiments.fact_frequency.measured import SCORES, candidates, measure
from experiments.fact_frequency.predicted import ANSWERS, SHARES, Cut, Row, Top, Whole
from experiments.fact_frequency.settings import FactFrequency
from experiments.run import model_setup, provenance, stop, table
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.program import Place, RunFailedError, UserError
from experiments.run.progress import Progress, stage

# Before the 64th step nothing is known yet, not even the noise.
FIRST = 64
GAINS = ("p_answer", "loss")
# What is predicted of cuts; see predicted.py.
CUTS = ("top", "matched")
# Of an interval, as they are called in tables and summary.
ENDS = ("", "_low", "_high")
Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What the flags ask for, checked without reading weights."""

    config: FactFrequency
    facts: Facts
    checkpoints: Mapping[str, Mapping[int, Path]]

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of every run."""
        return tuple(next(iter(self.checkpoints.values())))


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


def redraw(out: str) -> None:
    """Draw the figures of a finished run again, from its arrays and table."""
    directory, config = open_finished(out, "fact_frequency", FactFrequency)
    arrays = directory.read_arrays()
    rows = directory.read_rows("windows.jsonl")
    for name, figure in figures.draw(arrays, rows, config.bins):
        print(directory.save_figure(figure, name))


def make_plan(config: FactFrequency) -> Plan:
    """Find facts and checkpoints of every run; UserError says what cannot be."""
    facts = read(config.runs[0])
    found: dict[str, dict[int, Path]] = {}
    for run in config.runs:
        if not same(facts, read(run)):
            raise UserError(f"--runs: {run} asks for other facts than {config.runs[0]}")
        found[run] = _steps(Path(run) / "checkpoints", config.steps)
        if set(found[run]) != set(found[config.runs[0]]):
            raise UserError(f"--runs: {run} has other steps than {config.runs[0]}; see --steps")
    first = next(iter(found[config.runs[0]].values()))
    candidates(config, model_setup.read_architecture(str(first)))
    return Plan(config, facts, found)


def _steps(folder: Path, wanted: tuple[int, ...]) -> dict[int, Path]:
    names = [path.name.removeprefix("step") for path in folder.glob("step*")]
    there = sorted(int(name) for name in names if name.isdecimal())
    chosen = sorted(wanted) or [step for step in there if step >= FIRST]
    if missing := [step for step in chosen if step not in there]:
        raise UserError(f"--steps: {folder} has no step{missing[0]}")
    if not chosen:
        raise UserError(f"--runs: {folder} holds no stepN directory from step {FIRST} on")
    return {step: folder / f"step{step}" for step in chosen}


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
    rows, correlations = compare(config, facts, arrays, cuts)
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
    for number, (run, paths) in enumerate(plan.checkpoints.items()):
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


def fit_all(
    plan: Plan, directory: RunDirectory, measured: Mapping[str, np.ndarray]
) -> tuple[dict[str, float], Arrays]:
    """r and clock of every run for each memory, and predicted/ANSWERS/CUT/SCORE of its facts."""
    facts, times = plan.facts, predicted.clocks(plan.config.longest)
    before = {name: measured[f"before/{name}"] for name in SCORES}
    summary: dict[str, float] = {}
    arrays: Arrays = {}
    progress = Progress(len(ANSWERS) * len(plan.config.shared), label="memory")
    done = 0
    for answers in ANSWERS:
        errors = []
        for shared in plan.config.shared:
            stop.check()
            name = f"memory_{answers}_{shared}"
            kept = directory.kept(name)
            if kept is None:
                found = predicted.predict(facts, answers, shared, times, (Whole(),))[Whole()]
                kept = {"distance": predicted.distance(facts, found, before)}, None
                directory.keep(name, *kept)
            errors.append(kept[0]["distance"])
            done += 1
            progress.update(done)
        # [r, runs, steps, clocks]: every step takes its best clock, every run its best r.
        every = np.array(errors)
        best = every.min(axis=3).sum(axis=2).argmin(axis=0)
        said: dict[str, list[list[np.ndarray]]] = {}
        for number, run in enumerate(plan.checkpoints):
            shared = plan.config.shared[best[number]]
            clock = every[best[number], number].argmin(axis=1)
            left = every[best[number], number].min(axis=1)
            summary[f"{run}/{answers}/shared"] = shared
            stage(f"the memory of {run}")
            cuts: list[Cut] = [Whole(), Top(), *map(Row, SHARES)]
            said_of = predicted.predict(facts, answers, shared, times[clock], cuts)
            for row, step in enumerate(plan.steps):
                place = f"{run}/{step}/{answers}"
                after = measured["after/p_the"][number, row]
                share, weaker = predicted.matched(facts, said_of, row, after)
                summary[f"{place}/clock"] = float(times[clock[row]])
                summary[f"{place}/misfit"] = float(np.sqrt(left[row] / 2))
                summary[f"{place}/matched_share"] = share
                parts = {"none": said_of[Whole()], "top": said_of[Top()]}
                for name in SCORES:
                    values = {which: scores[name][row] for which, scores in parts.items()}
                    for which, value in (values | {"matched": weaker[name]}).items():
                        key = f"predicted/{answers}/{which}/{name}"
                        said.setdefault(key, [[] for _ in plan.checkpoints])[number].append(value)
        arrays |= {name: np.array(values) for name, values in said.items()}
    progress.close()
    return summary, arrays


def compare(
    config: FactFrequency, facts: Facts, arrays: Arrays, cuts: Sequence[Sequence[str]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of means and windows, and rows of rank correlations, on the facts for testing."""
    drawn = compared.resamples(len(facts.test), config.bootstrap, config.seed)
    frequency = facts.frequency[facts.test]
    rows, correlations = [], []
    for run, where in groups(config.runs):
        for place, step in enumerate(arrays["steps"].tolist()):

            def mean(name: str, where: Sequence[int] = where, place: int = place) -> np.ndarray:
                return arrays[name][list(where), place][:, facts.test].mean(axis=0)

            for who, before, after in sides():
                row: dict[str, Any] = {"run": run, "step": step, "who": who}
                if who == "measured":
                    row["cut"] = cuts[where[0]][place] if len(where) == 1 else ""
                for label, name in (("whole", before), ("cut", after)):
                    for score in SCORES:
                        row[f"{label}_{score}"] = float(mean(f"{name}/{score}").mean())
                    edge = compared.border(frequency, mean(f"{name}/accuracy"), drawn)
                    row |= dict(zip((f"{label}_border{end}" for end in ENDS), edge, strict=True))
                rows.append(row)
                if who == "measured":
                    continue
                _, answers, which = after.split("/")
                for gain in GAINS:
                    rho = compared.spearman(
                        mean(f"{after}/{gain}") - mean(f"{before}/{gain}"),
                        mean(f"measured/after/{gain}") - mean(f"measured/before/{gain}"),
                        drawn,
                    )
                    correlations.append(
                        {"run": run, "step": step, "answers": answers, "cut": which, "gain": gain}
                        | dict(zip((f"rho{end}" for end in ENDS), rho, strict=True))
                    )
    return rows, correlations


def groups(runs: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Every run by itself, and all of them where there are several: means over runs."""
    yield from ((run, [number]) for number, run in enumerate(runs))
    if len(runs) > 1:
        yield "all", list(range(len(runs)))


def sides() -> Iterator[tuple[str, str, str]]:
    """(who says it, its arrays before, its arrays after), the measured first."""
    yield "measured", "measured/before", "measured/after"
    for answers in ANSWERS:
        for which in CUTS:
            side = f"predicted/{answers}"
            yield f"{answers}, {which}", f"{side}/none", f"{side}/{which}"


def report(plan: Plan, summary: Mapping[str, Any], directory: RunDirectory) -> None:
    """Print fits, windows and correlations of the last group: all runs, or the only one."""
    group = list(groups(plan.config.runs))[-1][0]
    facts = plan.facts
    print(f"{len(facts.test)} facts for testing, {len(facts.validation)} for choosing and fitting")
    fits = [
        {"run": run} | {f"r, {answers} answers": summary[f"{run}/{answers}/shared"]
                        for answers in ANSWERS}
        for run in plan.config.runs
    ]  # fmt: skip
    print(table.text(fits))
    rows = []
    for step in plan.steps:
        for who, _, _ in sides():
            place = f"{group}/{step}/{who}"
            row: dict[str, Any] = {"step": step, "who": who}
            for name, score in (("the", "p_the"), ("answer", "p_answer"), ("right", "accuracy")):
                full, cut = (summary[f"{place}/{label}_{score}"] for label in ("whole", "cut"))
                row[name] = f"{full:.2f} > {cut:.2f}"
            row["border"] = " > ".join(
                _frequency(summary[f"{place}/{label}_border"]) for label in ("whole", "cut")
            )
            if who != "measured":
                answers, which = who.split(", ")
                name = f"{group}/{step}/{answers}/{which}/p_answer/rank_correlation"
                rho, low, high = (summary[f"{name}{end}"] for end in ENDS)
                row["rank correlation"] = f"{rho:.2f} [{low:.2f}, {high:.2f}]"
            rows.append(row)
    print(table.text(rows))
    print(
        "the: p( the), answer: p(answer), right: accuracy, border: the rarest frequency that is "
        "known, in 10,000 documents, each whole > cut. Below measured, the memory whose facts have "
        "an answer of their own or share theirs, its top component dropped or a share of its "
        "common row matched to p( the) after the cut. Rank correlation: over facts, of predicted "
        "and measured gain in p(answer), with 95 % intervals from resampling facts"
    )
    print(f"tables: {directory.path}, figures: {directory.path / 'figures'}")


def _frequency(value: float) -> str:
    return "none" if np.isinf(value) else "all" if value == 0.0 else f"{1e4 * value:.1f}"
