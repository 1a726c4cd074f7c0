"""The wander of p(noise) after recall has come, against the model of theory/plateau.py.

A small network is trained past recall, its curvature measured, and p(noise) watched: as ever,
with every label replaced by the law it is drawn from, and in the end without its second
feed-forward.
"""

import math

import numpy as np

from experiments.verify_theory.effort import Effort, Outcome
from experiments.verify_theory.table import Row
from theory import plateau
from toy import language, recall, transformer
from toy.probes import wander
from toy.recall_problem import RecallProblem

FAMILY = "plateau"
WIDTH, LENGTH, TOKENS, ALPHA = 32, 32, 16, 0.5
SETTLING, WATCHED, LAGS = 500, 400, 24
# Until recall has come and the noise sits in the second feed-forward: steps times
# rate / (1 - momentum), which is 500 steps of the default rate and momentum.
LEARNED = 150.0


def verify(effort: Effort, seed: int) -> Outcome:
    """Rows and arrays of the family."""
    task = recall.make_task(language.zipf(TOKENS), alpha=ALPHA, length=LENGTH)
    config = transformer.TransformerConfig(task.vocab_size, LENGTH, d_model=WIDTH)
    rows: list[Row] = []
    arrays: dict[str, np.ndarray] = {}
    watchers: dict[int, wander.Watcher] = {}
    for rate, batch, momentum in effort.plateau_cells:
        if batch not in watchers:
            watchers[batch] = wander.Watcher(RecallProblem(task, config, batch))
        seeds = range(seed, seed + effort.plateau_seeds)
        found = _watch(watchers[batch], rate, momentum, seeds)
        setting = f"d={WIDTH}, T={LENGTH}, rate {rate:g}, batch {batch}, momentum {momentum:g}"
        rows += _rows(found, rate, momentum, watchers[batch].labels(), setting)
        name = f"plateau/{rate:g}/{batch}/{momentum:g}"
        arrays |= {f"{name}/{key}": value for key, value in found.items()}
    return Outcome(rows, arrays)


def _watch(
    watcher: wander.Watcher, rate: float, momentum: float, seeds: range
) -> dict[str, np.ndarray]:
    """p(noise) [seeds, steps], drawn and fair; sharpness [seeds, 2]; modes [seeds, nodes]."""
    found: dict[str, list[np.ndarray]] = {}
    drawn = wander.Numbers(rate, momentum)
    for seed in seeds:
        settling = max(SETTLING, math.ceil(LEARNED * (1 - momentum) / rate))
        settled = watcher.advance(watcher.start(seed), drawn, seed, settling)
        after, here = watcher.watch(settled, drawn, seed, WATCHED)
        _, fair = watcher.watch(settled, drawn._replace(fair=1.0), seed, WATCHED)
        # At both ends of what is compared: the curvature falls under way.
        bent = [watcher.curvature(state) for state in (settled, after)]
        for key, value in (
            ("drawn", here), ("fair", fair), ("cut", watcher.p_noise(after, "1.fc_out")),
            ("sharpness", [float(b.sharpness) for b in bent]),
            ("curvatures", np.concatenate([b.modes.curvatures for b in bent])),
            ("weights", np.concatenate([b.modes.weights for b in bent]) / len(bent)),
        ):  # fmt: skip
            found.setdefault(key, []).append(np.asarray(value, np.float64))
    return {key: np.array(values) for key, values in found.items()}


def _rows(
    found: dict[str, np.ndarray], rate: float, momentum: float, labels: float, setting: str
) -> list[Row]:
    sharp, edge = found["sharpness"], plateau.edge_of_stability(rate, momentum)
    # A single network's curvature changes by a factor of two or three within the window.
    note = f"sharpness {sharp.min():.3g} to {sharp.max():.3g}, edge of stability {edge:.3g}"
    curvatures = found["curvatures"].ravel()
    expected = plateau.wander_of_modes(
        np.maximum(curvatures, 1e-6 * curvatures.max()),
        found["weights"].ravel() / len(found["weights"]),
        learning_rate=rate,
        momentum=momentum,
        labels=labels,
        window=WATCHED,
        lags=LAGS,
    )
    seen = plateau.observed(found["drawn"], lags=LAGS)
    fair = plateau.observed(found["fair"], lags=LAGS)
    error = plateau.deviation_error(seen, found["drawn"].size)
    rows = [
        Row(FAMILY, "deviation of p(noise) that labels make", setting, expected.deviation,
            float(np.sqrt(max(seen.deviation**2 - fair.deviation**2, 0.0))),
            error=error, tolerance=0.35, note=note),
        Row(FAMILY, "lag of the first dip", setting, expected.period / 2, seen.period / 2,
            tolerance=0.5, note=f"goes like the root of the sharpness; {note}"),
        Row(FAMILY, "one plus share of the variance that is no label noise", setting, 1.0,
            1.0 + (fair.deviation / seen.deviation) ** 2, tolerance=0.25,
            note="labels replaced by their law"),
        Row(FAMILY, "one plus p(noise) without the second feed-forward", setting, 1.0,
            1.0 + float(found["cut"].mean()), tolerance=0.15, note="the noise is in that layer"),
        Row(FAMILY, "p(noise)", setting, ALPHA, float(found["drawn"].mean()), error=error,
            tolerance=0.15, note="alpha; clean sequences, recall not finished"),
    ]  # fmt: skip
    return rows
