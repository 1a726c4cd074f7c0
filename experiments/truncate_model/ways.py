"""One task asked as its paper did and as it should be, and each difference by itself.

A published gain is made of what the cut does and of how it was looked for. So beside both
protocols stand the honest one with one fault at a time:

    told on its choosers   chosen honestly, but told on the very rows that chose
    all rows               chosen on all rows and told on them, as most scripts of LASER do
    first rows             the first share of the file chooses, not random items
    no unedited            the best cut is taken though the whole model be better
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from truncated_weights.bridge import tasks
from truncated_weights.bridge.tasks import protocol as protocols
from truncated_weights.bridge.tasks import split
from truncated_weights.bridge.tasks.protocol import Protocol
from truncated_weights.experiments.run import table
from truncated_weights.experiments.run.inputs.model_setup import Questions
from truncated_weights.experiments.run.program import user_errors
from truncated_weights.experiments.truncate_model import worth
from truncated_weights.experiments.truncate_model.asking import search
from truncated_weights.experiments.truncate_model.plan import Plan, published_objective
from truncated_weights.experiments.truncate_model.settings import TruncateModel
from truncated_weights.training.records import Name, name
from truncated_weights.truncation.search.problem import NO_CHOICE, SearchProblem
from truncated_weights.truncation.search.scorer import Scorer


@dataclasses.dataclass(frozen=True, eq=False)
class Way:
    """How a cut is chosen, and on which rows it is told."""

    name: str
    objective: str
    choosing: np.ndarray
    telling: np.ndarray
    full_competes: bool


def paper_of(config: TruncateModel, name: str) -> Protocol:
    """The published protocol of a task."""
    return protocols.of("published", tasks.card_of(name), config.paper)


def ways(plan: Plan, one: Questions) -> tuple[Way, ...]:
    """The published one, the honest one, and the honest one with one fault at a time."""
    config, examples = plan.config, one.encoded.examples
    paper = paper_of(config, one.name)
    honest = Way("honest", config.objective, one.validation, one.test, True)
    every = np.arange(len(examples))
    with user_errors():
        theirs = paper.split(examples, seed=config.seed)
        first = split.first(examples, validation=config.validation)
    objective = published_objective(one, plan.architecture)
    return (
        Way("published", objective, *theirs, paper.full_competes),
        honest,
        dataclasses.replace(honest, name="told on its choosers", telling=one.validation),
        dataclasses.replace(honest, name="all rows", choosing=every, telling=every),
        dataclasses.replace(honest, name="first rows", choosing=first[0], telling=first[1]),
        dataclasses.replace(honest, name="no unedited", full_competes=False),
    )


def compare(plan: Plan, one: Questions, scorer: Scorer) -> list[dict[str, Any]]:
    """A row for every way: rows, choice, accuracy and loss before and after, with intervals.

    Intervals are of the change, from resampling the items of the rows that are told; of a way
    that tells the rows which chose they are too narrow, and that is the point.
    """
    config = plan.config
    items = split.items(one.encoded.examples)
    searched: dict[tuple[str, bytes], Any] = {}
    rows = []
    for way in ways(plan, one):
        key = way.objective, way.choosing.tobytes()
        if key not in searched:
            problem = SearchProblem(scorer, plan.interventions, way.choosing)
            searched[key] = search(plan, problem, way.objective)
        outcome = searched[key]
        taken = outcome.improves or not (way.full_competes or outcome.nearest is NO_CHOICE)
        before = scorer.full(way.telling)
        after = before
        if taken:
            params = outcome.nearest.params(scorer.decompositions)
            after = scorer.of_params(params, way.telling)
        answers = [one.encoded.examples[i].answer for i in way.telling]
        row: dict[str, Any] = {
            "way": way.name,
            "chosen_on": len(way.choosing),
            "told_on": len(way.telling),
            "chosen": outcome.nearest.name if taken else "full",
        }
        for metric in ("accuracy", "loss"):
            full, cut = (scores[metric][:, 0].astype(np.float64) for scores in (before, after))
            numbers = np.unique(items[way.telling], return_inverse=True)[1]
            change = worth.by_items(cut - full, numbers, config.seed, config.bootstrap)
            row |= {
                f"{metric}_full": float(full.mean()),
                f"{metric}_cut": float(cut.mean()),
                f"{metric}_change": float(change.mean[0]),
                f"{metric}_change_low": float(change.low[0]),
                f"{metric}_change_high": float(change.high[0]),
            }
        row["best_constant"] = collections.Counter(answers).most_common(1)[0][1] / len(answers)
        rows.append(row)
    return rows


def named(rows: Sequence[Mapping[str, Any]]) -> dict[Name, Any]:
    """Every figure at its way."""
    return {
        name(figure, kind="protocols", way=row["way"]): value
        for row in rows
        for figure, value in row.items()
        if figure != "way"
    }


def report(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the ways side by side."""
    shown = []
    for row in rows:
        told = {}
        for metric, scale, digits in (("accuracy", 100, 1), ("loss", 1, 3)):
            full, cut = (
                f"{scale * row[f'{metric}_{part}']:.{digits}f}" for part in ("full", "cut")
            )
            change, low, high = (
                f"{scale * row[f'{metric}_change{end}']:+.{digits}f}"
                for end in ("", "_low", "_high")
            )
            told[metric] = {
                metric: f"{full} > {cut}",
                f"change of {metric}": f"{change} [{low}, {high}]",
            }
        shown.append(
            {"way": row["way"], "chosen": row["chosen"],
             "rows": f"{row['chosen_on']} > {row['told_on']}"}
            | told["accuracy"]
            | {"constant": f"{100 * row['best_constant']:.1f}"}
            | told["loss"]
        )  # fmt: skip
    print(table.text(shown))
    print(
        "rows: for choosing > for telling; accuracy in per cent, whole > cut, change with its 95 % "
        "interval; constant: the commonest answer to everything; ways below honest have one of "
        "the published faults each"
    )
