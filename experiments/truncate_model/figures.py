"""Answers of every test example before and after a cut, drawn from arrays alone."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.run import style
from experiments.run.style import COLOURS

Arrays = Mapping[str, np.ndarray]

# A composition of many cuts would leave a legend no room for the panel.
LONGEST_LABEL = 34


def distributions(before: Arrays, after: Arrays, name: str) -> Figure:
    """Per test example: log p(answer), p(" the") and the margin, before and after the cut."""
    canvas, ((left, middle, right),) = style.figure(1, 3, height=2.4)
    shown = name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 4]} ..."
    panels: list[tuple[Axes, str, str, float]] = [
        (left, "loss", "log p(answer), nats", -1.0),
        (middle, "p_the", 'p(" the")', 1.0),
    ]
    for letter, (axes, metric, label, sign) in zip("ab", panels, strict=True):
        values = [sign * scores[metric][:, 0] for scores in (before, after)]
        edges = np.histogram_bin_edges(np.concatenate(values), bins=24).tolist()
        for sample, title, colour in zip(
            values, ("full", shown), (COLOURS["neutral"], COLOURS["correct"]), strict=True
        ):
            axes.hist(sample, edges, histtype="stepfilled", color=colour, alpha=0.25)
            axes.hist(sample, edges, histtype="step", color=colour, label=title, lw=1.2)
            axes.axvline(float(np.mean(sample)), color=colour, lw=0.9, ls="--")
        axes.set_xlabel(label)
        axes.set_ylabel("test examples")
        style.panel(axes, letter, "dashed: mean" if letter == "a" else "")
    style.legend_below(left, 1)
    _against(right, -before["loss"][:, 0], -after["loss"][:, 0])
    return canvas


def _against(axes: Axes, before: np.ndarray, after: np.ndarray) -> None:
    low, high = (float(f(np.concatenate([before, after]))) for f in (np.min, np.max))
    room = 0.03 * (high - low) + 1e-3
    axes.plot([low - room, high + room], [low - room, high + room], color="0.7", lw=0.8, zorder=0)
    better = after > before
    for chosen, colour, label in (
        (better, COLOURS["correct"], f"better ({better.mean():.0%})"),
        (~better, COLOURS["noise"], f"worse ({(~better).mean():.0%})"),
    ):
        axes.plot(before[chosen], after[chosen], ".", ms=3, alpha=0.6, color=colour, label=label)
    axes.set_xlabel("log p(answer), full")
    axes.set_ylabel("log p(answer), after")
    axes.set_aspect("equal", adjustable="datalim")
    style.legend_below(axes)
    style.panel(axes, "c", "each example")
