"""Laws of a sweep over the two-layer Transformer: half time of the noise, first step, batch size.

Predictions neglect attention and finite width (theory/lazy), so that rows of networks have a
tolerance beside the standard error over seeds. The law of batches of labels is also sampled by
itself, where it is exact.
"""

import math

import jax
import numpy as np
import xarray as xr

from truncated_weights.experiments.verify_theory.effort import Effort, Outcome, at
from truncated_weights.experiments.verify_theory.families import early
from truncated_weights.experiments.verify_theory.families.early import LENGTH, WIDTH
from truncated_weights.experiments.verify_theory.table import (
    Row,
    deviation_and_error,
    mean_and_error,
)
from truncated_weights.theory import lazy
from truncated_weights.toy import language, recall, transformer
from truncated_weights.toy.probes import deviation
from truncated_weights.toy.recall_problem import RecallProblem
from truncated_weights.training.records import Name, Records, labelled, name

FAMILY = "transformer"
# p(noise) passes alpha / 2 within these steps at every point.
STEPS = 8
# The deviations are of the gradient at the start, for which a small network is enough.
SMALL_WIDTH, SMALL_LENGTH, SMALL_TOKENS, ALPHA = 32, 32, 16, 0.3
STARTS = 8
MEASURED = ("deviation", "labels")
# Labels by themselves: classes, outputs, labels of a batch, noise tokens.
LABELS = ((8, 5, 40, 1), (12, 4, 20, 2))


