"""What theory says of a run before it is made, and how far off it was over a sweep.

Five statements, for two layers with ReLU feed-forwards trained by SGD (others have no row):

half_step/noise   theory.lazy, no network at hand: p(noise) at triggers under the kernel of the
                  start, first at alpha / 2.
half_step/attention
                  theory.learning_times, the reduced flow of one layer with orthonormal
                  features. Its clock is another one (time is rate x steps / (1 - momentum) times
                  an unknown scale of the features), so that only its dependence on N and alpha
                  is compared: one factor is fitted to the whole sweep.
margin/ratio      feed-forwards over attention, what the first step adds to the noise margin:
                  theory.lazy.margin_ratio.
clean/full/p_noise
                  alpha.
first_step/deviation
                  theory.lazy.label_deviation, where the gradients of the first step were measured.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.sweep.plan import Run
from experiments.sweep.rows import Row, half_step
from theory import lazy, learning_times
from toy.recall import Task

# The noise comes within a hundred steps or not at all: later ones of a long run are not predicted.
STEPS_AT_MOST = 4096


def of_run(run: Run, task: Task, labels: float | None = None) -> dict[str, float | None]:
    """Predictions for one run, by column; empty where the theory does not speak of it.

    labels: scored positions of a batch, where they were counted.
    """
    config = run.config
    if config.feed_forward != ("mlp", "mlp") or config.optimizer != "sgd":
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
    overlap = lazy.attended_overlap(_frequencies(task), config.length)
    found: dict[str, float | None] = {
        "half_step/noise": half_step(np.arange(curves.noise.size), curves.noise, config.alpha / 2),
        "half_step/attention": None,
        "margin/ratio": lazy.margin_ratio(config.d_model, hidden, overlap),
        "clean/full/p_noise": config.alpha,
    }
    if labels:
        found["first_step/deviation"] = lazy.label_deviation(
            alpha=config.alpha,
            num_classes=task.vocab_size,
            num_outputs=int(task.outputs.size),
            num_noise=len(task.noise),
            labels=labels,
        )
    if config.alpha > 2.0 / (config.num_tokens + 1) and config.num_tokens >= 4:
        time = learning_times.half_times(config.num_tokens, config.alpha).attention
        found["half_step/attention"] = time * (1 - config.momentum) / config.learning_rate
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


def beside(found: Sequence[tuple[Run, Task, Row]]) -> list[Row]:
    """One row per point and statement: predicted, measured over seeds, standard error.

    found: every run with its task and its row of the table. Runs that were lost count nowhere.
    """
    points: dict[tuple[tuple[str, Any], ...], list[tuple[Run, Task, Row]]] = {}
    for run, task, row in found:
        if row["lost_at"] is None:
            points.setdefault(tuple(run.values.items()), []).append((run, task, row))
    table = []
    for members in points.values():
        first, task, row = members[0]
        for column, predicted in of_run(first, task, row.get("first_step/labels")).items():
            measured, error = _measured(column, [row for *_, row in members])
            # Neither is positive where noise is likely from the start: nothing to compare.
            if predicted and measured:
                table.append(
                    {
                        "quantity": column,
                        **first.values,
                        "seeds": len(members),
                        "predicted": predicted,
                        "measured": measured,
                        "sem": error,
                    }
                )
    _fit_clock(table)
    for line in table:
        line["measured_over_predicted"] = line["measured"] / line["predicted"]
    return table


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


def _measured(column: str, rows: Sequence[Row]) -> tuple[float | None, float | None]:
    if column == "margin/ratio":
        # Of means over seeds: a single run's attention margin is near zero and of either sign.
        fed, attention = (
            np.array([row[f"margin/{part}"] for row in rows], np.float64)
            for part in ("feed_forward", "attention")
        )
        ratio = fed.mean() / attention.mean()
        if len(rows) < 2:
            return float(ratio), None
        error = np.std(fed - ratio * attention, ddof=1) / np.sqrt(len(rows)) / abs(attention.mean())
        return float(ratio), float(error)
    values = [row[column] for row in rows if row[column] is not None]
    if len(values) < len(rows):
        return None, None
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
    return float(np.mean(values)), None if error is None else float(error)


def _fit_clock(table: Sequence[Row]) -> None:
    """Give the attention's predictions the one factor that a sweep decides."""
    here = [line for line in table if line["quantity"] == "half_step/attention"]
    if here:
        logs = [np.log(line["measured"] / line["predicted"]) for line in here]
        for line in here:
            line["predicted"] *= float(np.exp(np.mean(logs)))
            line["clock"] = float(np.exp(np.mean(logs)))
