"""Accuracy and loss by number of shots."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.run import style


def by_shots(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """One line a model: share of right numbers, and loss of the solution, with intervals."""
    figure, panels = style.figure(1, 2)
    models = list(dict.fromkeys(row["model"] for row in rows))
    for axes, name, label in (
        (panels[0, 0], "number", "share of right answers"),
        (panels[0, 1], "loss", "loss per solution token, nats"),
    ):
        for place, model in enumerate(models):
            own = [row for row in rows if row["model"] == model]
            values = np.array([row[name] for row in own])
            low = np.array([row[f"{name}_low"] for row in own])
            high = np.array([row[f"{name}_high"] for row in own])
            # Apart by a hair, so that intervals do not hide each other.
            at = np.array([row["shots"] for row in own]) + 0.06 * (place - (len(models) - 1) / 2)
            errors = np.maximum(0, [values - low, high - values])
            axes.errorbar(at, values, errors, marker="o", capsize=2, label=model)
        axes.set(xlabel="shots", ylabel=label)
    panels[0, 0].set_ylim(bottom=0)
    panels[0, 0].legend()
    return figure
