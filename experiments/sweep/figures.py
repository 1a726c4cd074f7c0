"""Figures of a sweep from its records: learning curves, laws along an axis, phase maps, points."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from truncated_weights.experiments.run.drawing import style
from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.experiments.sweep.rows import Table, table
from truncated_weights.experiments.sweep.settings import Sweep
from truncated_weights.training import reductions
from truncated_weights.training.records import Name, Records, rows_of

# More values, panels or pairs than this are no figure but a wall.
MOST, MOST_POINTS = 8, 60
# Probabilities share one scale of colours, so that maps can be compared.
UNIT = ("p_correct", "p_noise", "accuracy", "attention_correct", "attention_noise", "noise_share")


def figures(config: Sweep, records: Records) -> Iterator[Figure]:
    """Every figure of a sweep."""
    whole = table(config, records)
    columns = chosen(config, whole)
    shown = columns[:MOST]
    if panels := learning(whole, records.get("models"), columns):
        yield Figure("learning", list(itertools.chain(*panels)), len(panels[0]), lettered=False)
    numeric = [n for n in whole.axes if whole.numbers[n].dtype.kind in "if"]
    for axis in numeric[:3]:
        others = [n for n in whole.axes if n != axis and not _tied(whole, axis, n)]
        other = others[0] if others else ""
        yield _row(f"along_{axis}", [along(whole, axis, other, c) for c in shown], height=2.5)
    for x, y in itertools.combinations(numeric[:3], 2):
        if not _tied(whole, x, y):
            yield _row(f"map_{x}_{y}", [phase_map(whole, x, y, c) for c in shown], height=2.3)
    if whole.axes and len(whole.points()) <= MOST_POINTS and not whole.lost.all():
        yield Figure("points", [points(whole, records.final)], height=3.4)
    if "theory" in records:
        lines, axis = rows_of(records.theory), numeric[0] if numeric else ""
        by_quantity = {line["quantity"]: line for line in lines}
        yield _row("theory", [predictions(whole, lines, q, axis) for q in by_quantity], height=2.7)


def chosen(config: Sweep, whole: Table) -> tuple[str, ...]:
    """Columns to draw: those asked for, or outputs, one cut, half times and the noise's place."""
    if config.shown:
        return config.shown
    cuts, tops = [], []
    for label, of in whole.names.items():
        at = dict(of.at)
        if of.variable == "p_correct" and at["set"] == "clean" and "@" in at["model"]:
            cuts.append(label)
        if of.variable == "noise_over_rest" and at["matrix"].endswith("fc_out"):
            tops.append(label)
    # Of the cuts followed, the one that leaves most recall on average.
    cuts.sort(key=lambda label: -float(whole.column(label).mean()))
    return (
        "clean/full/p_correct",
        *cuts[:1],
        "clean/full/p_noise",
        "half_step/noise",
        "half_step/attention",
        "half_step/ratio",
        *tops[-1:],
    )


def learning(whole: Table, models: xr.Dataset | None, columns: Sequence[str]) -> list[list[Panel]]:
    """Probabilities along training: colours are the first axis, rows of panels the second.

    Empty where no column is a number along training of a setting that varies.
    """
    if models is None:
        return []
    names = {c: whole.names[c] for c in columns if c in whole.names}
    along = {c: of for c, of in names.items() if of.variable in models and "set" in dict(of.at)}
    first, second = (*whole.axes, "", "")[:2]
    if second and _tied(whole, first, second):
        second = ""
    # The curve of a run that was lost ends nowhere.
    left = models.isel(run=~whole.lost)

    def panel(lane: Any, column: str, of: Name) -> Panel:
        curves = left[of.variable].sel(dict(of.at))

        def draw(axes: Axes) -> None:
            for value, colour in _coloured(whole, first).items():
                text = f"{value}" if first else ""
                here = _at(curves, {first: value, second: lane})
                # Runs of one shape have records at the same steps.
                for same in _by_steps(here):
                    later = same.sel(step=same.step > 0).transpose("step", "run")
                    style.band(axes, later.step.values, later.values, label=text, color=colour)
                    text = ""
            axes.set_ylim(-0.02, 1.02)
            style.step_axis(axes)
            if second:
                axes.set_ylabel(f"{axis_label(second)} {lane}")
            _legend(axes, first)

        here = f", {axis_label(second)} {lane}" if second else ""
        caption = f"{label(of)} along training{here}" + _by(first)
        place = f"-{second}={lane}" if second else ""
        return Panel(f"learning-{column}{place}", label(of), draw, caption, legend=0)

    lanes = _values(whole, second)[:4] if second else [None]
    found = [[panel(lane, c, of) for c, of in list(along.items())[:3]] for lane in lanes]
    return found if along else []


