"""How a step grows with each shape."""

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes

from truncated_weights.experiments.benchmark.settings import Benchmark
from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.training.records import Records, rows_of


def figures(config: Benchmark, records: Records) -> Iterator[Figure]:
    """Seconds per step against each shape, with slope one for the eye."""
    shapes = ("length", "d_model", "batch_size", "num_seeds")
    if "growth" in records:
        yield Figure("growth", [growth(records, shape) for shape in shapes], 4, height=2.3)


def growth(records: Records, shape: str) -> Panel:
    """Seconds per step as one shape doubles."""
    rows = [row for row in rows_of(records.growth) if row["shape"] == shape]
    x, y = (np.array([row[name] for row in rows]) for name in ("size", "seconds"))

    def draw(axes: Axes) -> None:
        axes.plot(x, y, "o-")
        axes.plot(x, y[0] * x / x[0], color="0.7", lw=0.8, label="proportional")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xlabel(shape)
        axes.set_ylabel("seconds per step")

    return Panel(f"growth-{shape}", shape, draw, f"Seconds per step against {shape}.", legend=1)
