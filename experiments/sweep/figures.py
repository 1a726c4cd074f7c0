"""Figures of a sweep from its rows and arrays: learning curves, laws along an axis, phase maps."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.run import style
from experiments.sweep.plan import varied
from experiments.sweep.settings import Sweep

Rows = Sequence[Mapping[str, Any]]
Arrays = Mapping[str, np.ndarray]
# More values, panels or pairs than this are no figure but a wall.
MOST = 8
# Probabilities share one scale of colours, so that maps can be compared.
UNIT = ("p_correct", "p_noise", "accuracy", "attention_correct", "attention_noise", "noise_share")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def draw(config: Sweep, rows: Rows, arrays: Arrays, theory: Rows) -> Iterator[tuple[str, Figure]]:
    """Every figure of a sweep, with its name."""
    columns, names = chosen(config, rows), varied(config)
    if any(f"group0/models/{name}" in arrays for name in columns):
        yield "learning", learning(rows, arrays, names, columns)
    numeric = [n for n in names if isinstance(rows[0][n], int | float)]
    for name in numeric[:3]:
        others = [n for n in names if n != name and not _tied(rows, name, n)]
        yield f"along_{name}", along(rows, name, others[0] if others else "", columns)
    for x, y in itertools.combinations(numeric[:3], 2):
        if not _tied(rows, x, y):
            yield f"map_{x}_{y}", phase_map(rows, x, y, columns)
    if theory:
        yield "theory", predictions(theory, numeric[0] if numeric else "")


def chosen(config: Sweep, rows: Rows) -> tuple[str, ...]:
    """Columns to draw: those asked for, or outputs, one cut, half times and the noise's place."""
    if config.shown:
        return config.shown
    known = [n for n in rows[0] if n.startswith("clean/") and n.endswith("/p_correct") and "@" in n]
    # Of the cuts followed, the one that leaves most recall on average.
    cuts = sorted(known, key=lambda name: -float(np.mean(_cells(rows, name, {}) or [0.0])))
    tops = [n for n in rows[0] if n.endswith("fc_out/noise_over_rest")]
    return (
        "clean/full/p_correct",
        *cuts[:1],
        "clean/full/p_noise",
        "half_step/noise",
        "half_step/attention",
        "half_step/ratio",
        *tops[-1:],
    )


def learning(rows: Rows, arrays: Arrays, names: Sequence[str], columns: Sequence[str]) -> Figure:
    """Probabilities along training: colours are the first axis, rows of panels the second."""
    curves = [n for n in columns if f"group0/models/{n}" in arrays][:3]
    first, second = (*names, "", "")[:2]
    if second and _tied(rows, first, second):
        second = ""
    lanes = _values(rows, second)[:4] if second else [None]
    canvas, panels = style.figure(len(lanes), len(curves), height=2.2)
    colours = _colours(_values(rows, first)) if first else {None: style.COLOURS["correct"]}
    for lane, line in zip(lanes, panels, strict=True):
        for column, axes in zip(curves, line, strict=True):
            for value, colour in colours.items():
                wanted = {
                    row["run"]
                    for row in rows
                    if (not first or row[first] == value) and (not second or row[second] == lane)
                    # The curve of a run that was lost ends nowhere.
                    if row["lost_at"] is None
                }
                _bands(axes, arrays, column, wanted, f"{value}" if first else "", colour)
            axes.set_ylim(-0.02, 1.02)
            style.step_axis(axes)
            axes.set_title(label(column), loc="left")
        if second:
            line[0].set_ylabel(f"{label(second)} {lane}")
    if first:
        panels[0, 0].legend(title=label(first), title_fontsize=7)
    return canvas


