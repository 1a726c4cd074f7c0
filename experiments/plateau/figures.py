"""The figure of the plateau's study, from its saved arrays alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from experiments.plateau.settings import LAGS, Plateau
from experiments.run import style
from experiments.run.style import COLOURS, CYCLE
from theory import plateau

Rows = Sequence[Mapping[str, Any]]
MARKERS = "osD^v"


def draw(config: Plateau, arrays: Mapping[str, np.ndarray], rows: Rows) -> Figure:
    """Deviation and dip, measured against predicted; correlations; what causes the wander."""
    canvas, axes = style.figure(2, 2, width=6.4, height=2.7)
    kind = config.kinds[0]
    # A cell whose seeds were all lost has a row and no point.
    rows = [row for row in rows if row["seeds"]]
    whose = "labels" if "labels/deviation" in rows[0] else kind
    _against(config, axes[0, 0], rows, f"{whose}/deviation", "deviation", f"{kind}/error")
    axes[0, 0].set_xlabel("predicted deviation of p(noise) from labels")
    axes[0, 0].set_ylabel("measured")
    style.panel(axes[0, 0], "a", "how far it wanders")
    _against(config, axes[0, 1], rows, f"{kind}/dip", "dip", None)
    axes[0, 1].set_xlabel("predicted lag of the first dip, steps")
    axes[0, 1].set_ylabel("measured")
    style.panel(axes[0, 1], "b", "how fast it rings")
    _correlations(config, axes[1, 0], arrays, rows)
    style.panel(axes[1, 0], "c", "autocorrelation")
    _causes(config, axes[1, 1], rows)
    style.panel(axes[1, 1], "d", "what makes it wander")
    return canvas


def _against(
    config: Plateau, axes: Axes, rows: Rows, measured: str, figure: str, error: str | None
) -> None:
    """A point per cell, filled for all modes and hollow for one; colour the rate."""
    kept = [row for row in rows if row.get(f"modes/{figure}") and row[measured]]
    for row in kept:
        colour = CYCLE[config.learning_rates.index(row["rate"]) % len(CYCLE)]
        marker = MARKERS[config.momenta.index(row["momentum"]) % len(MARKERS)]
        shared: dict[str, Any] = {"color": colour, "marker": marker, "ls": "none", "ms": 3.6}
        if row.get(f"one_mode/{figure}"):
            axes.plot(row[f"one_mode/{figure}"], row[measured], mfc="none", mew=0.6, **shared)
        bar = row[error] if error else None
        axes.errorbar(row[f"modes/{figure}"], row[measured], yerr=bar, elinewidth=0.7, **shared)
    ends = [row[key] for row in kept for key in (measured, f"modes/{figure}")]
    if ends:
        ends += [row[f"one_mode/{figure}"] for row in kept if row.get(f"one_mode/{figure}")]
        axes.axline((ends[0], ends[0]), slope=1, color="0.6", lw=0.8, zorder=0)
        low, room = min(ends), 0.15 * (max(ends) - min(ends)) + 1e-12
        axes.set_xlim(low - room, max(ends) + room)
        axes.set_ylim(low - room, max(ends) + room)
    for index, rate in enumerate(config.learning_rates):
        axes.plot([], [], "o", color=CYCLE[index % len(CYCLE)], ms=3.6, label=f"rate {rate:g}")
    for index, momentum in enumerate(config.momenta):
        axes.plot([], [], MARKERS[index % len(MARKERS)], color="0.3", ms=3.6,
                  label=f"momentum {momentum:g}")  # fmt: skip
    axes.plot([], [], "o", color="0.3", mfc="none", mew=0.6, ms=3.6, label="one mode")
    if figure == "deviation":
        axes.legend(loc="upper left", fontsize=6, handletextpad=0.1, borderaxespad=0.1)


def _correlations(
    config: Plateau, axes: Axes, arrays: Mapping[str, np.ndarray], rows: Rows
) -> None:
    """Points measured, lines all modes, dots one mode; a colour per momentum, the middle cell."""
    size = config.batch_sizes[len(config.batch_sizes) // 2]
    rate = config.learning_rates[len(config.learning_rates) // 2]
    lags = np.arange(LAGS + 1)
    for index, momentum in enumerate(config.momenta):
        name = f"batch{size}/rate{rate:g}/momentum{momentum:g}"
        colour = CYCLE[index % len(CYCLE)]
        marker = MARKERS[index % len(MARKERS)]
        row = next(
            (r for r in rows if (r["batch"], r["rate"], r["momentum"]) == (size, rate, momentum)),
            None,
        )
        if row is None:
            continue
        series = arrays[f"{name}/{config.kinds[0]}"]
        kept = np.isfinite(series).all(axis=1)
        series = series[kept]
        seen = plateau.observed(series, lags=LAGS).correlation
        axes.plot(lags, seen, marker, color=colour, ms=3, mfc="white", mew=0.8,
                  label=f"momentum {momentum:g}")  # fmt: skip
        curvatures = arrays[f"{name}/curvatures"][kept].ravel()
        settings: dict[str, Any] = {
            "learning_rate": rate, "momentum": momentum, "labels": float(arrays[f"{name}/labels"]),
        }  # fmt: skip
        if row["beyond_edge"]:
            continue
        modes = plateau.wander_of_modes(
            np.maximum(curvatures, 1e-6 * curvatures.max()),
            arrays[f"{name}/weights"][kept].ravel(),
            window=series.shape[1],
            lags=LAGS,
            **settings,
        )
        one = plateau.wander(sharpness=row["sharpness"], alpha=config.alpha, lags=LAGS, **settings)
        axes.plot(lags, modes.correlation, color=colour, lw=1.1)
        axes.plot(lags, one.correlation, color=colour, lw=0.7, ls=":")
    axes.plot([], [], color="0.3", lw=1.1, label="all modes")
    axes.plot([], [], color="0.3", lw=0.7, ls=":", label="one mode")
    axes.axhline(0, color="0.8", lw=0.6, zorder=0)
    axes.set_xlabel(f"lag, steps (rate {rate:g}, batch {size})")
    axes.set_ylabel("autocorrelation of p(noise)")
    axes.legend(loc="upper right", fontsize=6, ncols=2)


def _causes(config: Plateau, axes: Axes, rows: Rows) -> None:
    """Deviation against batch: labels drawn, and replaced by their law."""
    titles = {"drawn": "labels drawn", "fair": "labels replaced by their law"}
    colours = {"drawn": COLOURS["noise"], "fair": COLOURS["correct"]}
    for kind in config.kinds:
        for row in rows:
            shift = 1.06 ** (config.learning_rates.index(row["rate"]) - 1)
            axes.plot(
                row["batch"] * shift,
                row[f"{kind}/deviation"],
                MARKERS[config.momenta.index(row["momentum"]) % len(MARKERS)],
                color=colours[kind],
                ms=3,
                mfc="white",
                mew=0.8,
            )
        axes.plot([], [], "o", color=colours[kind], mfc="white", ms=3, label=titles[kind])
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([float(size) for size in config.batch_sizes]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("batch; in each, the rates rising")
    axes.set_ylabel("deviation of p(noise)")
    axes.set_ylim(0, 1.35 * max(row[f"{kind}/deviation"] for row in rows for kind in config.kinds))
    axes.legend(loc="upper right", fontsize=6)
