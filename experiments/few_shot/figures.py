"""Accuracy, its change by a cut, and loss, by number of shots."""

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes

from truncated_weights.experiments.few_shot.settings import FewShot
from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.experiments.run.drawing.style import COLOURS, CYCLE
from truncated_weights.training.records import Records

# How far apart models stand at one number of shots, so that their intervals can all be seen.
APART = 0.09


def figures(config: FewShot, records: Records) -> Iterator[Figure]:
    """Right answers, their change to the full model, loss."""
    panels = [
        by_shots(records, "number", "Right answers", "right answers, %", 100.0),
        by_shots(records, "number_change", "Change to full", "change to full, points", 100.0),
        by_shots(records, "loss", "Loss of solutions", "loss per solution token, nats"),
    ]
    yield Figure("by_shots", panels, height=2.4, legend=min(4, records.means.sizes["model"]))


def by_shots(records: Records, figure: str, title: str, label: str, scale: float = 1.0) -> Panel:
    """One line a model, with 95 % intervals; of a change none for the full model."""
    means = records.means.sortby("shots").transpose("shots", "model")
    models = list(map(str, means.model.values))
    change = figure.endswith("_change")

    def draw(axes: Axes) -> None:
        for place, model in enumerate(models):
            if change and place == 0:
                continue
            own = scale * means.sel(model=model)
            values, low, high = (own[f"{figure}{end}"].values for end in ("", "_low", "_high"))
            # Numbers of shots double: every one has the same room.
            at = np.arange(values.size) + APART * (place - (len(models) - 1) / 2)
            axes.errorbar(
                at, values, np.maximum(0, [values - low, high - values]), marker="o", ms=2.5,
                lw=1, elinewidth=0.8, ls="--" if place == 0 else "-", label=model,
                color=COLOURS["neutral"] if place == 0 else CYCLE[(place - 1) % len(CYCLE)],
            )  # fmt: skip
        axes.set_xticks(range(means.sizes["shots"]), [f"{n:g}" for n in means.shots.values])
        axes.set_xlim(-0.5, means.sizes["shots"] - 0.5)
        axes.set_xlabel("shots")
        axes.set_ylabel(label)
        if figure == "number":
            axes.set_ylim(0, 103)
        elif change:
            axes.axhline(0.0, color="0.7", lw=0.8, zorder=0)
        else:
            axes.set_ylim(bottom=0)

    caption = f"{title} by number of shots, full against cut, with 95 % intervals."
    return Panel(f"shots-{figure}", title, draw, caption)
