"""The figures of the plateau's study, from its settings and records alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from truncated_weights.experiments.plateau.compare import at, compared
from truncated_weights.experiments.plateau.settings import LAGS, Plateau
from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.experiments.run.drawing.style import COLOURS, CYCLE
from truncated_weights.training.records import Records

MARKERS = "osD^v"
KINDS = {
    "drawn": ("labels drawn", COLOURS["noise"]),
    "fair": ("labels replaced by their law", COLOURS["correct"]),
}
# Steps of a series that a panel has room for.
SHOWN = 200


def figures(config: Plateau, records: Records) -> Iterator[Figure]:
    """Deviation and dip, measured against predicted; correlations; what causes the wander."""
    cells = records.cells
    if not cells.seeds.any():
        return
    panels = [
        against(config, cells, "deviation"),
        against(config, cells, "dip"),
        correlations(config, cells),
        causes(config, cells),
    ]
    yield Figure("plateau", panels, columns=2, height=2.7, width=6.4)
    if int(cells.seeds.sel(middle(config))):
        yield Figure("watched", [watched(config, records)], width=5.0)


def middle(config: Plateau) -> dict[str, Any]:
    """The cell in the middle of all settings."""
    axes = {"batch": config.batch_sizes, "rate": config.learning_rates, "momentum": config.momenta}
    return {axis: places[len(places) // 2] for axis, places in axes.items()}


def told(cell: dict[str, Any]) -> str:
    """A cell in words."""
    return ", ".join(f"{axis} {place:g}" for axis, place in cell.items())


def against(config: Plateau, cells: xr.Dataset, figure: str) -> Panel:
    """Measured against predicted: a point per cell, filled for all modes and hollow for one."""
    measured = compared(config)[figure]
    title, what = {
        "deviation": ("how far it wanders", "deviation of p(noise) from labels"),
        "dip": ("how fast it rings", "lag of the first dip, steps"),
    }[figure]

    def draw(axes: Axes) -> None:
        ends = []
        for (_, rate, momentum), here in at(config, cells):
            values = here[figure]
            seen, modes, one = (float(values.sel(kind=k)) for k in (measured, "modes", "one_mode"))
            if not (np.isfinite(seen) and np.isfinite(modes)):
                continue
            shared: dict[str, Any] = {
                "color": CYCLE[config.learning_rates.index(rate) % len(CYCLE)],
                "marker": _marker(config, momentum), "ls": "none", "ms": 3.6,
            }  # fmt: skip
            axes.plot(one, seen, mfc="none", mew=0.6, **shared)
            error = float(here.error.sel(kind=config.kinds[0])) if figure == "deviation" else None
            axes.errorbar(modes, seen, yerr=error or None, elinewidth=0.7, **shared)
            ends += [seen, modes, *([one] if np.isfinite(one) else [])]
        if ends:
            axes.axline((ends[0], ends[0]), slope=1, color="0.6", lw=0.8, zorder=0)
            low, room = min(ends), 0.15 * (max(ends) - min(ends)) + 1e-12
            axes.set_xlim(low - room, max(ends) + room)
            axes.set_ylim(low - room, max(ends) + room)
        for index, rate in enumerate(config.learning_rates):
            axes.plot([], [], "o", color=CYCLE[index % len(CYCLE)], ms=3.6, label=f"rate {rate:g}")
        for momentum in config.momenta:
            axes.plot([], [], _marker(config, momentum), color="0.3", ms=3.6,
                      label=f"momentum {momentum:g}")  # fmt: skip
        axes.plot([], [], "o", color="0.3", mfc="none", mew=0.6, ms=3.6, label="one mode")
        if figure == "deviation":
            axes.legend(loc="upper left", fontsize=6, handletextpad=0.1, borderaxespad=0.1)
        axes.set_xlabel(f"predicted {what}")
        axes.set_ylabel("measured")

    caption = (
        f"Measured against predicted {what}, a point for every batch, rate and momentum; filled "
        "where all modes predict it, hollow where one does."
    )
    return Panel(f"plateau-{figure}", title, draw, caption, legend=0)


def correlations(config: Plateau, cells: xr.Dataset) -> Panel:
    """Points measured, lines all modes, dots one mode; a colour per momentum, the middle cell."""
    cell = middle(config)
    here = cells.sel(batch=cell["batch"], rate=cell["rate"])
    lags = np.arange(LAGS + 1)

    def draw(axes: Axes) -> None:
        for index, momentum in enumerate(config.momenta):
            found = here.sel(momentum=momentum).correlation
            colour = CYCLE[index % len(CYCLE)]
            axes.plot(lags, found.sel(kind=config.kinds[0]), _marker(config, momentum),
                      color=colour, ms=3, mfc="white", mew=0.8,
                      label=f"momentum {momentum:g}")  # fmt: skip
            axes.plot(lags, found.sel(kind="modes"), color=colour, lw=1.1)
            axes.plot(lags, found.sel(kind="one_mode"), color=colour, lw=0.7, ls=":")
        axes.plot([], [], color="0.3", lw=1.1, label="all modes")
        axes.plot([], [], color="0.3", lw=0.7, ls=":", label="one mode")
        axes.axhline(0, color="0.8", lw=0.6, zorder=0)
        axes.set_xlabel(f"lag, steps (rate {cell['rate']:g}, batch {cell['batch']})")
        axes.set_ylabel("autocorrelation of p(noise)")
        axes.legend(loc="upper right", fontsize=6, ncols=2)

    caption = (
        f"Autocorrelation of p(noise) at rate {cell['rate']:g}, batch {cell['batch']}, by "
        "momentum: points measured, lines predicted from all modes, dotted from one."
    )
    return Panel("plateau-correlation", "autocorrelation", draw, caption, legend=0)


def causes(config: Plateau, cells: xr.Dataset) -> Panel:
    """Deviation against batch: labels drawn, and replaced by their law."""

    def draw(axes: Axes) -> None:
        for kind in config.kinds:
            label, colour = KINDS[kind]
            for (batch, rate, momentum), here in at(config, cells):
                shift = 1.06 ** (config.learning_rates.index(rate) - 1)
                axes.plot(batch * shift, here.deviation.sel(kind=kind), _marker(config, momentum),
                          color=colour, ms=3, mfc="white", mew=0.8)  # fmt: skip
            axes.plot([], [], "o", color=colour, mfc="white", ms=3, label=label)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator([float(size) for size in config.batch_sizes]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("batch; in each, the rates rising")
        axes.set_ylabel("deviation of p(noise)")
        axes.set_ylim(0, 1.35 * float(cells.deviation.sel(kind=list(config.kinds)).max()))
        axes.legend(loc="upper right", fontsize=6)

    caption = (
        "Standard deviation of p(noise) over the steps against the batch, with labels drawn as "
        "ever and with labels replaced by their law."
    )
    return Panel("plateau-causes", "what makes it wander", draw, caption, legend=0)


def watched(config: Plateau, records: Records) -> Panel:
    """p(noise) of one network step by step after settling, by what its labels are."""
    cell = middle(config)
    whole = records.watched.p_noise.sel(cell).dropna("seed").isel(seed=0)
    series = whole.isel(step=slice(SHOWN))

    def draw(axes: Axes) -> None:
        for kind in config.kinds:
            label, colour = KINDS[kind]
            steps = series.step - config.settling
            axes.plot(steps, series.sel(kind=kind), color=colour, lw=0.8, label=label)
        axes.set_xlabel("step after settling")
        axes.set_ylabel("p(noise)")

    deviations = ", ".join(
        f"{float(series.sel(kind=kind).std()):.3f} with {KINDS[kind][0]}" for kind in config.kinds
    )
    caption = f"One network, {told(cell)}: standard deviation of p(noise) {deviations}."
    title = "the plateau with and without coin flips"
    return Panel("plateau-watched", title, draw, caption, legend=1)


def _marker(config: Plateau, momentum: float) -> str:
    return MARKERS[config.momenta.index(momentum) % len(MARKERS)]
