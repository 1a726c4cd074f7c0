"""A study as a value: a question's settings, what it measures, draws, tells and claims.

A program's folder holds its question only:

    __main__.py   the command and its settings, without anything slow to import
    measure.py    STUDY: settings -> checked plan -> records -> summary -> what is told
    figures.py    records -> figures
    claims.py     what should hold, by axes

and `start` does what every program does: flags, lock, memory, resuming, redrawing, exit code.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from truncated_weights.experiments.run import provenance
from truncated_weights.experiments.run import ram as memory
from truncated_weights.experiments.run.directory import RunDirectory, open_finished, open_run
from truncated_weights.experiments.run.drawing.panel import Figure, render
from truncated_weights.experiments.run.program import Place, UserError, user_errors
from truncated_weights.training import processes
from truncated_weights.training.records import Records, counted, lost_told
from truncated_weights.training.settings import Settings

C = TypeVar("C", bound=Settings)
P = TypeVar("P")


@dataclasses.dataclass(frozen=True)
class Input:
    """Something that a run reads: its path, and how its digest is made.

    No digest where results do not depend on it, as on a cache; it must still lie elsewhere.
    """

    path: str
    digest: Callable[[str], str] | None = provenance.of_files


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes that a study needs at the very least, and the settings that lower it."""

    needed: float
    lower: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study(Generic[C, P]):
    """One question.

    prepare: everything that can be checked before work, as the plan that `measure` carries out;
        ValueError says what cannot be.
    measure: the records, in every process of the run; it resumes from what an interrupted run left
        in the directory. Blocks given as functions are still at work on the device while figures
        are drawn.
    figures: from settings and records alone, those first that need least; None draws nothing.
    summarise: the flat content of summary.json. tell: print what answers the question; the exit
        code where it is not 0.
    inputs: flag -> what it reads. memory: what it takes, before anything is allocated.
    leaves: files and folders beside figures/ that a user is told of at the end.
    instead: prints what the settings ask for where that is no run, as a list of what there is;
        whether it did.
    """

    name: str
    settings: type[C]
    prepare: Callable[[C], P]
    measure: Callable[[P, RunDirectory], Records]
    summarise: Callable[[P, Records], Mapping[str, Any]]
    tell: Callable[[P, Records, Mapping[str, Any]], int | None]
    figures: Callable[[C, Records], Iterable[Figure]] | None = None
    inputs: Callable[[C], Mapping[str, Input]] = lambda config: {}
    memory: Callable[[C], Memory | None] = lambda config: None
    leaves: Sequence[str] = ()
    instead: Callable[[C], bool] = lambda config: False


def run(study: Study[C, Any], config: C, place: Place) -> int | None:
    """Settings in, run directory out; the exit code where it is not 0."""
    with user_errors():
        if (need := study.memory(config)) is not None:
            memory.require(need.needed, need.lower)
        if study.instead(config):
            return None
        plan = study.prepare(config)
        inputs = {flag: one for flag, one in study.inputs(config).items() if one.path}
        digests = {flag: one.digest(one.path) for flag, one in inputs.items() if one.digest}
    paths = {flag: one.path for flag, one in inputs.items()}
    directory = open_run(place, config, inputs=paths, digests=digests)
    records = study.measure(plan, directory)
    if not processes.first():
        return None  # of several processes one writes and tells
    # Figures are drawn while the device may still be at work on the last blocks.
    kept = records.surviving()
    for figure in study.figures(config, kept) if study.figures else ():
        directory.save_figure(render(figure), figure.name)
    if records:
        directory.write_records(records)
    summary = {**study.summarise(plan, kept), **counted(records)}
    directory.finish(summary)
    code = study.tell(plan, kept, summary)
    if told := lost_told(summary):
        print(f"{told}.")
    for name in study.leaves:
        print(f"{name}: {directory.path / name}")
    figures = directory.path / "figures"
    print(f"figures: {figures}" if figures.is_dir() else f"files: {directory.path}")
    return code


def redraw(study: Study[C, Any], out: str, **drawing: Any) -> None:
    """Draw the figures of a finished run again, from its settings and records alone.

    drawing: settings that concern figures alone, in place of the run's.
    """
    if study.figures is None:
        raise UserError(f"--redraw: {study.name} draws no figures ({out})")
    directory, config = open_finished(out, study.name, study.settings, drawing)
    drawn = [
        directory.save_figure(render(figure), figure.name)
        for figure in study.figures(config, directory.read_records().surviving())
    ]
    if not drawn:
        raise UserError(f"--redraw: the run in {out} has nothing to draw")
    print(*drawn, sep="\n")
