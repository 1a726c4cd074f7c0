"""Answers, noise and spectra of a model along its training, drawn from arrays alone."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.run import style
from experiments.run.style import COLOURS, CYCLE


def along_training(
    steps: np.ndarray, intervals: Mapping[str, Mapping[str, np.ndarray]], names: Sequence[str]
) -> Figure:
    """p(answer), p(" the") and the margin against the step, full and truncated.

    intervals: METRIC -> MODEL -> [3, steps], mean with the ends of its interval; names are
    the models in order, the full one first.
    """
    labels = {
        "p_answer": "p(answer)",
        "p_the": 'p(" the")',
        "p_distractor": "p(best distractor)",
        "margin_the": 'log p(answer) - log p(" the")',
        "logit_difference": "logit(answer) - logit(distractor)",
        "accuracy": "accuracy",
    }
    shown = [metric for metric in labels if metric in intervals]
    canvas, rows = style.figure(-(-len(shown) // 3), 3, height=2.2)
    for axes in rows.flat[len(shown) :]:
        axes.set_visible(False)
    for letter, axes, metric in zip("abcdef", rows.flat, shown, strict=False):
        for colour, name in zip((COLOURS["neutral"], *CYCLE), names, strict=False):
            mean, low, high = intervals[metric][name]
            axes.plot(
                steps, mean, color=colour, label=name,
                ls="--" if name == "full" else "-", marker="o", ms=2,
            )  # fmt: skip
            axes.fill_between(steps, low, high, color=colour, alpha=0.18, lw=0)
        if metric in ("p_answer", "p_the", "p_distractor", "accuracy"):
            top = max(float(intervals[metric][name][2].max()) for name in names)
            axes.set_ylim(-0.02 * top, 1.05 * top or 1.0)
        else:
            axes.axhline(0, color="0.7", lw=0.8, zorder=0)
        axes.set_ylabel(labels[metric])
        _step_axis(axes, steps)
        style.panel(axes, letter, "")
    handles, texts = rows.flat[0].get_legend_handles_labels()
    canvas.legend(handles, texts, loc="outside lower center", ncols=min(4, len(names)))
    return canvas


def spectra(steps: np.ndarray, values: Mapping[str, np.ndarray]) -> Figure:
    """Singular values [steps, r] of matrices along training, the largest three in colour."""
    columns = min(4, len(values))
    canvas, panels = style.figure(-(-len(values) // columns), columns, height=2.0)
    for index, axes in enumerate(panels.flat):
        if index >= len(values):
            axes.set_visible(False)
            continue
        name, trajectory = list(values.items())[index]
        rank = trajectory.shape[1]
        # Some 60 lines show the bulk; a thousand would only darken it.
        bulk = np.unique(np.linspace(0, rank - 1, min(60, rank)).astype(int))
        axes.plot(steps, trajectory[:, bulk], color="0.75", lw=0.5, zorder=0)
        for rank_index, colour in zip(range(min(3, rank)), CYCLE, strict=False):
            axes.plot(
                steps, trajectory[:, rank_index], color=colour, lw=1.2,
                label=rf"$\sigma_{rank_index + 1}$",
            )  # fmt: skip
        style.panel(axes, "abcdefghijklmnop"[index % 16], name)
        axes.set_ylim(0, float(trajectory.max()) * 1.08)
        if index % columns == 0:
            axes.set_ylabel("singular value")
        _step_axis(axes, steps)
    handles, texts = panels[0, 0].get_legend_handles_labels()
    canvas.legend(handles, texts, loc="outside lower center", ncols=3)
    return canvas


def _step_axis(axes: Axes, steps: np.ndarray) -> None:
    axes.set_xlabel("training step")
    if len(steps) > 1:
        # Step 0 has a place on this axis, unlike on a logarithmic one.
        axes.set_xscale("symlog", linthresh=1, linscale=0.3)
        axes.set_xlim(0, 1.15 * steps[-1])