def along(rows: Rows, name: str, other: str, columns: Sequence[str]) -> Figure:
    """Every column against one axis: mean and deviation over seeds, a line per value of another."""
    canvas, panels = _panels(len(columns[:MOST]))
    values = _values(rows, name)
    colours = _colours(_values(rows, other)) if other else {None: style.COLOURS["correct"]}
    for index, (column, axes) in enumerate(zip(columns, panels, strict=False)):
        for value, colour in colours.items():
            table = [
                _cells(rows, column, {name: x} | ({other: value} if other else {})) for x in values
            ]
            kept = [(x, cells) for x, cells in zip(values, table, strict=True) if cells]
            if not kept:
                continue
            x = [x for x, _ in kept]
            centre = np.array([np.mean(cells) for _, cells in kept])
            spread = np.array([np.std(c, ddof=1) if len(c) > 1 else 0.0 for _, c in kept])
            axes.plot(x, centre, color=colour, marker="o", ms=2.5, label=str(value))
            axes.fill_between(x, centre - spread, centre + spread, color=colour, alpha=0.2, lw=0)
        _scale(axes, "x", values)
        axes.set_xlabel(label(name))
        if column.startswith("half_step") and any(c > 0 for c in _cells(rows, column, {})):
            axes.set_yscale("log")
            _plain_ticks(axes.yaxis)
        if column.endswith("noise_over_rest"):
            axes.axhline(1.0, color="0.7", lw=0.8, zorder=0)
        style.panel(axes, LETTERS[index], label(column))
    if other:
        panels[0].legend(title=label(other), title_fontsize=7)
    return canvas


def phase_map(rows: Rows, x: str, y: str, columns: Sequence[str]) -> Figure:
    """Every column over two axes, averaged over seeds and over all further axes.

    A cell where nothing could be measured in any run is hatched.
    """
    canvas, panels = _panels(len(columns[:MOST]), height=2.3)
    across, up = _values(rows, x), _values(rows, y)
    for index, (column, axes) in enumerate(zip(columns, panels, strict=False)):
        table = np.full((len(up), len(across)), np.nan)
        for i, j in itertools.product(range(len(up)), range(len(across))):
            cells = _cells(rows, column, {x: across[j], y: up[i]})
            if cells:
                table[i, j] = np.mean(cells)
        axes.set_facecolor("0.9")
        image = axes.pcolormesh(
            np.arange(len(across)),
            np.arange(len(up)),
            table,
            shading="nearest",
            **_colour_scale(column, table),
        )
        axes.set_xticks(range(len(across)), [f"{v:g}" for v in across])
        axes.set_yticks(range(len(up)), [f"{v:g}" for v in up])
        axes.set_xlabel(label(x))
        axes.set_ylabel(label(y))
        style.panel(axes, LETTERS[index], label(column))
        if np.isfinite(table).any():
            bar = canvas.colorbar(image, ax=axes)
            if isinstance(image.norm, LogNorm):
                _plain_ticks(bar.ax.yaxis)
            _write_cells(axes, table, image)
    return canvas


def predictions(theory: Rows, name: str) -> Figure:
    """Measured against predicted, one panel per statement, a point per setting, colour an axis."""
    quantities = list(dict.fromkeys(line["quantity"] for line in theory))
    canvas, panels = _panels(len(quantities), height=2.4)
    colours = _colours(_values(theory, name)) if name else {}
    for index, (quantity, axes) in enumerate(zip(quantities, panels, strict=True)):
        here = [line for line in theory if line["quantity"] == quantity]
        for line in here:
            colour = colours.get(line.get(name), style.COLOURS["correct"])
            axes.errorbar(
                line["predicted"], line["measured"], yerr=line["sem"], fmt="o", ms=3, color=colour
            )
        ends = [line[side] for line in here for side in ("predicted", "measured")]
        axes.axline((1, 1), slope=1, color="0.6", lw=0.8, zorder=0)
        if min(ends) > 0:
            axes.set_xscale("log")
            axes.set_yscale("log")
            _plain_ticks(axes.xaxis)
            _plain_ticks(axes.yaxis)
            axes.set_xlim(min(ends) / 1.2, max(ends) * 1.2)
            axes.set_ylim(min(ends) / 1.2, max(ends) * 1.2)
        axes.set_xlabel("predicted")
        style.panel(axes, LETTERS[index], label(quantity))
    panels[0].set_ylabel("measured")
    for value, colour in colours.items():
        panels[-1].plot([], [], "o", ms=3, color=colour, label=f"{value}")
    if colours:
        panels[-1].legend(title=label(name), title_fontsize=7)
    return canvas


