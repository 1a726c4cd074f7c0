"""What random inputs share: the noise that a first step of descent gives each fact.

One step of descent of a linear memory on random rows, and wide rectified layers, by sampling.
"""

import numpy as np
import xarray as xr

from truncated_weights.experiments.verify_theory.effort import Effort, Outcome
from truncated_weights.experiments.verify_theory.families import descent
from truncated_weights.experiments.verify_theory.table import (
    Row,
    deviation_and_error,
    mean_and_error,
    worst,
)
from truncated_weights.theory import input_overlap
from truncated_weights.training.records import Records

FAMILY = "overlap"
SIZE, WIDTH, ALPHA = 10, 16, 0.3
DRAWS_PER = 50
COSINES = np.array([0.0, 0.3, -0.6, 0.9, 1.0])
# One step: the noise logit per step is the first order in t, but for STEP itself.
STEP = 1e-4


def simulate(effort: Effort, seed: int) -> Records:
    """kappa of every fact over many random embeddings; overlaps of rectified features."""
    rng = np.random.default_rng(seed)
    law = descent.zipf(SIZE)
    draws = DRAWS_PER * effort.embedding_draws
    rows = rng.normal(size=(draws, SIZE, WIDTH)) / np.sqrt(WIDTH)
    # The gradient at zero is E^T diag(pi) (target - u), noise column and all.
    residual = ALPHA - 1 / (SIZE + 1)
    weights = np.einsum("kid,i->kd", rows, law * residual)
    drives = np.einsum("kid,kd->ki", rows, weights) / residual
    z = rng.normal(size=(2, effort.label_draws))
    first = np.maximum(z[0], 0)
    other = [np.maximum(c * z[0] + np.sqrt(1 - c * c) * z[1], 0) for c in COSINES]
    # A wide rectified layer of orthonormal inputs, read by a linear map.
    hidden = np.maximum(rng.normal(size=(SIZE, 20 * effort.embedding_draws)), 0)
    hidden /= np.sqrt(np.mean(np.sum(hidden**2, axis=1)))
    found = {
        "rows": (("fact", "d"), rows[0]),
        "one_step": ("fact", _drive(rows[0], law)),
        "drive": (("draw", "fact"), drives),
        "rectified": (("cosine", "point"), np.array([2 * first * x for x in other])),
        "wide": ("fact", _drive(hidden, law)),
        "shared": ("fact", _drive(descent.with_shared(SIZE, 0.25), law)),
    }
    return Records({"overlap": xr.Dataset(found, {"cosine": COSINES})})


def judge(effort: Effort, found: Records) -> Outcome:
    """Rows of the family."""
    measured = found.overlap
    law, drives = descent.zipf(SIZE), measured.drive.values
    predicted = input_overlap.random_drive(law, WIDTH)
    setting = f"N={SIZE}, Zipf, d={WIDTH}, {len(drives)} draws"
    overlaps = measured.rectified.values
    middle, error = mean_and_error(overlaps.T)
    shared = (measured.wide.values - law) / (1 - law)
    one_over_pi = input_overlap.rectified_overlap(np.zeros(1))[0]
    rows = [
        worst(FAMILY, "noise drive of one set of embeddings", f"N={SIZE}, d={WIDTH}",
              input_overlap.noise_drive(measured.rows.values, law), measured.one_step.values,
              tolerance=5e-4, note="one small step"),
        worst(FAMILY, "mean of the drive", setting, predicted.mean, *mean_and_error(drives)),
        worst(FAMILY, "deviation of the drive", setting, predicted.deviation,
              *deviation_and_error(drives)),
        worst(FAMILY, "overlap of rectified features", f"cosines {COSINES.tolist()}",
              input_overlap.rectified_overlap(COSINES), middle, error),
        Row(FAMILY, "effective r of a wide rectified layer",
            f"N={SIZE}, width {20 * effort.embedding_draws}", float(one_over_pi),
            float(np.mean(shared)), tolerance=0.03, note="mean over facts; 1 / pi"),
        worst(FAMILY, "effective r of inputs of known r", f"N={SIZE}",
              input_overlap.effective_shared(measured.shared.values, law), np.full(SIZE, 0.25),
              tolerance=1e-3, note="from one small step"),
    ]  # fmt: skip
    return Outcome(rows)


def _drive(rows: np.ndarray, law: np.ndarray) -> np.ndarray:
    """Noise logit of every fact after one small step, over that of a fact alone."""
    w = descent.descend(rows, law, descent.own_answers(len(law), (ALPHA,)), (STEP,), step=STEP)[0]
    return rows @ w[:, -1] / (STEP * (ALPHA - 1 / (len(law) + 1)))
