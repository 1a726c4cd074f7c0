"""Predicted beside measured: means, windows and rank correlations, as rows and on the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.fact_frequency import compared
from experiments.fact_frequency.measured import SCORES
from experiments.fact_frequency.plan import Plan
from experiments.fact_frequency.predicted import ANSWERS
from experiments.run import table
from experiments.run.directory import RunDirectory

GAINS = ("p_answer", "loss")
# What is predicted of cuts; see predicted.py.
CUTS = ("top", "matched")
# Of an interval, as they are called in tables and summary.
ENDS = ("", "_low", "_high")


def compare(
    plan: Plan,
    arrays: Mapping[str, np.ndarray],
    cuts: Sequence[Sequence[str]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of means and windows, and rows of rank correlations, on the facts for testing."""
    config, facts = plan.config, plan.facts
    drawn = compared.resamples(len(facts.test), config.bootstrap, config.seed)
    frequency = facts.frequency[facts.test]
    rows, correlations = [], []
    for run, where in groups(plan.names):
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
    group = list(groups(plan.names))[-1][0]
    facts = plan.facts
    print(f"{len(facts.test)} facts for testing, {len(facts.validation)} for choosing and fitting")
    fits = [
        {"run": run} | {f"r, {answers} answers": summary[f"{run}/{answers}/shared"]
                        for answers in ANSWERS}
        for run in plan.names
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
