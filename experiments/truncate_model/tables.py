"""What is written, named and printed of one task."""

from typing import Any

import numpy as np

from truncated_weights.experiments.run import model_scores
from truncated_weights.experiments.run import table as terminal
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.drawing import heatmaps
from truncated_weights.experiments.run.inputs.model_setup import Questions
from truncated_weights.experiments.truncate_model import by_level
from truncated_weights.experiments.truncate_model.asking import Result
from truncated_weights.training import records
from truncated_weights.training.records import Name, name


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


def named(one: Questions, result: Result) -> dict[str, dict[Name, Any]]:
    """Block -> named numbers and texts.

    scores: of every test example, before and after [model, example], and where it stands in the
    task (index). final: METRIC and its change for every row that was measured [set, model].
    grid: those on validation [layer, matrix, rho]. outcome: what was chosen, and at what cost.
    """
    final: dict[Name, Any] = {}
    for row in result.outcome.rows:
        for part in ("validation", "test") * (row.get("action", "stop") in ("start", "stop")):
            final |= {
                name(key, set=part, model=row["intervention"]): _or_nan(value)
                for key, value in records.below(row, part).items()
            }
    outcome = {
        "chosen": result.chosen,
        "warning": result.outcome.warning or "",
        "not_finite": len(result.outcome.lost),
        "evaluations": result.outcome.evaluations,
    }
    return {
        "scores": {
            name("index", "example"): one.test,
            **model_scores.named(result.before, model="full"),
            **model_scores.named(result.after, model=result.shown),
        },
        "final": final,
        "grid": dict(records.cells(heatmaps.of_rows(result.outcome.rows))),
        "outcome": {name(what): value for what, value in outcome.items()},
    }


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else float(value)


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
