"""Figures of a search: what every rule finds at what price, and heatmaps over layer and rho.

    python -m experiments.run.figures_search --run=runs/find_noise

redraws figures/ from the tables of the run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from experiments.run import directory as run_directory
from experiments.run import program, style
from experiments.run.program import UserError
from experiments.run.style import COLOURS, CYCLE
from truncation.search import table

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
    reach = max(abs(row[f"{split}/{metric}_change"]) for row in cells) or 1.0
    height = max(1.6, 0.9 + 0.22 * len(layers))
    columns = min(3, len(names))
    canvas, panels = style.figure(-(-len(names) // columns), columns, height=height)
    image: Any = None
    for index, axes in enumerate(panels.flat):
        if index >= len(names):
            axes.set_visible(False)
            continue
        values = np.full((len(layers), len(rhos)), np.nan)
        for row in cells:
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


def rules(rows: Rows, step: int) -> Figure:
    """What every rule finds, at what price, where it cut, and along training.

    rows: those of find_noise; points are means over seeds, bars one standard error.
    """
    final = [row for row in rows if row["step"] == step]
    along = sorted({row["step"] for row in rows})
    names = list(dict.fromkeys(row["rule"] for row in final))
    canvas, panels = style.figure(2, 2, height=2.9)
    _outcomes(panels[0, 0], final, names)
    _prices(panels[0, 1], final, names)
    _places(panels[1, 0], final, names)
    if len(along) > 1:
        _along(panels[1, 1], rows)
    else:
        panels[1, 1].set_visible(False)
    return canvas


def _seeds(rows: Rows, rule: str, name: str) -> np.ndarray:
    """Per seed; several random draws of one seed are averaged."""
    seeds = sorted({row["seed"] for row in rows if row["rule"] == rule})
    return np.array(
        [np.mean([r[name] for r in rows if r["rule"] == rule and r["seed"] == s]) for s in seeds]
    )


def _mean_error(values: np.ndarray) -> tuple[float, float]:
    if len(values) < 2:
        return float(np.mean(values)), 0.0
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _outcomes(axes: Axes, rows: Rows, names: list[str]) -> None:
    for offset, metric, kind in ((0.12, "p_correct", "correct"), (-0.12, "p_noise", "noise")):
        for index, rule in enumerate(names):
            mean, error = _mean_error(_seeds(rows, rule, metric))
            axes.errorbar(
                mean, -index + offset, xerr=error, fmt="o", ms=4, capsize=2,
                color=COLOURS[kind], label=f"p({kind})" if index == 0 else None,
            )  # fmt: skip
    axes.set_yticks([-i for i in range(len(names))], names)
    axes.set_xlim(-0.03, 1.03)
    axes.grid(axis="y", color="0.92", lw=0.6)
    axes.set_xlabel("probability, clean test sequences")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.2), ncols=2)
    style.panel(axes, "a", "what each rule leads to")


def _prices(axes: Axes, rows: Rows, names: list[str]) -> None:
    searched = [n for n in names if np.mean(_seeds(rows, n, "evaluations")) > 0]
    for colour, marker, rule in zip((*CYCLE, *CYCLE), "osD^vPX*<>hp", searched, strict=False):
        price, _ = _mean_error(_seeds(rows, rule, "evaluations"))
        mean, error = _mean_error(1 - _seeds(rows, rule, "p_correct"))
        axes.errorbar(
            price, mean, yerr=error, fmt=marker, ms=5, capsize=2, color=colour, label=rule
        )
    for axis in (axes.xaxis, axes.yaxis):
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("evaluations of the validation set")
    axes.set_ylabel("1 - p(correct), clean test")
    style.legend_below(axes)
    style.panel(axes, "b", "what it costs")


def _places(axes: Axes, rows: Rows, names: list[str]) -> None:
    shown = [n for n in names if np.isfinite(_seeds(rows, n, "noise_removed")).all()]
    for offset, name, colour, label in (
        (0.12, "noise_removed", COLOURS["noise"], "towards the noise token"),
        (-0.12, "outputs_removed", COLOURS["correct"], "towards possible answers (mean)"),
    ):
        for index, rule in enumerate(shown):
            mean, error = _mean_error(_seeds(rows, rule, name))
            axes.errorbar(
                mean, -index + offset, xerr=error, fmt="s", ms=4, capsize=2, color=colour,
                label=label if index == 0 else None,
            )  # fmt: skip
    axes.set_yticks([-i for i in range(len(shown))], shown)
    axes.set_xlim(-0.03, 1.03)
    axes.grid(axis="y", color="0.92", lw=0.6)
    axes.set_xlabel("share of the cut matrices' output energy removed")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.2), ncols=1)
    style.panel(axes, "c", "was it the noise that was cut?")


def _along(axes: Axes, rows: Rows) -> None:
    seed = min(row["seed"] for row in rows)
    brief = [row for row in rows if row["seed"] == seed]
    steps = sorted({row["step"] for row in brief})
    followed = ["full model", "grid", "gradient-guided", "random search", "Gavish-Donoho"]
    styles = ["--", "-", ":", "-.", "-"]
    for colour, line, rule in zip(("#4D4D4D", *CYCLE), styles, followed, strict=False):
        values = [
            np.mean([r["p_correct"] for r in brief if r["rule"] == rule and r["step"] == step])
            for step in steps
        ]
        axes.plot(np.maximum(steps, 1), values, line, marker="o", ms=3, color=colour, label=rule)
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("p(correct), clean test")
    style.step_axis(axes)
    style.legend_below(axes)
    style.panel(axes, "d", f"along training, seed {seed}")


def _label(metric: str) -> str:
    return {"p_correct": "p(correct)", "p_noise": "p(noise)"}.get(metric, metric)


def main() -> None:
    """Redraw the figures of a finished find_noise run."""
    folder = Path(flags.FLAGS.run)
    rows, grid = (table.read_jsonl(folder / name) for name in ("rules.jsonl", "grid.jsonl"))
    if not rows or not grid:
        raise UserError(f"--run={folder} holds no finished run of find_noise")
    directory = run_directory.RunDirectory(folder)
    directory.save_figure(rules(rows, rows[0]["step"]), "find_noise")
    print(directory.save_figure(heatmaps(grid), "heatmaps").parent)


if __name__ == "__main__":
    flags.DEFINE_string("run", "runs/find_noise", "Directory of a finished find_noise run.")
    program.run_flags(main)
