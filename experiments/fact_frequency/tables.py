"""Predicted beside measured: means, windows and rank correlations, as rows and on the terminal."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from truncated_weights.experiments.fact_frequency import compared
from truncated_weights.experiments.fact_frequency.checkpoint import SCORES
from truncated_weights.experiments.fact_frequency.facts import tested
from truncated_weights.experiments.fact_frequency.plan import Plan
from truncated_weights.experiments.fact_frequency.predicted import ANSWERS, who
from truncated_weights.experiments.run import table
from truncated_weights.training.records import Records, rows_of

Rows = list[dict[str, Any]]
GAINS = ("p_answer", "loss")
# What is predicted of cuts; see predicted.py.
CUTS = ("top", "matched")
# Of an interval, as they are called in tables and summary.
ENDS = ("", "_low", "_high")


def compare(plan: Plan, records: Records) -> tuple[Rows, Rows]:
    """Rows of means and windows, and rows of rank correlations, on the facts for testing."""
    config = plan.config
    asked = {block: tested(records[block]) for block in ("measured", "predicted")}
    frequency = asked["measured"].frequency.values
    drawn = compared.resamples(len(frequency), config.bootstrap, config.seed)
    rows, correlations = [], []
    for (run, among), step in itertools.product(groups(plan.names), plan.steps):
        here = {block: data.sel(run=among, step=step) for block, data in asked.items()}
        # Mean over runs, as every figure of a group is.
        real = here["measured"].drop_vars("chosen").mean("run", skipna=False)
        row = {"run": run, "step": step, "who": "measured"}
        if len(among) == 1:
            row["cut"] = str(here["measured"].chosen.values[0])
        rows.append(row | _window(real, "after", frequency, drawn))
        for answers, cut in itertools.product(ANSWERS, CUTS):
            said = here["predicted"].sel(answers=answers).mean("run", skipna=False)
            row = {"run": run, "step": step, "who": who(answers, cut)}
            rows.append(row | _window(said, cut, frequency, drawn))
            for gain in GAINS:
                rho = compared.spearman(_gain(said[gain], cut), _gain(real[gain], "after"), drawn)
                row = {"run": run, "step": step, "answers": answers, "cut": cut, "gain": gain}
                correlations.append(row | _interval("rho", rho))
    return rows, correlations


def _window(
    found: xr.Dataset, cut: str, frequency: np.ndarray, drawn: np.ndarray
) -> dict[str, float]:
    """Means and the rarest known frequency, whole and after a cut; found: [model, fact]."""
    row: dict[str, float] = {}
    for label, model in (("whole", "before"), ("cut", cut)):
        here = found.sel(model=model)
        row |= {f"{label}_{score}": float(here[score].values.mean()) for score in SCORES}
        edge = compared.border(frequency, here.accuracy.values, drawn)
        row |= _interval(f"{label}_border", edge)
    return row


def _gain(values: xr.DataArray, cut: str) -> np.ndarray:
    return values.sel(model=cut).values - values.sel(model="before").values


def _interval(label: str, found: compared.Interval) -> dict[str, float]:
    return dict(zip((f"{label}{end}" for end in ENDS), found, strict=True))


def groups(runs: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Every run by itself, and all of them where there are several: means over runs."""
    yield from ((run, [run]) for run in runs)
    if len(runs) > 1:
        yield "all", list(runs)


def tell(plan: Plan, records: Records, summary: Mapping[str, Any]) -> None:
    """Print fits, windows and correlations of the last group: all runs, or the only one."""
    facts, shared = plan.facts, records.fits.shared
    print(f"{len(facts.test)} facts for testing, {len(facts.validation)} for choosing and fitting")
    fits = [
        {"run": run}
        | {f"r, {kind} answers": float(shared.sel(run=run, answers=kind)) for kind in ANSWERS}
        for run in plan.names
    ]
    print(table.text(fits))
    group = list(groups(plan.names))[-1][0]
    correlations = {
        (row["step"], who(row["answers"], row["cut"])): row
        for row in rows_of(records.correlations)
        if (row["run"], row["gain"]) == (group, "p_answer")
    }
    rows = []
    for found in rows_of(records.windows):
        if found["run"] != group:
            continue
        row = {"step": found["step"], "who": found["who"]}
        for title, score in (("the", "p_the"), ("answer", "p_answer"), ("right", "accuracy")):
            row[title] = f"{found[f'whole_{score}']:.2f} > {found[f'cut_{score}']:.2f}"
        borders = (found["whole_border"], found["cut_border"])
        row["border"] = " > ".join(map(_frequency, borders))
        if said := correlations.get((found["step"], found["who"])):
            rho, low, high = (
                math.nan if said[f"rho{e}"] is None else said[f"rho{e}"] for e in ENDS
            )
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


def _frequency(value: float) -> str:
    return "none" if np.isinf(value) else "all" if value == 0.0 else f"{1e4 * value:.1f}"
