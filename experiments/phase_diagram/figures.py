"""The phase diagram drawn from its saved arrays alone."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from experiments.run import style


def draw(arrays: Mapping[str, np.ndarray]) -> Figure:
    """One panel per time: predicted map, its boundary, measured points."""
    times, sizes = arrays["times"], arrays["map/num_inputs"]
    canvas, axes = style.figure(1, times.size, width=2.4 * times.size + 0.8, height=2.7)
    alphas, table = arrays["map/alpha"], arrays["map/log_ratio"] / math.log(10)
    limit = 1.0
    image: Any = None
    for i, time in enumerate(times):
        panel = axes[0, i]
        image = panel.pcolormesh(
            alphas,
            sizes,
            np.clip(table[:, :, i], -limit, limit),
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            shading="nearest",
            rasterized=True,
        )
        if table[:, :, i].min() < 0 < table[:, :, i].max():
            panel.contour(alphas, sizes, table[:, :, i], [0.0], colors="black", linewidths=1.2)
        measured = np.clip(arrays["points/measured"][:, i] / math.log(10), -limit, limit)
        panel.scatter(
            arrays["points/alpha"],
            arrays["points/num_inputs"],
            c=measured,
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            s=22,
            edgecolors="black",
            linewidths=0.8,
        )
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.set_yticks([n for n in (2, 4, 8, 16, 32, 64, 128, 256, 512) if n <= sizes[-1]])
        panel.set_xlim(0, 1)
        panel.set_xlabel("noise probability alpha")
        style.panel(panel, "abcdefghij"[i % 10], f"t = {time:g}")
    axes[0, 0].set_ylabel("inputs N")
    bar = canvas.colorbar(image, ax=axes, shrink=0.9)
    bar.set_label("log10(noise / signal singular value)")
    return canvas
