"""Heatmaps of a search: the change that every single cut makes, over layer and rho."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import figure as mpl_figure
from matplotlib.axes import Axes

from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.training.records import Name, labelled, name


def of_rows(rows: Sequence[Mapping[str, Any]], *, split: str = "validation") -> xr.Dataset:
    """The figures of every single cut that was evaluated, as a block [layer, matrix, rho].

    rows: those of grid.run, or of any other rule. Variables are what the columns SPLIT/... are
    called; `chosen` is 1 for the chosen cut. A cut that left the finite numbers is NaN.
    """
    values: dict[Name, float] = {}
    for row in rows:
        own = {key.removeprefix(f"{split}/"): v for key, v in row.items() if f"{split}/" in key}
        if own and "matrix" in row:
            at = {axis: row[axis] for axis in ("layer", "matrix", "rho")}
            for variable, value in {**own, "chosen": bool(row.get("chosen"))}.items():
                values[name(variable, **at)] = np.nan if value is None else float(value)
    return labelled(values, {})


def heatmap(cells: xr.Dataset, metric: str, *, called: str) -> Figure:
    """Change of a metric to the full model, layer x rho, one panel per matrix (see of_rows).

    A dot marks cells whose 95 % interval excludes zero, a ring the chosen cut. ValueError where
    nothing was measured.
    """
    if f"{metric}_change" not in cells:
        raise ValueError(f"cells: no cut has a change of {metric}")
    change = cells[f"{metric}_change"].values
    reach = float(np.max(np.abs(change), initial=0.0, where=np.isfinite(change))) or 1.0
    matrices = list(map(str, cells.matrix.values))
    columns = min(3, len(matrices))
    panels = [
        panel(cells.sel(matrix=matrix), metric, reach, below=place + columns >= len(matrices))
        for place, matrix in enumerate(matrices)
    ]

    def bar(canvas: mpl_figure.Figure) -> None:
        shown = [axes for axes in canvas.axes if axes.images]
        label = {"p_correct": "p(correct)", "p_noise": "p(noise)"}.get(metric, metric)
        canvas.colorbar(shown[0].images[0], ax=canvas.axes, label=f"change of {label}", shrink=0.9)

    height = max(1.6, 0.9 + 0.22 * cells.sizes["layer"])
    return Figure(called, panels, columns, height, after=bar)


def panel(cells: xr.Dataset, metric: str, reach: float, *, below: bool = True) -> Panel:
    """One matrix; colours end at -reach and reach. below: whether rho is named under it."""
    here = cells.sortby(cells.layer.astype(int)).transpose("layer", "rho")
    change, low, high = (here[f"{metric}_change{end}"].values for end in ("", "_low", "_high"))
    rhos, layers = (list(map(str, here[axis].values)) for axis in ("rho", "layer"))
    matrix = str(here.matrix.item())

    def draw(axes: Axes) -> None:
        dot: dict[str, Any] = {"marker": ".", "c": "0.2", "ms": 2}
        ring: dict[str, Any] = {"marker": "o", "mfc": "none", "c": "k", "ms": 9}
        for marked, drawn in (((low > 0) | (high < 0), dot), (here.chosen.values == 1, ring)):
            rows, columns = np.nonzero(marked)
            axes.plot(columns, rows, ls="", **drawn)
        axes.imshow(change, cmap="PuOr", vmin=-reach, vmax=reach, aspect="auto", origin="lower")
        axes.set_xticks(range(len(rhos)), rhos, rotation=90)
        axes.set_yticks(range(len(layers)), layers)
        axes.set_ylabel("layer")
        if below:
            axes.set_xlabel(r"$\rho$")

    caption = (
        f"Change of {metric} by every single cut of {matrix}, over layer and fraction rho: dots "
        "where its interval excludes zero, a ring around the chosen cut."
    )
    return Panel(f"heatmap-{matrix}", matrix, draw, caption, legend=0)
