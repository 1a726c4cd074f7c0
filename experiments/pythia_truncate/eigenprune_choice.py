"""Eigenpruning on Pythia: effects once, every fraction tried on validation, one tested."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from truncation.intervention import Key, Params
from truncation.rules import eigenprune
from truncation.rules.eigenprune import Pruning
from truncation.search import comparison
from truncation.search import evaluator as search
from truncation.search.evaluator import Evaluator, Outcome

RANDOM_SEEDS = (0, 1, 2)


@dataclasses.dataclass(frozen=True, eq=False)
class ChosenPruning:
    """The best pruning on validation, whether it beats the whole model, and all rows."""

    name: str
    improves: bool
    params: Params
    outcome: Outcome


def choose_pruning(
    evaluator: Evaluator,
    keys: Sequence[Key],
    fractions: Sequence[float],
    validation: np.ndarray,
    test: np.ndarray,
    *,
    objective: str,
    seed: int = 0,
    samples: int = 2000,
) -> ChosenPruning:
    """Score directions on validation examples, remove each fraction of the lowest, test one.

    Every fraction is tried with and without the mean-input bias. The rows of validation
    come first; then those of test: unpruned, chosen, and random prunings of equal size.
    """
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction {fraction}: expected a number in (0, 1]")
    started, spent = time.perf_counter(), evaluator.spent
    effects = {
        key: eigenprune.effects(evaluator, key, validation, seed=seed)[0].mean(
            axis=0, dtype=np.float64
        )
        for key in keys
    }
    weights = evaluator.weights(validation)
    full = evaluator.full(validation)
    variants: list[tuple[str, Pruning, bool]] = []
    for fraction in fractions:
        pruning = Pruning({key: lowest_removed(effects[key], fraction) for key in keys})
        for compensated in (False, True):
            name = f"pruned {fraction:g}" + (" with bias" if compensated else "")
            variants.append((name, pruning, compensated))
    # Parameters are made again for the chosen one: all of them at once would fill memory.
    found = [
        evaluator.model_scores(_apply(evaluator, pruning, compensated, validation), validation)
        for _, pruning, compensated in variants
    ]
    scores = {name: np.concatenate([one[name] for one in found]) for name in full}
    ranked = comparison.merit(scores, weights, objective)
    best = max(range(len(variants)), key=ranked.__getitem__)
    baseline = comparison.merit({n: v[None] for n, v in full.items()}, weights, objective)[0]
    bootstrap = {"seed": seed, "samples": samples}
    warning: str | None = f"no pruning improves {objective} on validation"
    improves = ranked[best] > baseline
    if improves:
        warning = comparison.within_noise(scores, full, weights, best, objective, **bootstrap)

    name, pruning, compensated = variants[best]
    rows: list[dict[str, Any]] = [{"intervention": "full", "removed": 0, "chosen": False}]
    rows += [
        {"intervention": n, "removed": p.removed, "chosen": i == best}
        for i, (n, p, _) in enumerate(variants)
    ]
    with_full = {n: np.concatenate([full[n][None], v]) for n, v in scores.items()}
    figures = comparison.summarise(with_full, full, weights, prefix="validation/", **bootstrap)
    for row, values in zip(rows, figures, strict=True):
        row.update(values)
    params = _apply(evaluator, pruning, compensated, validation)
    tested = eigenprune.evaluate(
        evaluator,
        pruning,
        validation,
        test,
        random_seeds=RANDOM_SEEDS,
        compensation=(compensated,),
        seed=seed,
        samples=samples,
    )
    labels = {"unpruned": "full", "pruned": name}
    for row in tested:
        label = labels.get(row["model"], f"{name}, {row['model']}")
        columns = {
            f"test/{k}": v for k, v in row.items() if k not in ("model", "compensated", "removed")
        }
        known = next((r for r in rows if r["intervention"] == label), None)
        if known is None:
            rows.append({"intervention": label, "removed": row["removed"], **columns})
        else:
            known.update(columns)
    outcome = Outcome(
        search.NOTHING, rows, evaluator.spent - spent, time.perf_counter() - started, warning
    )
    return ChosenPruning(name, improves, params, outcome)


def lowest_removed(effects: np.ndarray, fraction: float) -> np.ndarray:
    """[r] of ones, zero at the floor(fraction r) directions of lowest mean effect."""
    mask = np.ones(len(effects), np.float32)
    mask[np.argsort(effects, kind="stable")[: int(fraction * len(effects) + 1e-9)]] = 0
    return mask


def _apply(
    evaluator: Evaluator, pruning: Pruning, compensated: bool, examples: np.ndarray
) -> Params:
    return eigenprune.apply(evaluator, pruning, compensate_on=examples if compensated else None)
