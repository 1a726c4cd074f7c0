"""The memories fitted to the uncut models: one r a run, one clock a step; cuts are not fitted."""

import functools
import itertools

import numpy as np
import xarray as xr

from truncated_weights.experiments.fact_frequency import predicted
from truncated_weights.experiments.fact_frequency.checkpoint import SCORES
from truncated_weights.experiments.fact_frequency.plan import Plan
from truncated_weights.experiments.fact_frequency.predicted import (
    ANSWERS,
    SHARES,
    Cut,
    Row,
    Top,
    Whole,
)
from truncated_weights.experiments.run import parts
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.parts import Part
from truncated_weights.experiments.run.progress import stage
from truncated_weights.training.records import Name, Records, labelled, name


def fit_all(plan: Plan, directory: RunDirectory, measured: xr.Dataset) -> Records:
    """Blocks `fits`, by run, step and answers, and `predicted`, SCORES [..., model, fact].

    fits: shared, the memory's r; clock, its time; misfit, the root mean square distance of its
    p(answer) and p(" the") from the uncut model's; matched_share, what the matched cut takes of
    the common row.
    """
    facts, config = plan.facts, plan.config
    times = predicted.clocks(config.longest)
    distances = _distances(plan, directory, measured, times)
    fits: dict[Name, float] = {}
    said: dict[Name, np.ndarray] = {}
    for answers, run in itertools.product(ANSWERS, plan.names):
        # Every step takes its best clock, every run its best r.
        here = distances.sel(answers=answers, run=run)
        here = here.sel(shared=here.min("clock").sum("step").idxmin("shared"))
        shared, clock = float(here.shared), here.argmin("clock").values
        fits[name("shared", run=run, answers=answers)] = shared
        stage(f"the memory of {run}")
        cuts: list[Cut] = [Whole(), Top(), *map(Row, SHARES)]
        said_of = predicted.predict(facts, answers, shared, times[clock], cuts)
        for row, step in enumerate(plan.steps):
            at = {"run": run, "step": step, "answers": answers}
            after = measured.p_the.sel(run=run, step=step, model="after").values
            share, weaker = predicted.matched(facts, said_of, row, after)
            fits[name("clock", **at)] = float(times[clock[row]])
            fits[name("misfit", **at)] = float(np.sqrt(here.min("clock").values[row] / 2))
            fits[name("matched_share", **at)] = share
            for score in SCORES:
                for model, values in (
                    ("before", said_of[Whole()][score][row]),
                    ("top", said_of[Top()][score][row]),
                    ("matched", weaker[score]),
                ):
                    said[name(score, "fact", **at, model=model)] = values
    found = {"fits": labelled(fits, {}), "predicted": facts.labelled(said)}
    steps = list(plan.steps)
    return Records({block: data.assign_coords(step=steps) for block, data in found.items()})


def _distances(
    plan: Plan, directory: RunDirectory, measured: xr.Dataset, times: np.ndarray
) -> xr.DataArray:
    """Mean square distances [answers, shared, run, step, clock] from the uncut models."""
    before = measured.sel(model="before")

    def distance(answers: predicted.Answers, shared: float) -> Records:
        said = predicted.predict(plan.facts, answers, shared, times, (Whole(),))[Whole()]
        found = predicted.distance(plan.facts, said, {s: before[s].values for s in SCORES})
        axes = {"run": list(plan.names), "step": list(plan.steps), "clock": times}
        data = xr.Dataset({"distance": (tuple(axes), found)}, axes)
        return Records({"fit": data.expand_dims(answers=[answers], shared=[shared])})

    pairs = list(itertools.product(ANSWERS, plan.config.shared))
    memories = [
        Part(f"memory_{answers}_{shared}", functools.partial(distance, answers, shared))
        for answers, shared in pairs
    ]
    found = [one.fit.distance for _, one in parts.measured(directory, memories, label="memory")]
    size = len(plan.config.shared)
    rows = [xr.concat(found[i : i + size], "shared") for i in range(0, len(found), size)]
    return xr.concat(rows, "answers")
