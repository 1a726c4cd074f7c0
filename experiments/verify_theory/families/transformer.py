"""Laws of a sweep over the two-layer Transformer: half time of the noise, first step, batch size.

Predictions neglect attention and finite width (theory/lazy), so that rows have a tolerance beside
the standard error over seeds.
"""

import math

import jax
import numpy as np

from experiments.verify_theory.effort import Effort, Outcome
from experiments.verify_theory.families import early
from experiments.verify_theory.families.early import LENGTH, WIDTH
from experiments.verify_theory.table import Row, mean_and_error
from theory import lazy
from toy import language, recall, transformer
from toy.probes import deviation
from toy.recall_problem import RecallProblem

FAMILY = "transformer"
# p(noise) passes alpha / 2 within these steps at every point.
STEPS, SEEDS = 8, 4
# The deviations are of the gradient at the start, for which a small network is enough.
SMALL_WIDTH, SMALL_LENGTH, SMALL_TOKENS, ALPHA = 32, 32, 16, 0.3
DRAWS_FROM = 3


def verify(effort: Effort, seed: int) -> Outcome:
    """Rows and arrays of the family."""
    rows, arrays = _noise_rows(effort, seed)
    more, table = _batch_rows(effort, seed)
    return Outcome(rows + more, {**arrays, "transformer/deviations": table})


def _noise_rows(effort: Effort, seed: int) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Steps to half of the noise, over N and alpha."""
    rows, arrays = [], {}
    for size, alpha in effort.noise_points:
        task = recall.make_task(language.zipf(size), alpha=alpha, length=LENGTH)
        curves = early.foretold(task, alpha, STEPS)
        found = early.trained(task, tuple(range(seed, seed + SEEDS)), STEPS)
        halves = np.array([_half(curve, alpha) for curve in found.T])
        mean, error = mean_and_error(halves)
        rows.append(
            Row(
                FAMILY,
                "steps to half of the noise",
                f"N={size}, alpha={alpha:g}, d={WIDTH}, T={LENGTH}, {SEEDS} seeds",
                _half(curves.noise, alpha),
                float(mean),
                error=float(error),
                tolerance=0.25,
                note="no network at hand; attention neglected",
            )
        )
        arrays[f"transformer/{size}/{alpha:g}/p_noise"] = found
    return rows, arrays


def _half(curve: np.ndarray, alpha: float) -> float:
    """The step at which a curve [steps + 1] first reaches alpha / 2, interpolated."""
    above = int(np.argmax(curve >= alpha / 2))
    if curve[above] < alpha / 2:
        return math.nan
    if above == 0:
        return 0.0
    before, after = curve[above - 1 : above + 1]
    return float(above - 1 + (alpha / 2 - before) / (after - before))


def _batch_rows(effort: Effort, seed: int) -> tuple[list[Row], np.ndarray]:
    """How far the first gradient strays from its mean, over batch sizes."""
    task = recall.make_task(language.zipf(SMALL_TOKENS), alpha=ALPHA, length=SMALL_LENGTH)
    config = transformer.TransformerConfig(task.vocab_size, SMALL_LENGTH, d_model=SMALL_WIDTH)
    rows, table = [], []
    for size in effort.first_batches:
        problem = RecallProblem(task, config, size)
        measure = deviation.measure(effort.first_draws)

        @jax.jit
        def one(key: jax.Array, problem=problem, measure=measure) -> dict[str, jax.Array]:  # type: ignore[no-untyped-def]
            start, data = jax.random.split(key)
            params, frozen = problem.init(start)
            return dict(measure(problem, params, frozen, data))

        keys = [jax.random.key(seed + k) for k in range(DRAWS_FROM)]
        found = [{k: float(v) for k, v in one(key).items()} for key in keys]
        strays = np.array([f["first_step/deviation"] for f in found])
        labels = float(np.mean([f["first_step/labels"] for f in found]))
        mean, error = mean_and_error(strays)
        predicted = lazy.label_deviation(
            alpha=ALPHA,
            num_classes=task.vocab_size,
            num_outputs=task.outputs.size,
            labels=labels,
        )
        rows.append(
            Row(
                FAMILY,
                "deviation of the first gradient",
                f"batch {size}, {labels:.0f} labels, N={SMALL_TOKENS}, d={SMALL_WIDTH}",
                predicted,
                float(mean),
                error=float(error),
                tolerance=0.25,
                note=f"{DRAWS_FROM} starts, {effort.first_draws} batches each; kernels of all "
                "pairs taken as equal",
            )
        )
        table.append([size, labels, mean, error, predicted])
    line = np.array(table)
    slope, _ = np.polyfit(np.log(line[:, 0]), np.log(line[:, 2]), 1)
    rows.append(
        Row(
            FAMILY,
            "exponent of that deviation in the batch",
            f"batch {line[0, 0]:g}..{line[-1, 0]:g}",
            -0.5,
            float(slope),
            tolerance=0.1,
            note=f"{100 / math.sqrt(2 * effort.first_draws * DRAWS_FROM):.0f} % of each deviation "
            "resolved",
        )
    )
    return rows, line
