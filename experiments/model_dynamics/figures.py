"""Answers, noise and spectra of a model along its training, from records alone."""

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes

from truncated_weights.experiments.model_dynamics.settings import ModelDynamics
from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.experiments.run.drawing.style import COLOURS, CYCLE
from truncated_weights.training.records import Records

# Metric -> title and unit.
LABELS = {
    "p_answer": ("p(answer)", "probability"),
    "p_the": ('p(" the")', "probability"),
    "p_distractor": ("p(best distractor)", "probability"),
    "margin_the": ('log p(answer) - log p(" the")', "nats"),
    "logit_difference": ("logit(answer) - logit(distractor)", "logits"),
    "accuracy": ("accuracy", "share of examples"),
}


def figures(config: ModelDynamics, records: Records) -> Iterator[Figure]:
    """Answers along training, and the spectra."""
    panels = [along(records, metric) for metric in LABELS if metric in records.means]
    columns = min(4, records.means.sizes["model"])
    yield Figure("along_training", panels, height=2.2, legend=columns)
    panels = [spectrum(records, matrix) for matrix in map(str, records.spectra.matrix.values)]
    yield Figure("spectra", panels, 4, 2.0, legend=3)


def along(records: Records, metric: str) -> Panel:
    """A metric against the step, full and truncated, with 95 % intervals."""
    means = records.means.transpose("model", "step")
    models, (title, unit) = list(map(str, means.model.values)), LABELS[metric]

    def draw(axes: Axes) -> None:
        for colour, model in zip((COLOURS["neutral"], *CYCLE), models, strict=False):
            own = means.sel(model=model)
            axes.plot(
                own.step, own[metric], color=colour, label=model,
                ls="--" if model == "full" else "-", marker="o", ms=2,
            )  # fmt: skip
            low, high = own[f"{metric}_low"], own[f"{metric}_high"]
            axes.fill_between(own.step, low, high, color=colour, alpha=0.18, lw=0)
        if unit in ("probability", "share of examples"):
            top = float(means[f"{metric}_high"].max())
            axes.set_ylim(-0.02 * top, 1.05 * top or 1.0)
        else:
            axes.axhline(0, color="0.7", lw=0.8, zorder=0)
        axes.set_ylabel(unit)
        _step_axis(axes, means.step.values)

    last = means[metric].isel(step=-1)
    ends = ", ".join(f"{model} {float(last.sel(model=model)):.2f}" for model in models)
    caption = f"{title} at every checkpoint, full and cut; at the last: {ends}."
    return Panel(f"along-{metric}", title, draw, caption)


def spectrum(records: Records, matrix: str) -> Panel:
    """Singular values of a matrix along training, the largest three in colour."""
    values = records.spectra.singular_values.sel(matrix=matrix).dropna("rank", how="all")
    steps, trajectory = values.step.values, values.transpose("step", "rank").values
    rank = trajectory.shape[1]

    def draw(axes: Axes) -> None:
        # Some 60 lines show the bulk; a thousand would only darken it.
        bulk = np.unique(np.linspace(0, rank - 1, min(60, rank)).astype(int))
        axes.plot(steps, trajectory[:, bulk], color="0.75", lw=0.5, zorder=0)
        for index, colour in zip(range(min(3, rank)), CYCLE, strict=False):
            label = rf"$\sigma_{index + 1}$"
            axes.plot(steps, trajectory[:, index], color=colour, lw=1.2, label=label)
        axes.set_ylim(0, float(trajectory.max()) * 1.08)
        axes.set_ylabel("singular value")
        _step_axis(axes, steps)

    caption = f"Singular values of {matrix} at every checkpoint, the three largest in colour."
    return Panel(f"spectrum-{matrix}", matrix, draw, caption, legend=3)


def _step_axis(axes: Axes, steps: np.ndarray) -> None:
    axes.set_xlabel("training step")
    if len(steps) > 1:
        # Step 0 has a place on this axis, unlike on a logarithmic one.
        axes.set_xscale("symlog", linthresh=1, linscale=0.3)
        axes.set_xlim(0, 1.15 * steps[-1])
