"""What answers are worth beside their accuracy: constants, generated text, whole items.

Three questions that a mean over examples does not ask. Of a closed task: does the model, full
or cut, still answer the question, or does it say one thing to everything, and does it beat the
best constant answer? Of a task whose answers are generated: are they right, and would the
published marking have said so? Of a task with paraphrases or options: is the change more than
chance when whole items are resampled?
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from truncated_weights import bridge
from truncated_weights.bridge import answers, encoding
from truncated_weights.bridge.closed_choice import option_scores
from truncated_weights.bridge.tasks import Marking, split
from truncated_weights.bridge.tasks.metrics import closed, generated
from truncated_weights.training.records import Name, name
from truncated_weights.truncation.finite import NotFiniteError
from truncated_weights.truncation.search import statistics


@dataclasses.dataclass(frozen=True)
class Worth:
    """Lines to print, figures by name, and the generated answers."""

    lines: tuple[str, ...] = ()
    figures: Mapping[Name, Any] = dataclasses.field(default_factory=dict)
    rows: tuple[Mapping[str, Any], ...] = ()

    def __add__(self, other: "Worth") -> "Worth":
        """Both, one after the other."""
        figures = {**self.figures, **other.figures}
        return Worth(self.lines + other.lines, figures, self.rows + other.rows)


def of_choices(
    tested: encoding.Encoded,
    options: Sequence[str],
    models: Mapping[str, bridge.Checkpoint],
    *,
    memory: int,
    seed: int = 0,
    samples: int = 2000,
) -> Worth:
    """Each model's choices among the closed set, by sums and per token, against constants.

    A cut that leaves the finite numbers has no figures; NotFiniteError where the first model does.
    """
    options, items = tuple(options), split.items(tested.examples)
    lines: list[str] = []
    figures: dict[Name, Any] = {}
    for model, checkpoint in models.items():
        try:
            scores = option_scores(
                checkpoint.params, checkpoint.config, tested, options, memory=memory
            )
        except NotFiniteError as error:
            lines.append(_without_figures(models, model, error))
            continue
        for label, tokens in (("summed", None), ("per_token", scores.tokens)):
            chosen = closed.choose(scores.log_p, tokens)
            found = closed.report(
                chosen, scores.right, len(options), items=items, seed=seed, samples=samples
            )
            own: dict[str, Any] = {
                "accuracy": found.accuracy,
                "accuracy_low": found.low,
                "accuracy_high": found.high,
                "macro_f1": found.macro_f1,
                "commonest": options[found.commonest[0]],
                "commonest_share": found.commonest[1],
                "constant": float(found.constant),
            }
            # With one option right everywhere there is nothing to agree on, and JSON has no nan.
            if not np.isnan(found.kappa):
                own["kappa"] = found.kappa
            at = {"kind": "closed", "model": model, "sum": label}
            figures |= {name(figure, **at): value for figure, value in own.items()}
            figures[name("best_constant", kind="closed")] = found.best_constant[1]
            # Answers of one token each are chosen alike both ways.
            if label == "summed" or np.any(scores.tokens != 1):
                lines.append(
                    f"{model}, {label.replace('_', ' ')}: {found.accuracy:.1%} "
                    f"[{found.low:.1%}, {found.high:.1%}], {found.verdict(options)}"
                )
    return Worth(tuple(lines), figures)


def of_texts(
    tested: encoding.Encoded,
    marking: Marking,
    models: Mapping[str, bridge.Checkpoint],
    *,
    most: int,
    batch_size: int = 16,
    prefix: Sequence[int] = (),
    seed: int = 0,
    samples: int = 2000,
) -> Worth:
    """Each model's generated answers to the first `most` test examples, by every mark.

    Changes are to the first of the models, with 95 % intervals from resampling items. A cut that
    leaves the finite numbers has no figures; NotFiniteError where the first model does.
    """
    examples = tested.examples[:most]
    items = split.items(examples)
    kinds = generated.NAMES[marking.metric]
    found: dict[str, dict[str, np.ndarray]] = {}
    rows: list[Mapping[str, Any]] = []
    lines: list[str] = []
    for model, checkpoint in models.items():
        given = answers.stream(checkpoint, examples, marking, batch_size=batch_size, prefix=prefix)
        try:
            texts = dict(given)
        except NotFiniteError as error:
            lines.append(_without_figures(models, model, error))
            continue
        marked = [generated.marks(e, texts[i], marking) for i, e in enumerate(examples)]
        found[model] = {mark: np.array([one[mark] for one in marked]) for mark in kinds}
        rows += [
            {"model": model, "prompt": e.prompt, "answer": e.gold or e.answer,
             "generated": texts[i], **marked[i]}
            for i, e in enumerate(examples)
        ]  # fmt: skip
    first = next(iter(found))
    figures: dict[Name, Any] = {}
    for model, marks in found.items():
        at = {"kind": "generated", "model": model}
        figures |= {name(mark, **at): float(values.mean()) for mark, values in marks.items()}
        change = by_items(marks[kinds[0]] - found[first][kinds[0]], items, seed, samples)
        low, high = float(change.low[0]), float(change.high[0])
        figures[name(f"{kinds[0]}_change_low", **at)] = low
        figures[name(f"{kinds[0]}_change_high", **at)] = high
        told = ", ".join(f"{mark} {values.mean():.1%}" for mark, values in marks.items())
        if model != first:
            told += f"; change {float(change.mean[0]):+.1%} [{low:+.1%}, {high:+.1%}]"
        lines.append(f"{model}, {len(examples)} generated: {told}")
    return Worth(tuple(lines), figures, tuple(rows))


def _without_figures(models: Mapping[str, Any], model: str, error: NotFiniteError) -> str:
    """The line of a cut that left the finite numbers; of the first model the error is raised."""
    if model == next(iter(models)):
        raise error
    return f"{model}: no figures, {error}"


def of_items(
    tested: encoding.Encoded,
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    *,
    seed: int = 0,
    samples: int = 2000,
) -> Worth:
    """Changes of accuracy and loss whose intervals resample whole items, where some are shared.

    before and after hold a value for each test example.
    """
    items = split.items(tested.examples)
    number = int(items.max()) + 1
    if number == len(items):
        return Worth()
    lines: list[str] = []
    figures: dict[Name, Any] = {name("items"): number}
    for metric in ("accuracy", "loss"):
        found = by_items(after[metric] - before[metric], items, seed, samples)
        mean, low, high = (float(values[0]) for values in found)
        figures[name(f"{metric}_change_low", kind="by_items")] = low
        figures[name(f"{metric}_change_high", kind="by_items")] = high
        lines.append(
            f"{metric} changes by {mean:+.4f} [{low:+.4f}, {high:+.4f}], resampling {number} items"
        )
    return Worth(tuple(lines), figures)


def by_items(
    difference: np.ndarray, items: np.ndarray, seed: int, samples: int
) -> statistics.Interval:
    """The mean over examples, and its interval from resampling whole items."""
    number = int(items.max()) + 1
    sums = np.bincount(items, weights=difference, minlength=number)
    sizes = np.bincount(items, minlength=number).astype(float)
    # An item weighs what it has examples, and its value is their mean.
    return statistics.paired_bootstrap(
        (sums / sizes)[None, :, None], sizes[:, None], seed=seed, samples=samples
    )
