"""What is written and printed of one task: tables, figures, the summary."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.run import heatmaps
from experiments.run import table as terminal
from experiments.run.directory import RunDirectory
from experiments.run.model_setup import Questions
from experiments.truncate_model import by_level, figures
from experiments.truncate_model.asking import Result


def write_tables(directory: RunDirectory, name: str, result: Result) -> None:
    """TASK_candidates, _parts, _components, _predictions and _flips, and metrics.jsonl."""
    directory.write_csv(f"{name}_candidates.csv", result.outcome.rows)
    directory.write_jsonl(f"{name}_candidates.jsonl", result.outcome.rows)
    if result.parts:
        directory.write_csv(f"{name}_parts.csv", result.parts)
    if result.components:
        directory.write_csv(f"{name}_components.csv", result.components)
    directory.write_csv(f"{name}_predictions.csv", result.predictions)
    directory.write_csv(f"{name}_flips.csv", result.flips)
    for row in result.outcome.rows:
        directory.append_metrics({"task": name, **row})


def draw(
    name: str,
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    shown: str,
    rows: Sequence[Mapping[str, Any]],
    objective: str,
) -> list[tuple[str, Figure]]:
    """The figures of one task, with their names."""
    found = [
        (
            f"{name}_before_after",
            figures.distributions(before, after, shown),
        )
    ]
    # A map needs at least two cells of single cuts.
    if sum("matrix" in row and "validation/loss" in row for row in rows) > 1:
        for metric in dict.fromkeys((objective, "loss", "p_the")):
            figure = heatmaps.heatmaps(rows, metric)
            found.append((f"{name}_heatmap_{metric}", figure))
    return found


def summarise(name: str, result: Result) -> dict[str, Any]:
    """TASK/SPLIT/MODEL/METRIC of every row that was measured, and what was chosen."""
    summary: dict[str, Any] = {}
    for row in result.outcome.rows:
        if row.get("action", "stop") not in ("start", "stop"):
            continue
        for key, value in row.items():
            if key.startswith(("validation/", "test/")):
                split, metric = key.split("/")
                summary[f"{name}/{split}/{row['intervention']}/{metric}"] = value
    summary[f"{name}/chosen"] = result.chosen
    summary[f"{name}/warning"] = result.outcome.warning or ""
    summary[f"{name}/not_finite"] = len(result.outcome.lost)
    summary[f"{name}/evaluations"] = result.outcome.evaluations
    return summary


def per_example(one: Questions, result: Result) -> dict[str, np.ndarray]:
    """Every score of every test example, before and after."""
    arrays = {f"{one.name}/test/indices": one.test}
    for model, scores in (("full", result.before), (result.shown, result.after)):
        for metric, values in scores.items():
            arrays[f"{one.name}/test/{model}/{metric}"] = values[:, 0]
    return arrays


def report(name: str, result: Result) -> None:
    """Print the figures that answer the question."""
    print(f"{name}: {len(result.before['loss'])} test examples")
    columns = ("accuracy", "loss", "p_answer", "p_the", "rank")
    shown = [("full", result.before), (result.shown, result.after)]
    rows = [
        {"": label} | {c: float(np.mean(scores[c], dtype=np.float64)) for c in columns}
        for label, scores in shown
    ]
    print(terminal.text(rows))
    if result.chosen == "full":
        print(
            f"No cut beat the full model on validation, so the full model is kept; the line of "
            f"{result.shown} shows the nearest."
        )
    else:
        print(
            f"{result.chosen} was chosen on validation: accuracy on test goes from "
            f"{rows[0]['accuracy']:.3f} to {rows[1]['accuracy']:.3f}, loss from "
            f"{rows[0]['loss']:.3f} to {rows[1]['loss']:.3f} nats."
        )
    by_level.report(result.flips)
    for row in result.parts:
        tokens = ", ".join(
            f"{token!r} {p:.2f}"
            for token, p in zip(row["top_tokens"][:3], row["top_probabilities"], strict=False)
        )
        print(f"  {row['part']:8s} part says {tokens}")
    for note in result.outcome.notes:
        print(f"  note: {note}")