def along(whole: Table, axis: str, other: str, column: str) -> Panel:
    """A column against one axis: mean and deviation over seeds, a line per value of another."""
    values, numbers, title = _values(whole, axis), whole.column(column), _title(whole, column)

    def draw(axes: Axes) -> None:
        for value, colour in _coloured(whole, other).items():
            here = _at(numbers, {other: value})
            cells = [_finite(here, {axis: x}) for x in values]
            kept = [(x, found) for x, found in zip(values, cells, strict=True) if found.size]
            if not kept:
                continue
            x = [x for x, _ in kept]
            centre = np.array([found.mean() for _, found in kept])
            spread = np.array([found.std(ddof=1) if found.size > 1 else 0.0 for _, found in kept])
            axes.plot(x, centre, color=colour, marker="o", ms=2.5, label=str(value))
            axes.fill_between(x, centre - spread, centre + spread, color=colour, alpha=0.2, lw=0)
        _scale(axes, values)
        axes.set_xlabel(axis_label(axis))
        if _is_time(column) and (numbers > 0).any():
            axes.set_yscale("log")
            _plain_ticks(axes.yaxis)
        if _is_over_rest(whole, column):
            axes.axhline(1.0, color="0.7", lw=0.8, zorder=0)
        _legend(axes, other)

    caption = f"{title} against {axis_label(axis)}" + _by(other)
    return Panel(f"along-{axis}-{column}", title, draw, caption, legend=0)


def phase_map(whole: Table, x: str, y: str, column: str) -> Panel:
    """A column over two axes, averaged over seeds and over all further axes.

    A cell where nothing could be measured in any run is grey.
    """
    across, up = _values(whole, x), _values(whole, y)
    numbers, title = whole.column(column), _title(whole, column)
    cells = np.full((len(up), len(across)), np.nan)
    for i, j in itertools.product(range(len(up)), range(len(across))):
        if (found := _finite(numbers, {x: across[j], y: up[i]})).size:
            cells[i, j] = found.mean()

    def draw(axes: Axes) -> None:
        axes.set_facecolor("0.9")
        image = axes.pcolormesh(
            np.arange(len(across)),
            np.arange(len(up)),
            cells,
            shading="nearest",
            **_colour_scale(whole, column, cells),
        )
        axes.set_xticks(range(len(across)), [f"{v:g}" for v in across])
        axes.set_yticks(range(len(up)), [f"{v:g}" for v in up])
        axes.set_xlabel(axis_label(x))
        axes.set_ylabel(axis_label(y))
        if np.isfinite(cells).any():
            bar = axes.figure.colorbar(image, ax=axes)
            if isinstance(image.norm, LogNorm):
                _plain_ticks(bar.ax.yaxis)
            _write_cells(axes, cells, image)

    caption = f"{title}: mean over seeds in the plane of {axis_label(x)} and {axis_label(y)}."
    return Panel(f"map-{x}-{y}-{column}", title, draw, caption, legend=0)


def points(whole: Table, final: xr.Dataset) -> Panel:
    """p(correct) on clean sequences of the full model and of every cut at every point."""
    members = whole.points()
    models = ["full", *(m for m in map(str, final.model.values) if m != "full")][: len(style.CYCLE)]
    clean = final.p_correct.sel(set="clean")
    means = {
        model: [reductions.mean(clean.sel(model=model).isel(run=runs), "run")
                for runs in members.values()]
        for model in models
    }  # fmt: skip

    def draw(axes: Axes) -> None:
        colours = itertools.chain([style.COLOURS["neutral"]], style.CYCLE)
        for (model, found), colour in zip(means.items(), colours, strict=False):
            axes.errorbar(
                range(len(members)), [float(mean.value) for mean in found],
                yerr=[np.nan_to_num(float(mean.error)) for mean in found],
                fmt="o", ms=3, lw=0.8, color=colour, label=model,
            )  # fmt: skip
        ticks = [", ".join(f"{value}" for value in point) for point in members]
        axes.set_xticks(range(len(members)), ticks, rotation=90, fontsize=6.5)
        axes.set_xlabel(", ".join(map(axis_label, whole.axes)))
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("p(correct), clean")
        # Below the ticks, which stand upright.
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=6.5)

    of = " and ".join(map(axis_label, whole.axes))
    caption = f"p(correct) on clean sequences by {of}, of the full model and of its cuts."
    return Panel("points", f"over {of}", draw, caption, legend=0, height=3.4)


def predictions(
    whole: Table, lines: Sequence[Mapping[str, Any]], quantity: str, axis: str
) -> Panel:
    """Measured against predicted, a point per setting, colour an axis."""
    here = [line for line in lines if line["quantity"] == quantity]
    title = _title(whole, quantity)

    def draw(axes: Axes) -> None:
        colours = _coloured(whole, axis)
        for line in here:
            colour = colours[line[axis] if axis else None]
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
        axes.set_ylabel("measured")
        for value, colour in colours.items() if axis else ():
            axes.plot([], [], "o", ms=3, color=colour, label=f"{value}")
        _legend(axes, axis)

    caption = f"{title}, measured against predicted, one point per setting" + _by(axis)
    return Panel(f"theory-{quantity}", title, draw, caption, legend=0)


