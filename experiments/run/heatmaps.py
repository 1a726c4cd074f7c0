"""Heatmaps of a search: the change that every single cut makes, over layer and rho."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.run import style

Rows = Sequence[Mapping[str, Any]]


def heatmaps(rows: Rows, metric: str = "p_correct", *, split: str = "validation") -> Figure:
    """Change of a metric to the full model, layer x rho, one panel per matrix.

    rows: those of grid.run, the full model first. A dot marks cells whose 95 % interval
    excludes zero, a ring the chosen cut.
    """
    cells = [row for row in rows if "matrix" in row and f"{split}/{metric}_change" in row]
    if not cells:
        raise ValueError(f"rows: none has {split}/{metric}_change")
    names = list(dict.fromkeys(row["matrix"] for row in cells))
    layers = sorted({row["layer"] for row in cells})
    rhos = list(dict.fromkeys(row["rho"] for row in cells))
    # A cut that left the finite numbers has no figures; its cell stays empty.
    known = [row for row in cells if row[f"{split}/{metric}_change"] is not None]
    reach = max((abs(row[f"{split}/{metric}_change"]) for row in known), default=0.0) or 1.0
    height = max(1.6, 0.9 + 0.22 * len(layers))
    columns = min(3, len(names))
    canvas, panels = style.figure(-(-len(names) // columns), columns, height=height)
    image: Any = None
    for index, axes in enumerate(panels.flat):
        if index >= len(names):
            axes.set_visible(False)
            continue
        values = np.full((len(layers), len(rhos)), np.nan)
        for row in known:
            if row["matrix"] != names[index]:
                continue
            place = layers.index(row["layer"]), rhos.index(row["rho"])
            values[place] = row[f"{split}/{metric}_change"]
            low, high = (row[f"{split}/{metric}_change_{end}"] for end in ("low", "high"))
            if low > 0 or high < 0:
                axes.plot(place[1], place[0], ".", color="0.2", ms=2)
            if row.get("chosen"):
                axes.plot(place[1], place[0], "o", mfc="none", color="k", ms=9)
        image = axes.imshow(
            values, cmap="PuOr", vmin=-reach, vmax=reach, aspect="auto", origin="lower"
        )
        axes.set_xticks(range(len(rhos)), rhos, rotation=90)
        axes.set_yticks(range(len(layers)), [str(layer) for layer in layers])
        axes.set_ylabel("layer")
        style.panel(axes, "abcdefghijkl"[index], names[index])
        if index + columns >= len(names):
            axes.set_xlabel(r"$\rho$")
    canvas.colorbar(image, ax=panels, label=f"change of {_label(metric)}", shrink=0.9)
    return canvas


def _label(metric: str) -> str:
    return {"p_correct": "p(correct)", "p_noise": "p(noise)"}.get(metric, metric)