def label(name: str) -> str:
    """A column or an axis as a reader of the figure calls it."""
    axes = {
        "num_tokens": "tokens N",
        "alpha": "noise probability",
        "d_model": "width d",
        "length": "length T",
    }
    times = {
        "half_step/noise": "steps to half of the noise",
        "half_step/recall": "steps to half of recall",
        "half_step/attention": "steps to attention 1/2",
        "half_step/ratio": "attention / noise, half times",
        "margin/ratio": "feed-forward / attention, first step",
    }
    if name in axes or name in times:
        return (axes | times)[name]
    parts = name.split("/")
    metric = {"p_correct": "p(correct)", "p_noise": "p(noise)"}.get(
        parts[-1], parts[-1].replace("_", " ")
    )
    if len(parts) == 3:
        return f"{metric}, {parts[1]}" + ("" if parts[0] == "clean" else f", {parts[0]}")
    return f"{metric}, {parts[0]}" if len(parts) == 2 else metric


def _bands(
    axes: Axes, arrays: Arrays, column: str, wanted: set[int], text: str, colour: Any
) -> None:
    """The runs wanted, one band per group: groups may be recorded at different steps."""
    shown = False
    for group in range(sum(name.endswith("/models/steps") for name in arrays)):
        members = [i for i, run in enumerate(arrays[f"group{group}/runs"]) if int(run) in wanted]
        steps = arrays[f"group{group}/models/steps"]
        if members:
            values = arrays[f"group{group}/models/{column}"][:, members][steps > 0]
            style.band(axes, steps[steps > 0], values, label="" if shown else text, color=colour)
            shown = True


def _cells(rows: Rows, column: str, where: Mapping[str, Any]) -> list[float]:
    return [
        row[column]
        for row in rows
        if row.get(column) is not None and all(row[name] == v for name, v in where.items())
    ]


def _values(rows: Rows, name: str) -> list[Any]:
    found = dict.fromkeys(row[name] for row in rows)
    return sorted(found) if all(isinstance(v, int | float) for v in found) else list(found)


def _tied(rows: Rows, one: str, other: str) -> bool:
    """Whether two axes go together: each value of one always beside the same of the other."""
    pairs = {(row[one], row[other]) for row in rows}
    return len(pairs) == len(_values(rows, one)) == len(_values(rows, other))


def _colours(values: Sequence[Any]) -> dict[Any, Any]:
    """An ordered scale for numbers, the cycle of all figures for names."""
    if all(isinstance(v, int | float) for v in values):
        scale = mpl.colormaps["viridis"](np.linspace(0, 0.9, max(len(values), 2)))
        return dict(zip(values, map(tuple, scale), strict=False))
    return dict(zip(values, itertools.cycle(style.CYCLE), strict=False))


def _colour_scale(column: str, table: np.ndarray) -> dict[str, Any]:
    if column.split("/")[-1] in UNIT:
        return {"vmin": 0.0, "vmax": 1.0, "cmap": "viridis"}
    if column.endswith("noise_over_rest"):
        # White where the noise changes ends.
        reach = max(1.05, float(np.nanmax(np.exp(np.abs(np.log(table))), initial=1.0)))
        return {"norm": LogNorm(1 / reach, reach), "cmap": "RdBu_r"}
    if column.startswith("half_step") and np.nanmin(table, initial=np.inf) not in (0.0, np.inf):
        return {"norm": LogNorm(), "cmap": "magma_r"}
    return {"cmap": "viridis"}


def _scale(axes: Axes, which: str, values: Sequence[Any]) -> None:
    """Logarithmic where the values are spaced in proportion."""
    if min(values) > 0 and max(values) / min(values) >= 4:
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{v:g}" for v in values])
        axes.xaxis.set_minor_formatter(NullFormatter())


def _plain_ticks(axis: Axis) -> None:
    """2, 5, 10, 20 instead of powers of ten, of which a short axis shows one or none."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _write_cells(axes: Axes, table: np.ndarray, image: Any) -> None:
    """The value in every cell of a small map, dark on light and light on dark."""
    if table.size > 64:
        return
    for (i, j), value in np.ndenumerate(table):
        if np.isfinite(value):
            red, green, blue, _ = image.cmap(image.norm(value))
            bright = 0.3 * red + 0.6 * green + 0.1 * blue > 0.5
            text = f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"
            axes.text(
                j,
                i,
                text,
                ha="center",
                va="center",
                fontsize=5.5,
                color="0.1" if bright else "0.95",
            )


def _panels(number: int, height: float = 2.1) -> tuple[Figure, list[Axes]]:
    columns = min(4, number)
    lines = -(-number // columns)
    canvas, panels = style.figure(lines, columns, width=2.1 * columns + 0.6, height=height)
    for axes in panels.flat[number:]:
        axes.set_visible(False)
    return canvas, list(panels.flat[:number])