def axis_label(name: str) -> str:
    """An axis as a reader of the figure calls it."""
    known = {
        "num_tokens": "tokens N",
        "alpha": "noise probability",
        "d_model": "width d",
        "length": "length T",
    }
    return known.get(name, name.replace("_", " "))


def label(of: Name) -> str:
    """A column as a reader of the figure calls it."""
    at = dict(of.at)
    metric = {"p_correct": "p(correct)", "p_noise": "p(noise)"}.get(
        of.variable, of.variable.replace("_", " ")
    )
    where = [at[axis] for axis in ("model", "matrix", "block") if axis in at]
    where += [at["set"]] if at.get("set", "clean") != "clean" else []
    return ", ".join((metric, *where))


def _title(whole: Table, column: str) -> str:
    known = {
        "half_step/noise": "steps to half of the noise",
        "half_step/recall": "steps to half of recall",
        "half_step/attention": "steps to attention 1/2",
        "half_step/ratio": "attention / noise, half times",
        "margin/ratio": "feed-forward / attention, first step",
        "first_step/deviation": "deviation of the first gradient",
    }
    of = whole.names.get(column)
    return known.get(column) or (label(of) if of else column)


def _by(axis: str) -> str:
    return f", by {axis_label(axis)}." if axis else "."


def _is_time(column: str) -> bool:
    return column.startswith("half_step")


def _is_over_rest(whole: Table, column: str) -> bool:
    return column in whole.names and whole.names[column].variable == "noise_over_rest"


def _at(values: xr.DataArray, where: Mapping[str, Any]) -> xr.DataArray:
    """Those of the runs with these settings; one without a name asks for nothing."""
    for axis, value in where.items():
        if axis:
            values = values.isel(run=values[axis].values == value)
    return values


def _finite(values: xr.DataArray, where: Mapping[str, Any]) -> np.ndarray:
    found = _at(values, where).values
    return found[np.isfinite(found)]


def _by_steps(curves: xr.DataArray) -> Iterator[xr.DataArray]:
    """Curves [step, run] in parts whose runs have records at the same steps, and only these."""
    there = curves.notnull().transpose("run", "step").values
    for steps in np.unique(there, axis=0):
        same = (there == steps).all(axis=1)
        if steps.any():
            yield curves.isel(run=same, step=steps)


def _values(whole: Table, name: str) -> list[Any]:
    found = list(dict.fromkeys(whole.numbers[name].values.tolist()))
    return found if isinstance(found[0], str) else sorted(found)


def _tied(whole: Table, one: str, other: str) -> bool:
    """Whether two axes go together: each value of one always beside the same of the other."""
    pairs = {*zip(*(whole.numbers[n].values.tolist() for n in (one, other)), strict=True)}
    return len(pairs) == len(_values(whole, one)) == len(_values(whole, other))


def _coloured(whole: Table, axis: str) -> dict[Any, Any]:
    """The values of an axis: an ordered scale for numbers, the cycle of all figures for names."""
    if not axis:
        return {None: style.COLOURS["correct"]}
    values = _values(whole, axis)
    if isinstance(values[0], str):
        return dict(zip(values, itertools.cycle(style.CYCLE), strict=False))
    scale = mpl.colormaps["viridis"](np.linspace(0, 0.9, max(len(values), 2)))
    return dict(zip(values, map(tuple, scale), strict=False))


def _colour_scale(whole: Table, column: str, cells: np.ndarray) -> dict[str, Any]:
    if column in whole.names and whole.names[column].variable in UNIT:
        return {"vmin": 0.0, "vmax": 1.0, "cmap": "viridis"}
    if _is_over_rest(whole, column):
        # White where the noise changes ends.
        reach = max(1.05, float(np.nanmax(np.exp(np.abs(np.log(cells))), initial=1.0)))
        return {"norm": LogNorm(1 / reach, reach), "cmap": "RdBu_r"}
    if _is_time(column) and np.nanmin(cells, initial=np.inf) not in (0.0, np.inf):
        return {"norm": LogNorm(), "cmap": "magma_r"}
    return {"cmap": "viridis"}


def _scale(axes: Axes, values: Sequence[Any]) -> None:
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


def _legend(axes: Axes, axis: str) -> None:
    """What the colours are, below: every panel may stand alone on a page."""
    if axis and axes.get_legend_handles_labels()[0]:
        style.legend_below(axes, 3)
        legend = axes.get_legend()
        assert legend is not None
        legend.set_title(axis_label(axis))
        legend.get_title().set_fontsize(7)


def _write_cells(axes: Axes, cells: np.ndarray, image: Any) -> None:
    """The value in every cell of a small map, dark on light and light on dark."""
    if cells.size > 64:
        return
    for (i, j), value in np.ndenumerate(cells):
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


def _row(name: str, panels: list[Panel], height: float) -> Figure:
    columns = min(4, len(panels))
    return Figure(name, panels, columns, height=height, width=2.1 * columns + 0.6)
