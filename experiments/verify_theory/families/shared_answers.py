"""The memory whose facts share their answers: descent against its flow, and two cuts."""

import numpy as np
import xarray as xr

from truncated_weights.experiments.verify_theory.effort import Effort, Outcome
from truncated_weights.experiments.verify_theory.families import descent
from truncated_weights.experiments.verify_theory.table import Row, worst
from truncated_weights.theory.text import shared_answers
from truncated_weights.training.records import Records

FAMILY = "answers"
SIZE, ANSWERS, ALPHA, SHARED = 24, 4, 0.4, 0.3
TIMES = (10.0, 100.0, 400.0)
SAME = 2e-3


def simulate(effort: Effort, seed: int) -> Records:
    """W at TIMES; the answers go round."""
    del effort, seed
    matrices = descent.flow(
        descent.with_shared(SIZE, SHARED), descent.zipf(SIZE), _targets(), TIMES, step=0.25
    )
    found = {"w": (("time", "input", "answer"), matrices)}
    return Records({"answers": xr.Dataset(found, {"time": list(TIMES)})})


def judge(effort: Effort, found: Records) -> Outcome:
    """Logits, the law of the answers, and what two cuts leave."""
    del effort
    matrices, features = found.answers.w.values, descent.with_shared(SIZE, SHARED)
    given = shared_answers.memory(descent.zipf(SIZE), np.arange(SIZE) % ANSWERS, ALPHA, SHARED)
    exact = shared_answers.logits(given, np.array(TIMES))
    logits = features @ matrices
    setting = f"N={SIZE}, K={ANSWERS}, Zipf, r={SHARED:g}, alpha={ALPHA:g}, t=10..400"
    top, row = [], []
    for matrix in matrices:
        read, values, write = np.linalg.svd(matrix, full_matrices=False)
        top.append(features @ (matrix - values[0] * np.outer(read[:, 0], write[0])))
        row.append(features[:, 1:] @ matrix[1:] + 0.5 * features[:, :1] @ matrix[:1])
    right = logits.argmax(axis=2) == np.arange(SIZE) % ANSWERS
    known = shared_answers.known(given, exact)
    note = "finite steps, second order"
    rows = [
        worst(FAMILY, "logit", setting, exact, logits, tolerance=SAME, note=note),
        worst(FAMILY, "logit without the top component", setting,
              np.array([shared_answers.without_top(given, z) for z in exact]), np.array(top),
              tolerance=5 * SAME, note=note),
        worst(FAMILY, "logit with half of the shared row", setting,
              np.array([shared_answers.without_row(given, z, 0.5) for z in exact]),
              np.array(row), tolerance=SAME, note=note),
        worst(FAMILY, "target", setting, shared_answers.targets(given), _targets(),
              tolerance=1e-12),
        Row(FAMILY, "facts known and not foretold, or the reverse", setting, 0.0,
            float(np.sum(right ^ known)), note=f"of {known.size}, {known.sum()} known"),
    ]  # fmt: skip
    return Outcome(rows)


def _targets() -> np.ndarray:
    table = np.zeros((SIZE, ANSWERS + 1))
    table[np.arange(SIZE), np.arange(SIZE) % ANSWERS] = 1 - ALPHA
    table[:, -1] = ALPHA
    return table
