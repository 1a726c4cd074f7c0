"""Answers of every test example before and after a cut, and what each cut changes."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from truncated_weights.experiments.run.drawing import heatmaps
from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.experiments.run.drawing.style import COLOURS
from truncated_weights.experiments.truncate_model.settings import TruncateModel
from truncated_weights.training.records import Records

# A composition of many cuts would leave a legend no room for the panel.
LONGEST_LABEL = 34


def figures(config: TruncateModel, records: Records) -> Iterator[Figure]:
    """Of every task its test examples and the cells of its search; then all changes together."""
    for task in map(str, records.scores.task.values):
        scores = records.scores.sel(task=task).dropna("example", subset=["index"])
        # The full model, and the cut that was looked into; where there is none, the same again.
        models = scores.loss.dropna("model", how="all").model.values
        two = scores.sel(model=[models[0], models[-1]]).transpose("model", "example", ...)
        panels = [
            distribution(two, task, "loss", "log p(answer)", -1.0),
            distribution(two, task, "p_the", 'p(" the")'),
            each(two, task),
        ]
        yield Figure(f"{task}_before_after", panels, height=2.4)
        if "grid" in records and task in records.grid.task:
            cells = records.grid.sel(task=task)
            for axis in ("layer", "matrix", "rho"):
                cells = cells.dropna(axis, how="all")
            # A map needs at least two cells of single cuts within the finite numbers.
            if "loss" in cells and int(cells.loss.notnull().sum()) > 1:
                for metric in dict.fromkeys((config.objective, "loss", "p_the")):
                    yield _of_task(
                        heatmaps.heatmap(cells, metric, called=f"{task}_heatmap_{metric}")
                    )
    if (found := tested(records)).sizes["row"]:
        shown = changes(config, found)
        yield Figure("changes", [shown], height=shown.height, width=5.0)


def _of_task(figure: Figure) -> Figure:
    """With its own name before those of its panels, which other tasks have too."""
    named = [
        panel and dataclasses.replace(panel, name=f"{figure.name}-{panel.title}")
        for panel in figure.panels
    ]
    return dataclasses.replace(figure, panels=named)


def distribution(two: xr.Dataset, task: str, metric: str, label: str, sign: float = 1.0) -> Panel:
    """A score of the test examples, before and after the cut."""
    values = sign * two[metric].values
    names = ["full", _short(str(two.model.values[1]))]

    def draw(axes: Axes) -> None:
        edges = np.histogram_bin_edges(values, bins=24).tolist()
        colours = (COLOURS["neutral"], COLOURS["correct"])
        for sample, title, colour in zip(values, names, colours, strict=True):
            axes.hist(sample, edges, histtype="stepfilled", color=colour, alpha=0.25)
            axes.hist(sample, edges, histtype="step", color=colour, label=title, lw=1.2)
            axes.axvline(float(np.mean(sample)), color=colour, lw=0.9, ls="--")
        axes.set_xlabel("nats" if sign < 0 else "probability")
        axes.set_ylabel("test examples")

    means = ", ".join(f"{n} {v.mean():.3g}" for n, v in zip(names, values, strict=True))
    caption = f"{label} of the test examples of {task}; dashed the means: {means}."
    return Panel(f"{task}-{metric}", f"{label}; dashed: mean", draw, caption, legend=1)


def each(two: xr.Dataset, task: str) -> Panel:
    """log p(answer) of each test example after the cut against before."""
    before, after = -two.loss.values
    better = after > before

    def draw(axes: Axes) -> None:
        low, high = float(two.loss.min()), float(two.loss.max())
        room = 0.03 * (high - low) + 1e-3
        ends = [-high - room, -low + room]
        axes.plot(ends, ends, color="0.7", lw=0.8, zorder=0)
        for chosen, colour, label in (
            (better, COLOURS["correct"], f"better ({better.mean():.0%})"),
            (~better, COLOURS["noise"], f"worse ({(~better).mean():.0%})"),
        ):
            axes.plot(
                before[chosen], after[chosen], ".", ms=3, alpha=0.6, color=colour, label=label
            )
        axes.set_xlabel("log p(answer), full")
        axes.set_ylabel("log p(answer), after")
        axes.set_aspect("equal", adjustable="datalim")

    caption = (
        f"log p(answer) of each test example of {task}, full against "
        f"{_short(str(two.model.values[1]))}: better for {better.mean():.0%}."
    )
    return Panel(f"{task}-each", "each example", draw, caption)


def tested(records: Records) -> xr.Dataset:
    """The figures of every cut that saw the test examples [row], by task and model."""
    cuts = records.final.sel(set="test", model=records.final.model != "full")
    return cuts.stack(row=("task", "model")).dropna("row", subset=["p_the_change"])


def changes(config: TruncateModel, found: xr.Dataset) -> Panel:
    """How a language model's answers change with each cut that saw the test examples."""
    labels = [f"{task}, {_short(model)}" for task, model in found.row.values]

    def draw(axes: Axes) -> None:
        for metric, what, label in (
            ("p_the", "noise", 'p(" the")'),
            ("p_answer", "correct", "p(answer)"),
        ):
            values, places = found[f"{metric}_change"].values, range(len(labels))
            axes.plot(values, places, "o", ms=4, color=COLOURS[what], label=label)
        axes.axvline(0.0, color="0.7", lw=0.8, zorder=0)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.set_xlabel("change by the cut")
        # Below the label of axes that may be low.
        below = -0.5 / (0.4 + 0.2 * len(labels))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, below), ncols=2)

    caption = 'Changes of p(" the") and p(answer) on test examples, for each task and cut.'
    title = f"What cuts change in {Path(config.model).resolve().name}"
    return Panel("changes", title, draw, caption, legend=0, height=1.4 + 0.2 * len(labels))


def _short(model: str) -> str:
    return model if len(model) <= LONGEST_LABEL else f"{model[: LONGEST_LABEL - 4]} ..."
