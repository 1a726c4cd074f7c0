"""The phase diagram, from its records alone."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib import figure as mpl_figure
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from truncated_weights.experiments.phase_diagram.settings import PhaseDiagram
from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.training.records import Records

# Of the logarithm to base ten of the ratio; what lies beyond has the colour of the end.
LIMIT = 1.0
COLOURS: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -LIMIT, "vmax": LIMIT}


def figures(config: PhaseDiagram, records: Records) -> Iterator[Figure]:
    """One panel per time: predicted map, its boundary, measured points."""
    panels = [phase(records, time) for time in records.map.time.values.tolist()]

    def bar(canvas: mpl_figure.Figure) -> None:
        shared = canvas.colorbar(canvas.axes[0].collections[0], ax=canvas.axes, shrink=0.9)
        shared.set_label("log10(noise / signal singular value)")

    width = 2.4 * len(panels) + 0.8
    yield Figure("phase_diagram", panels, len(panels), height=2.7, width=width, after=bar)


def phase(records: Records, time: float) -> Panel:
    """The map at one time, with the trained memories on it."""
    here = records.map.log_ratio.sel(time=time).transpose("num_inputs", "alpha") / math.log(10)
    points = records.points.sel(time=time)

    def draw(axes: Axes) -> None:
        alphas, sizes, table = here.alpha.values, here.num_inputs.values, here.values
        axes.pcolormesh(
            alphas, sizes, np.clip(table, -LIMIT, LIMIT), shading="nearest", rasterized=True,
            **COLOURS,
        )  # fmt: skip
        if table.min() < 0 < table.max():
            axes.contour(alphas, sizes, table, [0.0], colors="black", linewidths=1.2)
        measured = np.clip(points.measured / math.log(10), -LIMIT, LIMIT)
        axes.scatter(
            points.alpha, points.num_inputs, c=measured,
            s=22, edgecolors="black", linewidths=0.8, **COLOURS,
        )  # fmt: skip
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks([2**k for k in range(1, 15) if 2**k <= sizes[-1]])
        axes.set_xlim(0, 1)
        axes.set_xlabel("noise probability alpha")
        axes.set_ylabel("inputs N")

    caption = (
        f"Which end of the spectrum holds the noise at t = {time:g}, over alpha and the number of "
        "inputs: colour and line predicted, circles trained memories filled with what was measured."
    )
    return Panel(f"phase-{time:g}", f"t = {time:g}", draw, caption, legend=0)
