"""Which answers flip, by what is known of the example: how often its fact is told, and others."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from truncated_weights.bridge.tasks import frequency
from truncated_weights.experiments.run import table
from truncated_weights.experiments.run.inputs.model_setup import Questions
from truncated_weights.truncation import ablation

# Examples of which the number is not known: a count's file need not tell of every fact.
UNKNOWN = -1


def flips(
    one: Questions,
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    weights: np.ndarray,
    *,
    seed: int,
    samples: int,
) -> list[dict[str, Any]]:
    """Rows of truncation.ablation.flips for the test examples, over all and by each covariate.

    smallest and largest are the values of a level; they are empty where the value is unknown.
    """
    values = covariates(one)
    rows = ablation.flips(
        before["accuracy"],
        after["accuracy"],
        weights,
        {name: levels(found)[:, None] for name, found in values.items()},
        seed=seed,
        samples=samples,
    )
    for row in rows:
        row |= {"smallest": None, "largest": None}
        if row["covariate"] in values and row["level"] != UNKNOWN:
            found = values[row["covariate"]]
            own = found[levels(found) == row["level"]]
            row |= {"smallest": float(own.min()), "largest": float(own.max())}
    return rows


def covariates(one: Questions) -> dict[str, np.ndarray]:
    """The numbers that test examples have, nan where one has none; constants are left out."""
    given = [one.encoded.examples[i].covariates for i in one.test]
    found = {
        name: np.array([each.get(name, np.nan) for each in given])
        for name in sorted(set().union(*given))
    }
    return {name: values for name, values in found.items() if len(_distinct(values)) > 1}


def levels(values: np.ndarray) -> np.ndarray:
    """Small integers: up to eight values as they are, others in quarters; UNKNOWN for nan.

    Level 0 holds the smallest. Quarters are of equal numbers of examples, save for ties.
    """
    distinct = _distinct(values)
    edges = distinct
    if len(distinct) > 8:
        edges = np.unique(np.quantile(values[~np.isnan(values)], [0, 0.25, 0.5, 0.75]))
    level = np.searchsorted(edges, values, side="right") - 1
    return np.where(np.isnan(values), UNKNOWN, level)


def _distinct(values: np.ndarray) -> np.ndarray:
    return np.unique(values[~np.isnan(values)])


def report(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the flips by how often facts are told, where that is known."""
    counted = [row for row in rows if row["covariate"] == frequency.COVARIATE]
    if not counted:
        return
    shown = []
    for row in counted:
        known = row["level"] != UNKNOWN
        line = {
            "told": f"{row['smallest']:g} to {row['largest']:g}" if known else "no count",
            "answers": row["answers"],
        }
        for way in ("wrong_to_right", "right_to_wrong"):
            share, low, high = (100 * row[f"{way}{end}"] for end in ("", "_low", "_high"))
            line[f"{way.replace('_', ' ')}, %"] = f"{share:.1f} [{low:.1f}, {high:.1f}]"
        shown.append(line)
    print(table.text(shown))
