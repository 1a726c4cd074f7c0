"""Figures of the comparison, from its settings and records alone: of all, and of every run."""

import itertools
from collections.abc import Iterator
from typing import Any

import xarray as xr
from matplotlib import figure as mpl_figure
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from truncated_weights.experiments.linearised.settings import Linearised
from truncated_weights.experiments.run.drawing import style
from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.experiments.run.drawing.style import COLOURS, CYCLE
from truncated_weights.training import reductions
from truncated_weights.training.records import FIRST_BAD, Records

# More widths or rates than this do not fit on a page.
MOST = 4


def run_name(width: int, rate: float, variant: str = "") -> str:
    """How a run, or what its variants share, is called in files and summary."""
    return f"d{width}/rate{rate:g}" + f"/{variant}" * bool(variant)


def comparable(records: Records) -> xr.Dataset:
    """Block `models`, NaN for a seed where a run lost it: variants are compared seed by seed."""
    return records.models.where(records.models[FIRST_BAD] < 0)


def figures(config: Linearised, records: Records) -> Iterator[Figure]:
    """p(noise) and p(correct) of every variant, mean and deviation over seeds not lost."""
    both = {"full", "linearised"} <= set(config.variants)
    if both and len(config.widths) > 1 and len(config.learning_rates) > 1:
        yield overview(config, records)
    for width, rate in itertools.product(config.widths, config.learning_rates):
        panels = [learned(config, records, width, rate, metric) for metric in TITLES]
        yield Figure(run_name(width, rate).replace("/", "_"), panels, width=6.2)


# metric -> title and label of its panel, what its name begins with, what a caption says of it.
TITLES = {
    "p_noise": ("the noise", "p(noise)", "noise", "The noise with the kernel of the start"),
    "p_correct": ("recall", "p(correct)", "recall", "Recall with the kernel of the start"),
}


def learned(config: Linearised, records: Records, width: int, rate: float, metric: str) -> Panel:
    """One probability along training, by variant, and predicted with no network."""
    title, label, word, about = TITLES[metric]
    found = comparable(records)[metric].sel(width=width, rate=rate)
    exact = records.predicted[metric].sel(width=width, rate=rate)

    def draw(axes: Axes) -> None:
        for colour, variant in zip(CYCLE * 2, config.variants, strict=False):
            values = found.sel(variant=variant)
            style.over_steps(axes, values, label=variant, color=colour)
        _predicted(axes, exact, lw=0.7, label="predicted")
        axes.set_ylabel(label)

    last = reductions.mean(found.isel(step=-1)).value
    ends = ", ".join(f"{v} {float(last.sel(variant=v)):.2f}" for v in config.variants)
    caption = f"{about}, d = {width}, rate {rate:g}; {label} on clean sequences ends at: {ends}."
    name = f"{word}-d{width}-rate{rate:g}"
    return Panel(name, f"{title}, d = {width}, rate {rate:g}", draw, caption)


def overview(config: Linearised, records: Records) -> Figure:
    """A panel per width and rate; colour tells the noise from recall, the line who learned it."""
    widths, rates = config.widths[:MOST], config.learning_rates[:MOST]
    panels = [both(config, records, width, rate) for rate in rates for width in widths]

    def legend(canvas: mpl_figure.Figure) -> None:
        first = canvas.axes[0]
        for axes in canvas.axes:
            axes.label_outer()
        for word in ("noise", "correct"):
            first.plot([], [], color=COLOURS[word], label=f"p({word})")
        first.plot([], [], color="0.3", ls="-", label="full network")
        first.plot([], [], color="0.3", ls="--", label="linear in its weights")
        first.plot([], [], color=COLOURS["theory"], ls=":", label="p(noise) with no network")
        handles, labels = first.get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside lower center", ncols=5, columnspacing=1.2)

    return Figure("overview", panels, len(widths), 1.75, after=legend)


def both(config: Linearised, records: Records, width: int, rate: float) -> Panel:
    """Both probabilities, in full (solid) and linear (dashed), and the noise predicted (dots)."""
    found = comparable(records).sel(width=width, rate=rate)
    exact = records.predicted.p_noise.sel(width=width, rate=rate)

    def draw(axes: Axes) -> None:
        for metric, word in (("p_noise", "noise"), ("p_correct", "correct")):
            for variant, line in (("full", "-"), ("linearised", "--")):
                values = found[metric].sel(variant=variant)
                style.over_steps(axes, values, label="", color=COLOURS[word], ls=line, lw=1.1)
        _predicted(axes, exact, lw=0.9, ls=":")
        axes.axhline(config.alpha, color="0.85", lw=0.6, zorder=0)
        axes.set_ylim(0, 1)
        axes.set_xlim(1, config.steps)
        axes.xaxis.set_major_locator(LogLocator(base=10))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylabel("probability")

    caption = (
        f"p(noise) and p(correct) at d = {width}, rate {rate:g}: solid in the full network, dashed "
        "in the one linear in its weights, dotted p(noise) predicted with no network."
    )
    name = f"overview-d{width}-rate{rate:g}"
    return Panel(name, f"d = {width}, rate {rate:g}", draw, caption, legend=0)


def _predicted(axes: Axes, exact: xr.DataArray, **line: Any) -> None:
    """A predicted curve [step] from step 1 on: step 0 has no place on a log axis."""
    later = exact.sel(step=exact.step > 0)
    axes.plot(later.step, later, color=COLOURS["theory"], **line)
