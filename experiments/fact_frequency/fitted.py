"""The memories fitted to the uncut models: one r a run, one clock a step; cuts are not fitted."""

from collections.abc import Mapping

import numpy as np

from experiments.fact_frequency import predicted
from experiments.fact_frequency.measured import SCORES
from experiments.fact_frequency.plan import Plan
from experiments.fact_frequency.predicted import ANSWERS, SHARES, Cut, Row, Top, Whole
from experiments.run import stop
from experiments.run.directory import RunDirectory
from experiments.run.progress import Progress, stage


def fit_all(
    plan: Plan, directory: RunDirectory, measured: Mapping[str, np.ndarray]
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """r and clock of every run for each memory, and predicted/ANSWERS/CUT/SCORE of its facts."""
    facts, times = plan.facts, predicted.clocks(plan.config.longest)
    before = {name: measured[f"before/{name}"] for name in SCORES}
    summary: dict[str, float] = {}
    arrays: dict[str, np.ndarray] = {}
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
        for number, run in enumerate(plan.names):
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
