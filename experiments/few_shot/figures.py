"""Accuracy, its change by a cut, and loss, by number of shots."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.run import style
from experiments.run.style import COLOURS, CYCLE

# How far apart models stand at one number of shots, so that their intervals can all be seen.
APART = 0.09


def by_shots(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """One line a model: right answers, their change to the full model, loss; 95 % intervals."""
    canvas, ((left, middle, right),) = style.figure(1, 3, height=2.4)
    models = list(dict.fromkeys(row["model"] for row in rows))
    shots = sorted({row["shots"] for row in rows})
    panels = (
        (left, "number", 100.0, "right answers, %", models),
        (middle, "number_change", 100.0, "change to full, points", models[1:]),
        (right, "loss", 1.0, "loss per solution token, nats", models),
    )
    for letter, (axes, name, scale, label, shown) in zip("abc", panels, strict=True):
        for model in shown:
            place = models.index(model)
            own = [row for row in rows if row["model"] == model]
            values, low, high = (
                # What does not exist, None, is not drawn.
                scale * np.array([row[f"{name}{end}"] for row in own], float)
                for end in ("", "_low", "_high")
            )
            # Numbers of shots double: every one has the same room.
            at = np.array([shots.index(row["shots"]) for row in own], float)
            at += APART * (place - (len(models) - 1) / 2)
            axes.errorbar(
                at, values, np.maximum(0, [values - low, high - values]), marker="o", ms=2.5,
                lw=1, elinewidth=0.8, ls="--" if place == 0 else "-", label=model,
                color=COLOURS["neutral"] if place == 0 else CYCLE[(place - 1) % len(CYCLE)],
            )  # fmt: skip
        axes.set_xticks(range(len(shots)), [f"{count:g}" for count in shots])
        axes.set_xlim(-0.5, len(shots) - 0.5)
        axes.set_xlabel("shots")
        axes.set_ylabel(label)
        style.panel(axes, letter, "")
    left.set_ylim(0, 103)
    right.set_ylim(bottom=0)
    middle.axhline(0.0, color="0.7", lw=0.8, zorder=0)
    handles, texts = left.get_legend_handles_labels()
    canvas.legend(handles, texts, loc="outside lower center", ncols=min(4, len(models)))
    return canvas
