"""What every rule finds, at what price, where it cut, and along training, from rows alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.run import style
from experiments.run.style import COLOURS, CYCLE
from training import seeds

Rows = Sequence[Mapping[str, Any]]


def number(value: float | None) -> float:
    """A figure of a row; what does not exist is None in the files and nan in arithmetic."""
    return float("nan") if value is None else value


def rules(rows: Rows, step: int) -> Figure:
    """What every rule finds, at what price, where it cut, and along training.

    rows: those of find_noise; points are means over seeds, bars one standard error.
    """
    final = [row for row in rows if row["step"] == step]
    along = sorted({row["step"] for row in rows})
    names = list(dict.fromkeys(row["rule"] for row in final))
    canvas, panels = style.figure(2, 2, height=2.9)
    _outcomes(panels[0, 0], final, names)
    _prices(panels[0, 1], final, names)
    _places(panels[1, 0], final, names)
    if len(along) > 1:
        _along(panels[1, 1], rows)
    else:
        panels[1, 1].set_visible(False)
    return canvas


def _seeds(rows: Rows, rule: str, name: str) -> np.ndarray:
    """Per seed; several random draws of one seed are averaged."""
    numbers = sorted({row["seed"] for row in rows if row["rule"] == rule})
    return np.array(
        [
            np.mean([number(r[name]) for r in rows if r["rule"] == rule and r["seed"] == s])
            for s in numbers
        ]
    )


def _mean_error(values: np.ndarray) -> tuple[float, float]:
    found = seeds.told("", values)
    return found[""], found.get("/sem", 0.0)


def _outcomes(axes: Axes, rows: Rows, names: list[str]) -> None:
    for offset, metric, kind in ((0.12, "p_correct", "correct"), (-0.12, "p_noise", "noise")):
        for index, rule in enumerate(names):
            mean, error = _mean_error(_seeds(rows, rule, metric))
            axes.errorbar(
                mean, -index + offset, xerr=error, fmt="o", ms=4, capsize=2,
                color=COLOURS[kind], label=f"p({kind})" if index == 0 else None,
            )  # fmt: skip
    axes.set_yticks([-i for i in range(len(names))], names)
    axes.set_xlim(-0.03, 1.03)
    axes.grid(axis="y", color="0.92", lw=0.6)
    axes.set_xlabel("probability, clean test sequences")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.2), ncols=2)
    style.panel(axes, "a", "what each rule leads to")


def _prices(axes: Axes, rows: Rows, names: list[str]) -> None:
    searched = [n for n in names if seeds.mean(_seeds(rows, n, "evaluations")) > 0]
    for colour, marker, rule in zip((*CYCLE, *CYCLE), "osD^vPX*<>hp", searched, strict=False):
        price, _ = _mean_error(_seeds(rows, rule, "evaluations"))
        mean, error = _mean_error(1 - _seeds(rows, rule, "p_correct"))
        axes.errorbar(
            price, mean, yerr=error, fmt=marker, ms=5, capsize=2, color=colour, label=rule
        )
    for axis in (axes.xaxis, axes.yaxis):
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("evaluations of the validation set")
    axes.set_ylabel("1 - p(correct), clean test")
    style.legend_below(axes)
    style.panel(axes, "b", "what it costs")


def _places(axes: Axes, rows: Rows, names: list[str]) -> None:
    shown = [n for n in names if np.isfinite(_seeds(rows, n, "noise_removed")).any()]
    for offset, name, colour, label in (
        (0.12, "noise_removed", COLOURS["noise"], "towards the noise token"),
        (-0.12, "outputs_removed", COLOURS["correct"], "towards possible answers (mean)"),
    ):
        for index, rule in enumerate(shown):
            mean, error = _mean_error(_seeds(rows, rule, name))
            axes.errorbar(
                mean, -index + offset, xerr=error, fmt="s", ms=4, capsize=2, color=colour,
                label=label if index == 0 else None,
            )  # fmt: skip
    axes.set_yticks([-i for i in range(len(shown))], shown)
    axes.set_xlim(-0.03, 1.03)
    axes.grid(axis="y", color="0.92", lw=0.6)
    axes.set_xlabel("share of the cut matrices' output energy removed")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.2), ncols=1)
    style.panel(axes, "c", "was it the noise that was cut?")


def _along(axes: Axes, rows: Rows) -> None:
    seed = min(row["seed"] for row in rows)
    brief = [row for row in rows if row["seed"] == seed]
    steps = sorted({row["step"] for row in brief})
    followed = ["full model", "grid", "gradient-guided", "random search", "Gavish-Donoho"]
    styles = ["--", "-", ":", "-.", "-"]
    for colour, line, rule in zip(("#4D4D4D", *CYCLE), styles, followed, strict=False):
        values = [
            seeds.mean(_seeds([r for r in brief if r["step"] == step], rule, "p_correct"))
            for step in steps
        ]
        axes.plot(np.maximum(steps, 1), values, line, marker="o", ms=3, color=colour, label=rule)
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("p(correct), clean test")
    style.step_axis(axes)
    style.legend_below(axes)
    style.panel(axes, "d", f"along training, seed {seed}")
