"""Facts by frequency before and after the best cut, over the memory's curves, from arrays alone."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.run import style
from experiments.run.style import COLOURS

Arrays = Mapping[str, np.ndarray]
SIDES = (("whole", "before", COLOURS["noise"]), ("cut", "after", COLOURS["correct"]))
# The memory that shares its answers: what is predicted, how it is drawn, how it is called.
LINES = (
    ("none", "whole", "-", "whole, memory"),
    ("matched", "cut", "-", 'cut, memory, as strong on " the"'),
    ("top", "cut", ":", "cut, memory, top component"),
)
COLOUR = {label: colour for label, _, colour in SIDES}
TITLES = {"p_the": 'p(" the")', "p_answer": "p(answer)", "accuracy": "accuracy"}


def draw(
    arrays: Arrays, rows: Sequence[Mapping[str, Any]], bins: int
) -> Iterator[tuple[str, Figure]]:
    """Each figure with its name."""
    yield "by_frequency", by_frequency(arrays, bins)
    yield "window", window(rows, arrays["frequency"])


def by_frequency(arrays: Arrays, bins: int) -> Figure:
    """Means over runs in bins of equally many facts, at three steps; bars: twice the error."""
    steps = arrays["steps"]
    shown = sorted({0, len(steps) // 2, len(steps) - 1} if len(steps) < 6 else
                   {int(np.argmin(np.abs(steps - x))) for x in (128, 512, steps[-1])})  # fmt: skip
    canvas, panels = style.figure(3, len(shown), height=1.9)
    frequency = arrays["frequency"][arrays["test"]]
    # An error needs two facts, and is worth something from three on.
    order = np.array_split(np.argsort(-frequency), max(1, min(bins, len(frequency) // 3)))
    centre = np.array([np.exp(np.log(frequency[members]).mean()) for members in order])
    letters = iter("abcdefghi")
    for row, (score, ylabel) in enumerate(TITLES.items()):
        for column, place in enumerate(shown):
            axes = panels[row, column]
            for label, measured, colour in SIDES:
                values = _facts(arrays, f"measured/{measured}/{score}", place)
                mean = [values[members].mean() for members in order]
                error = [2 * values[m].std(ddof=1) / len(m) ** 0.5 for m in order]
                axes.errorbar(
                    centre, mean, error, fmt="o", ms=2.5, lw=0.8, color=colour,
                    label=f"{label}, measured",
                )  # fmt: skip
            for which, label, line, title in LINES:
                said = _facts(arrays, f"predicted/shared/{which}/{score}", place)
                curve = [said[members].mean() for members in order]
                axes.plot(centre, curve, color=COLOUR[label], ls=line, lw=0.9, label=title)
            axes.set_xscale("log")
            axes.set_ylim(-0.04, {"p_the": 0.64}.get(score, 1.04))
            if score == "p_the":
                axes.axhline(float(arrays["alpha"]), color="0.8", lw=0.8, zorder=0)
            if column == 0:
                axes.set_ylabel(ylabel)
            if row == 2:
                axes.set_xlabel("frequency in the text")
            style.panel(axes, next(letters), f"step {steps[place]}" if row == 0 else "")
    handles, texts = panels[0, 0].get_legend_handles_labels()
    canvas.legend(handles, texts, loc="outside lower center", ncols=3)
    return canvas


def _facts(arrays: Arrays, name: str, place: int) -> np.ndarray:
    return np.asarray(arrays[name][:, place][:, arrays["test"]].mean(axis=0))


def window(rows: Sequence[Mapping[str, Any]], frequency: np.ndarray) -> Figure:
    """The rarest known frequency along training, whole and cut: the window is between."""
    canvas, ((left, right),) = style.figure(1, 2, height=2.8)
    group = rows[-1]["run"]
    own = [row for row in rows if row["run"] == group]
    for label, _, colour in SIDES:
        found = [row for row in own if row["who"] == "measured"]
        steps, values = _borders(found, label)
        low, high = (_borders(found, label, end)[1] for end in ("_low", "_high"))
        # Whole and cut apart by a hair, so that their intervals do not hide each other.
        left.errorbar(
            steps * (0.98 if label == "whole" else 1.02), values,
            np.nan_to_num(np.abs(np.stack([low, high]) - values)),
            fmt="o", ms=3, lw=0.9, color=colour, label=f"{label}, measured",
        )  # fmt: skip
    for which, label, line, title in LINES:
        said = [r for r in own if r["who"] == f"shared, {'top' if which == 'none' else which}"]
        left.plot(*_borders(said, label), color=COLOUR[label], ls=line, lw=0.9, label=title)
    _step_axis(left, own)
    left.set_yscale("log")
    left.set_ylim(0.8 * frequency.min(), 1.25 * frequency.max())
    left.set_ylabel("rarest known frequency")
    style.panel(left, "a", "between whole and cut: corrected")
    style.legend_below(left, 1)
    _gains(right, own)
    return canvas


def _borders(
    rows: Sequence[Mapping[str, Any]], label: str, end: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Steps and borders; what is no finite frequency (None in JSON, 0) is left out of the line."""
    values = [row[f"{label}_border{end}"] for row in rows]
    steps = np.array([row["step"] for row in rows])
    return steps, np.array([np.nan if not v or not np.isfinite(v) else v for v in values])


def _gains(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Mean gain in accuracy along training, measured and predicted."""
    for label, who, colour, line in (
        ("measured", "measured", COLOURS["neutral"], "o-"),
        ('memory, as strong on " the"', "shared, matched", COLOURS["theory"], "-"),
        ("memory, top component", "shared, top", COLOURS["theory"], ":"),
    ):
        own = [row for row in rows if row["who"] == who]
        gain = [row["cut_accuracy"] - row["whole_accuracy"] for row in own]
        axes.plot([row["step"] for row in own], gain, line, ms=3, lw=0.9, color=colour, label=label)
    axes.axhline(0.0, color="0.8", lw=0.8, zorder=0)
    _step_axis(axes, rows)
    axes.set_ylabel("gain in accuracy by the cut")
    style.panel(axes, "b", "all facts")
    style.legend_below(axes, 1)


def _step_axis(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    # The steps themselves: between two powers of ten a locator's labels run into each other.
    style.step_axis(axes)
    steps = sorted({row["step"] for row in rows})
    shown = [s for s, after in zip(steps, [*steps[1:], np.inf], strict=True) if after > 1.2 * s]
    axes.set_xticks(shown, [str(step) for step in shown])
    axes.minorticks_off()
