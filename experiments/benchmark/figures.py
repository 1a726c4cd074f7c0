"""How a step grows with each shape, drawn from the summary alone."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments.run import style


def draw(growth: Mapping[str, float]) -> Figure:
    """Seconds per step against each shape, with slope one for the eye."""
    canvas, (panels,) = style.figure(1, 4)
    for axes, shape in zip(panels, ("length", "d_model", "batch_size", "num_seeds"), strict=True):
        points = {
            int(name.rsplit("/", 1)[1]): value
            for name, value in growth.items()
            if name.startswith(f"growth/{shape}/")
        }
        x, y = np.array(list(points)), np.array(list(points.values()))
        axes.plot(x, y, "o-")
        axes.plot(x, y[0] * x / x[0], color="0.7", lw=0.8, label="proportional")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xlabel(shape)
    panels[0].set_ylabel("seconds per step")
    panels[0].legend()
    return canvas
