"""Figures of the comparison, from its saved arrays alone: of all, and of every width and rate."""

from collections.abc import Iterator, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from experiments.linearised.settings import Linearised
from experiments.run import style
from experiments.run.style import COLOURS, CYCLE
from training import seeds

Arrays = Mapping[str, np.ndarray]
# More widths or rates than this do not fit on a page.
MOST = 4


def draw(config: Linearised, arrays: Arrays) -> Iterator[tuple[str, Figure]]:
    """p(noise) and p(correct) of every variant, mean and deviation over seeds not lost."""
    arrays = without_lost(arrays)
    both = {"full", "linearised"} <= set(config.variants)
    if both and len(config.widths) > 1 and len(config.learning_rates) > 1:
        yield "overview", overview(config, arrays)
    for width in config.widths:
        for rate in config.learning_rates:
            yield f"d{width}_rate{rate:g}", _alone(config, arrays, width, rate)


def without_lost(arrays: Arrays) -> dict[str, np.ndarray]:
    """The same arrays, NaN everywhere for a seed that a run lost: variants are compared by seed."""
    found = dict(arrays)
    for name, first in arrays.items():
        run, _, last = name.rpartition("/")
        if last == seeds.FIRST_BAD and (gone := first >= 0).any():
            for key, values in arrays.items():
                if key.startswith(f"{run}/") and values.ndim == 2:
                    found[key] = np.where(gone, np.nan, values)
    return found


def overview(config: Linearised, arrays: Arrays) -> Figure:
    """A panel per width and rate; colour tells the noise from recall, the line who learned it."""
    widths, rates = config.widths[:MOST], config.learning_rates[:MOST]
    canvas, panels = style.figure(len(rates), len(widths), width=7.0, height=1.75)
    for row, rate in enumerate(rates):
        for column, width in enumerate(widths):
            axes = panels[row, column]
            for key, name in (("p_noise", "noise"), ("p_correct", "correct")):
                for variant, line in (("full", "-"), ("linearised", "--")):
                    steps, values = _later(arrays, f"d{width}/rate{rate:g}/{variant}", key)
                    style.band(axes, steps, values, label="", color=COLOURS[name], ls=line, lw=1.1)
            curve = arrays[f"d{width}/rate{rate:g}/predicted/p_noise"]
            # Shown until the noise stands at alpha; later the prediction only rings.
            steps = np.arange(1, curve.size)
            axes.plot(steps, curve[1:], color=COLOURS["theory"], lw=0.9, ls=":")
            axes.axhline(config.alpha, color="0.85", lw=0.6, zorder=0)
            axes.set_ylim(0, 1)
            style.step_axis(axes)
            axes.set_xlim(1, config.steps)
            _plain_steps(axes)
            axes.label_outer()
            style.panel(axes, "abcdefghijklmnop"[row * len(widths) + column],
                        f"d = {width}, rate {rate:g}")  # fmt: skip
        panels[row, 0].set_ylabel("probability")
    for name, text in (("noise", "p(noise)"), ("correct", "p(correct)")):
        panels[0, 0].plot([], [], color=COLOURS[name], label=text)
    panels[0, 0].plot([], [], color="0.3", ls="-", label="full network")
    panels[0, 0].plot([], [], color="0.3", ls="--", label="linear in its weights")
    panels[0, 0].plot([], [], color=COLOURS["theory"], ls=":", label="p(noise) with no network")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=5, columnspacing=1.2)
    return canvas


def _alone(config: Linearised, arrays: Arrays, width: int, rate: float) -> Figure:
    canvas, ((left, right),) = style.figure(1, 2, width=6.2, height=2.9)
    for colour, variant in zip(CYCLE * 2, config.variants, strict=False):
        for axes, key in ((left, "p_noise"), (right, "p_correct")):
            steps, values = _later(arrays, f"d{width}/rate{rate:g}/{variant}", key)
            style.band(axes, steps, values, label=variant, color=colour)
    for axes, key, label, letter, title in (
        (left, "p_noise", "p(noise)", "a", "the noise"),
        (right, "p_correct", "p(correct)", "b", "recall"),
    ):
        curve = arrays[f"d{width}/rate{rate:g}/predicted/{key}"]
        axes.plot(
            np.arange(1, curve.size), curve[1:], color=COLOURS["theory"], lw=0.7, label="predicted"
        )
        axes.set_ylabel(label)
        style.step_axis(axes)
        style.panel(axes, letter, f"{title}, d = {width}, rate {rate:g}")
        style.legend_below(axes, 2)
    return canvas


def _later(arrays: Arrays, name: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values after step 0, which has no place on a log axis and is the same in all."""
    later = arrays[f"{name}/steps"] > 0
    return arrays[f"{name}/steps"][later], arrays[f"{name}/{key}"][later]


def _plain_steps(axes: Axes) -> None:
    axes.xaxis.set_major_locator(LogLocator(base=10))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