def simulate(effort: Effort, seed: int) -> Records:
    """p(noise) over first steps; deviations of the first gradient; of labels alone."""
    noise, first = {}, {}
    seeds = tuple(range(seed, seed + effort.lazy_seeds))
    for size, alpha in effort.noise_points:
        task = recall.make_task(language.zipf(size), alpha=alpha, length=LENGTH)
        curves = early.trained(task, seeds, STEPS)
        noise[name("p_noise", "step", "network", size=size, alpha=alpha)] = curves
    for size in effort.first_batches:
        for variable, values in zip(MEASURED, _first_gradients(effort, size, seed), strict=True):
            first[name(variable, "start", batch=size)] = values
    rng = np.random.default_rng(seed)
    along = [_labels(rng, effort.label_draws // 4, *case) for case in LABELS]
    cases = zip(("classes", "outputs", "labels", "noises"), zip(*LABELS, strict=True), strict=True)
    labels = {"along": (("case", "draw"), np.array(along))}
    return Records(
        {
            "transformer_noise": labelled(noise, {}),
            "transformer_first": labelled(first, {}),
            "transformer_labels": xr.Dataset(
                labels | {kind: ("case", list(n)) for kind, n in cases}
            ),
        }
    )


def judge(effort: Effort, found: Records) -> Outcome:
    """Rows of the family."""
    return Outcome(_noise_rows(effort, found) + _batch_rows(effort, found))


def _noise_rows(effort: Effort, found: Records) -> list[Row]:
    """Steps to half of the noise, over N and alpha."""
    rows = []
    for size, alpha in effort.noise_points:
        task = recall.make_task(language.zipf(size), alpha=alpha, length=LENGTH)
        curves = early.foretold(task, alpha, STEPS)
        networks = at(found.transformer_noise, size=size, alpha=alpha).p_noise.values
        mean, error = mean_and_error(np.array([_half(curve, alpha) for curve in networks.T]))
        rows.append(
            Row(FAMILY, "steps to half of the noise",
                f"N={size}, alpha={alpha:g}, d={WIDTH}, T={LENGTH}, {networks.shape[1]} seeds",
                _half(curves.noise, alpha), float(mean), error=float(error), tolerance=0.25,
                samples=networks.shape[1], note="no network at hand; attention neglected")
        )  # fmt: skip
    return rows


def _half(curve: np.ndarray, alpha: float) -> float:
    """The step at which a curve [steps + 1] first reaches alpha / 2, interpolated."""
    above = int(np.argmax(curve >= alpha / 2))
    if curve[above] < alpha / 2:
        return math.nan
    if above == 0:
        return 0.0
    before, after = curve[above - 1 : above + 1]
    return float(above - 1 + (alpha / 2 - before) / (after - before))


def _first_gradients(effort: Effort, size: int, seed: int) -> np.ndarray:
    """Deviation of the first gradient and labels of a batch, [2, starts]."""
    task = recall.make_task(language.zipf(SMALL_TOKENS), alpha=ALPHA, length=SMALL_LENGTH)
    config = transformer.TransformerConfig(task.vocab_size, SMALL_LENGTH, d_model=SMALL_WIDTH)
    problem = RecallProblem(task, config, size)
    measure = deviation.measure(effort.first_draws)

    @jax.jit
    def one(key: jax.Array) -> dict[Name, jax.Array]:
        start, data = jax.random.split(key)
        params, frozen = problem.init(start)
        return dict(measure(problem, params, frozen, data))

    found = [one(jax.random.key(seed + k)) for k in range(STARTS)]
    return np.array([[float(f[name(variable)]) for f in found] for variable in MEASURED])


def _labels(
    rng: np.random.Generator, draws: int, classes: int, outputs: int, labels: int, noises: int
) -> np.ndarray:
    """Mean residual of batches of labels along its own mean, noise tokens first, then outputs.

    The correct outputs of a batch are the same ones in turn: only which labels are noise varies.
    """
    noisy = rng.random((draws, labels)) < ALPHA
    count = np.zeros((draws, classes))
    turn = np.arange(labels)
    for k in range(noises):
        count[:, k] = noisy[:, turn % noises == k].sum(axis=1)
    for k in range(outputs):
        count[:, noises + k] = (~noisy)[:, turn % outputs == k].sum(axis=1)
    residual = count / labels - 1 / classes
    return residual @ residual.mean(axis=0)


def _batch_rows(effort: Effort, found: Records) -> list[Row]:
    """How far the first gradient strays from its mean, over batch sizes."""
    rows, table = [], []
    for case, (classes, outputs, labels, noises) in enumerate(LABELS):
        along = found.transformer_labels.along.isel(case=case).values
        spread, error = deviation_and_error(along)
        rows.append(
            Row(FAMILY, "deviation of labels alone",
                f"V={classes}, K={outputs}, n={labels}, {noises} noise, {len(along)} batches",
                lazy.label_deviation(alpha=ALPHA, num_classes=classes, num_outputs=outputs,
                                     labels=float(labels), num_noise=noises),
                float(spread / along.mean()), error=float(error / along.mean()),
                tolerance=0.003 * float(spread / along.mean()))
        )  # fmt: skip
    task = recall.make_task(language.zipf(SMALL_TOKENS), alpha=ALPHA, length=SMALL_LENGTH)
    for size in effort.first_batches:
        first = at(found.transformer_first, batch=size)
        scored = float(np.mean(first.labels.values))
        mean, error = mean_and_error(first.deviation.values)
        predicted = lazy.label_deviation(
            alpha=ALPHA,
            num_classes=task.vocab_size,
            num_outputs=task.outputs.size,
            labels=scored,
        )
        rows.append(
            Row(FAMILY, "deviation of the first gradient",
                f"batch {size}, {scored:.0f} labels, N={SMALL_TOKENS}, d={SMALL_WIDTH}", predicted,
                float(mean), error=float(error), tolerance=0.05 * float(mean), samples=STARTS,
                note=f"{STARTS} starts, {effort.first_draws} batches each; kernels of all pairs "
                "taken as equal")
        )  # fmt: skip
        table.append([size, mean, error])
    line = np.array(table)
    if len(line) > 1:
        fit, covariance = np.polyfit(
            np.log(line[:, 0]), np.log(line[:, 1]), 1, w=line[:, 1] / line[:, 2], cov="unscaled"
        )
        rows.append(
            Row(FAMILY, "exponent of that deviation in the batch",
                f"batch {line[0, 0]:g}..{line[-1, 0]:g}", -0.5, float(fit[0]),
                error=float(math.sqrt(covariance[0, 0])), samples=STARTS)
        )  # fmt: skip
    return rows
