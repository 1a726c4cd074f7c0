"""Plan, run what is missing, judge, draw the page."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from truncated_weights.experiments.report import execute, page, tables, verdicts
from truncated_weights.experiments.report.pictures import pictures
from truncated_weights.experiments.report.plan import Planned, expanded, plan
from truncated_weights.experiments.report.reading import Found
from truncated_weights.experiments.report.runs import RUNS, Run
from truncated_weights.experiments.report.settings import Report
from truncated_weights.experiments.report.subjects import SUBJECTS
from truncated_weights.experiments.report.verdicts import Verdict
from truncated_weights.experiments.run import flags, stop, table
from truncated_weights.experiments.run.claim import Subject
from truncated_weights.experiments.run.directory import RunDirectory, open_finished, open_run
from truncated_weights.experiments.run.drawing import panel
from truncated_weights.experiments.run.program import Place, UserError, note
from truncated_weights.experiments.run.progress import say, stage


def main(config: Report, place: Place) -> int:
    """Settings in, page out; 1 if a claim fails or a run did not finish."""
    if not page.available():
        raise UserError("the page needs jinja2: pip install 'truncated-weights[report]'")
    if config.from_ and not os.path.isdir(config.from_):
        raise UserError(f"--from={config.from_} is no directory")
    for model in config.models:
        if not os.path.isdir(model):
            raise UserError(f"--models: {model} is no directory")
    directory = open_run(place, config, inputs={"from": config.from_})
    if not config.from_:
        # Begun here: the runs are results, and stay whatever becomes of the page.
        directory.begin()
        stop.promise(lambda: "finished runs are kept, and the same command continues")
    judged, summary = run(config, directory)
    return report(judged, summary, directory)


def redraw(out: str) -> None:
    """Judge and draw anew from the runs that a finished report was drawn from."""
    directory, config = open_finished(out, "report", Report)
    run(config, directory, execute_missing=False)
    print(directory.path / "index.html")


def run(
    config: Report,
    directory: RunDirectory,
    *,
    subjects: Mapping[str, Subject] = SUBJECTS,
    runs: Mapping[str, Run] = RUNS,
    execute_missing: bool = True,
) -> tuple[list[Verdict], dict[str, Any]]:
    """Run what is missing unless --from or told not to, then write page and summary."""
    # Imported here: the page alone needs no JAX.
    from truncated_weights.bridge.gguf import package

    fetched = str(package.place("smollm2")) if package.there("smollm2") else ""
    where = runs_below(config.from_) if config.from_ else directory.path / "runs"
    chosen = {name: subjects[name] for name in config.subjects}
    models = config.models or found_models(where) if config.from_ else config.models
    whole = expanded(chosen, runs, models)

    def planned_as(quick: bool) -> dict[str, Planned]:
        return plan(whole, runs, where, quick=quick, models=models, package=fetched)

    planned = planned_as(config.quick)
    if config.from_ or not execute_missing:
        planned, done = execute.look(planned_as(True), planned_as(False))
    else:
        announce(planned)
        done = execute.execute(list(planned.values()))
    stage("judging")
    found = {name: Found(one.path) for name, one in planned.items() if done[name].finished}
    judged = verdicts.judge(whole, done, found)
    stage("drawing the page")
    told = page.Report(whole, judged, planned, done, found, command(config, directory))
    drawn = pictures(whole, found)
    for picture in (picture for pictured in drawn.values() for picture in pictured):
        directory.write_text(f"figures/{picture.name}.svg", panel.standalone(picture.svg))
    directory.write_text("index.html", page.build(told, drawn))
    directory.write_json("claims.json", tables.records(judged, found))
    summary: dict[str, Any] = verdicts.summarise(judged)
    # A run that the user did not ask for by leaving its input away has not failed.
    looked = bool(config.from_) or not execute_missing
    summary["unfinished_runs"] = sum(
        not (done[name].finished or one.missing or looked) for name, one in planned.items()
    )
    directory.finish(summary)
    return judged, summary


def runs_below(path: str | Path) -> Path:
    """The folder of runs: a report's, or the folder itself."""
    inside = Path(path) / "runs"
    return inside if inside.is_dir() else Path(path)


def found_models(where: Path) -> tuple[str, ...]:
    """Language models that runs in this folder are about, by the names of their directories."""
    return tuple(
        sorted(path.name.partition("-")[2] for path in where.glob("model-*") if path.is_dir())
    )


def announce(planned: Mapping[str, Planned]) -> None:
    """Say what will run and for about how long, before anything does."""
    missing = [one for one in planned.values() if not (one.missing or execute.is_there(one))]
    total = sum(one.minutes for one in missing)
    say(f"{len(missing)} of {len(planned)} runs to do, about {total:.0f} minutes on two CPU cores")


def command(config: Report, directory: RunDirectory) -> str:
    """What wrote the page."""
    standard = Report()
    given = [
        f"--{name.rstrip('_')}" + ("" if value is True else f"={flags.text_of(value)}")
        for name, value in vars(config).items()
        if value != getattr(standard, name)
    ]
    return " ".join(("python -m experiments.report", *given, f"--out={directory.path}"))


def report(judged: Sequence[Verdict], summary: Mapping[str, Any], directory: RunDirectory) -> int:
    """Print the verdicts and where the page is; 1 if a claim fails or a run did not finish."""
    rows = [
        {"claim": f"{one.subject}: {one.claim.title}", "verdict": one.reason or one.verdict}
        for one in judged
    ]
    print(table.text(rows))
    for one in judged:
        if one.verdict == verdicts.FAILS and one.reason:
            print(f"FAIL {one.claim.name}: {one.reason.removeprefix('fails: ')}")
        elif one.verdict == verdicts.FAILS:
            wrong = next(check for check in one.checks if not check.holds)
            print(
                f"FAIL {one.claim.name}: {wrong.what} is {page.number(wrong.measured)}, "
                f"expected {wrong.expected}"
            )
        elif one.broken:
            note(f"{one.claim.name}: {one.reason}")
    print(
        f"{summary['claims']} claims: {summary['holds']} hold, {summary['fails']} fail, "
        f"{summary['one_seed']} rest on one seed, {summary['not_run']} not run"
    )
    print(f"page: {directory.path / 'index.html'}")
    return 1 if summary["fails"] or summary["broken"] or summary["unfinished_runs"] else 0
