"""Facts by frequency before and after the best cut, over the memory's curves."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import figure as mpl_figure
from matplotlib.axes import Axes

from truncated_weights.experiments.fact_frequency.facts import tested
from truncated_weights.experiments.fact_frequency.predicted import who
from truncated_weights.experiments.fact_frequency.settings import FactFrequency
from truncated_weights.experiments.run.drawing import style
from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.experiments.run.drawing.style import COLOURS
from truncated_weights.training.records import Records, rows_of

Rows = Sequence[Mapping[str, Any]]
SIDES = (("whole", "before", COLOURS["noise"]), ("cut", "after", COLOURS["correct"]))
# The memory that shares its answers: what is predicted, how it is drawn, how it is called.
LINES = (
    ("before", "whole", "-", "whole, memory"),
    ("matched", "cut", "-", 'cut, memory, as strong on " the"'),
    ("top", "cut", ":", "cut, memory, top component"),
)
COLOUR = {label: colour for label, _, colour in SIDES}
TITLES = {"p_the": 'p(" the")', "p_answer": "p(answer)", "accuracy": "accuracy"}
# Steps that are drawn, or the nearest ones, beside the last.
SHOWN = (128, 512)


def figures(config: FactFrequency, records: Records) -> Iterator[Figure]:
    """Facts by frequency at up to three steps, and the window along training."""
    steps = records.measured.step.values
    last = len(steps) - 1
    shown = sorted({0, len(steps) // 2, last} if len(steps) < 6 else
                   {last, *(int(np.argmin(np.abs(steps - x))) for x in SHOWN)})  # fmt: skip
    panels = [
        by_frequency(config, records, score, step)
        for score in TITLES
        for step in steps[shown].tolist()
    ]

    def legend(canvas: mpl_figure.Figure) -> None:
        handles, texts = canvas.axes[0].get_legend_handles_labels()
        canvas.legend(handles, texts, loc="outside lower center", ncols=3)

    yield Figure("by_frequency", panels, len(shown), height=1.9, after=legend)
    yield Figure("window", [window(records), gains(records)], height=2.8)


def by_frequency(config: FactFrequency, records: Records, score: str, step: int) -> Panel:
    """Means over runs in bins of equally many facts; bars: twice the error."""
    found = tested(records.measured[score].sel(step=step).to_dataset()).mean("run")[score]
    memory = tested(records.predicted[score].sel(step=step, answers="shared").to_dataset())
    said, frequency = memory.mean("run")[score], found.frequency.values
    # An error needs two facts, and is worth something from three on.
    bins = max(1, min(config.bins, len(frequency) // 3))
    order = np.array_split(np.argsort(-frequency), bins)
    centre = np.array([np.exp(np.log(frequency[members]).mean()) for members in order])

    def draw(axes: Axes) -> None:
        for label, model, colour in SIDES:
            values = found.sel(model=model).values
            mean = [values[members].mean() for members in order]
            error = [2 * values[m].std(ddof=1) / len(m) ** 0.5 for m in order]
            axes.errorbar(
                centre, mean, error, fmt="o", ms=2.5, lw=0.8, color=colour,
                label=f"{label}, measured",
            )  # fmt: skip
        for model, label, line, title in LINES:
            values = said.sel(model=model).values
            curve = [values[members].mean() for members in order]
            axes.plot(centre, curve, color=COLOUR[label], ls=line, lw=0.9, label=title)
        axes.set_xscale("log")
        axes.set_ylim(-0.04, {"p_the": 0.64}.get(score, 1.04))
        if score == "p_the":
            axes.axhline(float(found.alpha), color="0.8", lw=0.8, zorder=0)
        axes.set_xlabel("frequency in the text")

    means = " to ".join(f"{float(found.sel(model=model).mean()):.2f}" for _, model, _ in SIDES)
    caption = f"{TITLES[score]} of facts by frequency; the cut takes its mean from {means}."
    title = f"{TITLES[score]}, step {step}"
    return Panel(f"facts-{score}-{step}", title, draw, caption, legend=0)


def window(records: Records) -> Panel:
    """The rarest known frequency along training, whole and cut: the window is between."""
    own, frequency = _last_group(records), records.measured.frequency

    def draw(axes: Axes) -> None:
        for label, _, colour in SIDES:
            found = own["measured"]
            steps, values = _borders(found, label)
            low, high = (_borders(found, label, end)[1] for end in ("_low", "_high"))
            # Whole and cut apart by a hair, so that their intervals do not hide each other.
            axes.errorbar(
                steps * (0.98 if label == "whole" else 1.02), values,
                np.nan_to_num(np.abs(np.stack([low, high]) - values)),
                fmt="o", ms=3, lw=0.9, color=colour, label=f"{label}, measured",
            )  # fmt: skip
        for model, label, line, title in LINES:
            said = own[who("shared", "top" if model == "before" else model)]
            axes.plot(*_borders(said, label), color=COLOUR[label], ls=line, lw=0.9, label=title)
        _step_axis(axes, [row["step"] for row in own["measured"]])
        axes.set_yscale("log")
        axes.set_ylim(0.8 * float(frequency.min()), 1.25 * float(frequency.max()))
        axes.set_ylabel("rarest known frequency")

    caption = (
        "The rarest frequency at which facts are known, before and after the cut, measured and of "
        "the memory; facts between the two are corrected."
    )
    title = "between whole and cut: corrected"
    return Panel("facts-window", title, draw, caption, legend=1)


def gains(records: Records) -> Panel:
    """Mean gain in accuracy along training, measured and predicted."""
    own = {
        name: [(row["step"], row["cut_accuracy"] - row["whole_accuracy"]) for row in rows]
        for name, rows in _last_group(records).items()
    }

    def draw(axes: Axes) -> None:
        for label, name, colour, line in (
            ("measured", "measured", COLOURS["neutral"], "o-"),
            ('memory, as strong on " the"', who("shared", "matched"), COLOURS["theory"], "-"),
            ("memory, top component", who("shared", "top"), COLOURS["theory"], ":"),
        ):
            steps, values = zip(*own[name], strict=True)
            axes.plot(steps, values, line, ms=3, lw=0.9, color=colour, label=label)
        axes.axhline(0.0, color="0.8", lw=0.8, zorder=0)
        _step_axis(axes, [step for step, _ in own["measured"]])
        axes.set_ylabel("gain in accuracy by the cut")

    step, gain = own["measured"][-1]
    caption = f"Gain in accuracy over all facts by the cut; measured {gain:.2f} at step {step}."
    return Panel("facts-gains", "all facts", draw, caption, legend=1)


def _last_group(records: Records) -> dict[str, Rows]:
    """The rows of all runs, or of the only one, by who says it."""
    rows = rows_of(records.windows)
    own: dict[str, Any] = {}
    for row in rows:
        if row["run"] == rows[-1]["run"]:
            own.setdefault(row["who"], []).append(row)
    return own


def _borders(rows: Rows, label: str, end: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Steps and borders; what is no finite frequency (0, infinite) is left out of the line."""
    values = [row[f"{label}_border{end}"] for row in rows]
    steps = np.array([row["step"] for row in rows])
    return steps, np.array([v if v and np.isfinite(v) else np.nan for v in values])


def _step_axis(axes: Axes, steps: Sequence[int]) -> None:
    # The steps themselves: between two powers of ten a locator's labels run into each other.
    style.step_axis(axes)
    shown = [s for s, after in zip(steps, [*steps[1:], np.inf], strict=True) if after > 1.2 * s]
    axes.set_xticks(shown, [str(step) for step in shown])
    axes.minorticks_off()
