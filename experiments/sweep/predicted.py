"""What theory says of a run before it is made, and how far off it was over a sweep.

Five statements, for two layers with softmax attention and ReLU feed-forwards, trained by SGD
(others have no row):

half_step/noise   theory.lazy, no network at hand: p(noise) at triggers under the kernel of the
                  start, first at alpha / 2.
half_step/attention
                  theory.learning_times.take_over_steps: copying and looking feed each other under
                  momentum. Its one constant was measured at d = T = 64.
margin/ratio      feed-forwards over attention, what the first step adds to the noise margin:
                  theory.lazy.margin_ratio.
clean/full/p_noise
                  alpha.
first_step/deviation
                  theory.lazy.label_deviation, where the gradients of the first step were measured.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from truncated_weights.experiments.sweep.plan import Run
from truncated_weights.experiments.sweep.rows import Table
from truncated_weights.theory import lazy, learning_times
from truncated_weights.toy.recall import Task
from truncated_weights.training import reductions

Row = dict[str, Any]
# The noise comes within a hundred steps or not at all: later ones of a long run are not predicted.
STEPS_AT_MOST = 4096


def of_run(run: Run, task: Task, labels: float = math.nan) -> dict[str, float]:
    """Predictions for one run, by column; empty where the theory does not speak of it.

    labels: scored positions of a batch, NaN where they were not counted.
    """
    config = run.config
    if config.feed_forward != ("mlp", "mlp") or config.optimizer != "sgd":
        return {}
    if (config.attention, config.activation) != ("softmax", "relu"):
        return {}
    if config.schedule != "constant" or config.warmup or not 0 < config.alpha < 1:
        return {}
    hidden = config.d_hidden or 4 * config.d_model
    curves = lazy.trigger_curves(
        width=config.d_model,
        hidden=hidden,
        num_outputs=int(task.outputs.size),
        num_classes=task.vocab_size,
        alpha=config.alpha,
        learning_rate=config.learning_rate,
        momentum=config.momentum,
        steps=min(config.steps, STEPS_AT_MOST),
    )
    frequencies = _frequencies(task)
    overlap = lazy.attended_overlap(frequencies, config.length)
    softmax = lazy.softmax_overlap(frequencies, config.length, config.d_model)
    noise = xr.DataArray(curves.noise, {"step": np.arange(curves.noise.size)}, "step")
    found = {
        "half_step/noise": reductions.crossing_step(noise, config.alpha / 2),
        "half_step/attention": learning_times.take_over_steps(
            frequency=float(frequencies.mean(axis=0)[list(task.triggers)].mean()),
            num_outputs=int(task.outputs.size),
            alpha=config.alpha,
            learning_rate=config.learning_rate,
            momentum=config.momentum,
        ),
        "margin/ratio": lazy.margin_ratio(config.d_model, hidden, overlap, softmax=softmax),
        "clean/full/p_noise": config.alpha,
    }
    if labels > 0:
        found["first_step/deviation"] = lazy.label_deviation(
            alpha=config.alpha,
            num_classes=task.vocab_size,
            num_outputs=int(task.outputs.size),
            num_noise=len(task.noise),
            labels=labels,
        )
    return found


def _frequencies(task: Task) -> np.ndarray:
    """Stationary law of the chain given each output [outputs, vocab]."""
    found = []
    alpha = float(task.alpha)  # type: ignore[arg-type]
    for output in task.outputs:
        chain = np.array(task.transition, np.float64)
        for trigger in task.triggers:
            chain[trigger] = 0
            chain[trigger, output] = 1 - alpha
            chain[trigger, list(task.noise)] += alpha / len(task.noise)
        law = np.full(len(chain), 1 / len(chain))
        # Half a step at a time, so that no period survives.
        for _ in range(200):
            law = 0.5 * (law + law @ chain)
        found.append(law)
    return np.array(found)


def beside(runs: Mapping[int, tuple[Run, Task]], table: Table) -> list[Row]:
    """One row per point and statement: predicted, measured over seeds, standard error.

    runs: by their place in the table. Runs that were lost count nowhere.
    """
    lines = []
    for members in table.points().values():
        here = table.numbers.isel(run=members[~table.lost[members]])
        if not here.run.size:
            continue
        first, task = runs[int(here.run[0])]
        labels = float(table.column("first_step/labels").sel(run=here.run[0]))
        for column, predicted in of_run(first, task, labels).items():
            measured, error = _measured(column, here)
            # Neither is positive where noise is likely from the start: nothing to compare.
            if predicted and measured and math.isfinite(predicted * measured):
                lines.append(
                    {
                        "quantity": column,
                        **first.values,
                        "seeds": here.run.size,
                        "predicted": predicted,
                        "measured": measured,
                        "sem": error if math.isfinite(error) else None,
                    }
                )
    for line in lines:
        line["measured_over_predicted"] = line["measured"] / line["predicted"]
    return lines


def summarise(table: Sequence[Row]) -> dict[str, float]:
    """Per statement the geometric mean of measured over predicted, and its spread as a factor."""
    summary: dict[str, float] = {}
    for column in dict.fromkeys(line["quantity"] for line in table):
        ratios = [line["measured_over_predicted"] for line in table if line["quantity"] == column]
        logs = np.log([ratio for ratio in ratios if ratio > 0])
        if logs.size:
            summary[f"theory/{column}/factor"] = float(np.exp(logs.mean()))
            summary[f"theory/{column}/spread"] = float(np.exp(logs.std()))
            summary[f"theory/{column}/points"] = len(ratios)
    return summary


def _measured(column: str, here: xr.DataArray) -> tuple[float, float]:
    """Mean over the runs of a point [run, column] and its error; NaN where a run has no figure."""
    if column == "margin/ratio":
        # Of means over seeds: a single run's attention margin is near zero and of either sign.
        fed, attention = (
            here.sel(column=f"margin/{part}") for part in ("feed_forward", "attention")
        )
        ratio = float(fed.mean("run") / attention.mean("run"))
        error = reductions.mean(fed - ratio * attention, "run").error / abs(attention.mean("run"))
        return ratio, float(error)
    value, error, count = reductions.mean(here.sel(column=column), "run")
    return (float(value), float(error)) if count == here.run.size else (math.nan, math.nan)
