"""The wander of p(noise) after recall has come, against the model of theory/plateau.py.

The model itself is simulated: heavy balls struck by drawn labels, in one direction and in several.
And a small network is trained past recall, its curvature measured, and p(noise) watched: as ever,
with every label replaced by the law it is drawn from, and in the end without its second
feed-forward.
"""

import math

import numpy as np
import xarray as xr

from truncated_weights.experiments.verify_theory.effort import Effort, Outcome, at
from truncated_weights.experiments.verify_theory.table import Row, deviation_and_error, worst
from truncated_weights.theory import plateau
from truncated_weights.toy import language, recall, transformer
from truncated_weights.toy.probes import wander
from truncated_weights.toy.recall_problem import RecallProblem
from truncated_weights.training import records
from truncated_weights.training.records import Name, Records

FAMILY = "plateau"
WIDTH, LENGTH, TOKENS, ALPHA = 32, 32, 16, 0.5
SETTLING, WATCHED, LAGS = 500, 400, 24
# Until recall has come and the noise sits in the second feed-forward: steps times
# rate / (1 - momentum), which is 500 steps of the default rate and momentum.
LEARNED = 150.0
# Heavy balls: (rate, momentum, labels, noise) of one direction and the sharpness; of several.
BALL = dict(learning_rate=0.03, momentum=0.9, labels=50)
BALL_SHARPNESS, BALL_ALPHA, BALL_LAGS, BALL_SETTLING = 15.0, 0.3, 12, 300
CURVATURES, WEIGHTS = np.array([1.0, 15.0, 60.0]), np.array([0.01, 0.02, 0.005])
# A short window, in which slow directions are hardly seen, and a long one for errors.
WINDOW, LONG, MODES_SETTLING, EDGE_STEPS = 40, 120, 800, 400


def simulate(effort: Effort, seed: int) -> Records:
    """p(noise) of networks, and of heavy balls."""
    task = recall.make_task(language.zipf(TOKENS), alpha=ALPHA, length=LENGTH)
    config = transformer.TransformerConfig(task.vocab_size, LENGTH, d_model=WIDTH)
    cells: dict[Name, np.ndarray] = {}
    watchers: dict[int, wander.Watcher] = {}
    for rate, batch, momentum in effort.plateau_cells:
        if batch not in watchers:
            watchers[batch] = wander.Watcher(RecallProblem(task, config, batch))
        seeds = range(seed, seed + effort.plateau_seeds)
        found = _watch(watchers[batch], rate, momentum, seeds)
        found[records.name("scored")] = np.array(watchers[batch].labels())
        here = {"rate": rate, "batch": batch, "momentum": momentum}
        cells |= {key.within(**here): value for key, value in found.items()}
    return Records(
        {
            "plateau": records.labelled(cells, {}),
            "plateau_balls": _balls(effort.balls, seed).assign(edge=_edge()),
        }
    )


def judge(effort: Effort, found: Records) -> Outcome:
    """Rows of the family."""
    rows = _ball_rows(found.plateau_balls)
    for rate, batch, momentum in effort.plateau_cells:
        cell = at(found.plateau, rate=rate, batch=batch, momentum=momentum)
        setting = f"d={WIDTH}, T={LENGTH}, rate {rate:g}, batch {batch}, momentum {momentum:g}"
        rows += _rows(cell, rate, momentum, float(cell.scored), setting)
    return Outcome(rows)


def _balls(count: int, seed: int) -> xr.Dataset:
    """Heavy balls at rest but for the labels that strike them: values at the last steps.

    one: [steps, balls], p(noise) less alpha of the single direction. many: [runs, LONG], of
    several directions with Gaussian strikes of the covariance that labels have.
    """
    rng = np.random.default_rng(seed)
    rate, momentum, labels = BALL["learning_rate"], BALL["momentum"], int(BALL["labels"])
    spread = BALL_ALPHA * (1 - BALL_ALPHA)
    z, v, kept = np.zeros(count), np.zeros(count), []
    for _ in range(BALL_SETTLING):
        share = rng.binomial(labels, BALL_ALPHA, count) / labels
        # The residual of the noise logit z is share - p, p = alpha + spread z to first order, and
        # one kernel carries it to the logit: kernel * spread is the curvature.
        v = momentum * v + rate * BALL_SHARPNESS / spread * (share - BALL_ALPHA - spread * z)
        z = z + v
        kept.append(spread * z)
    one = np.array(kept[-BALL_LAGS - 1 :])
    runs = count // 10
    x, v, path = np.zeros((runs, 3)), np.zeros((runs, 3)), []
    for _ in range(MODES_SETTLING + LONG):
        strike = np.sqrt(CURVATURES / labels) * rng.normal(size=(runs, 3))
        v = momentum * v - rate * (CURVATURES * x + strike)
        x = x + v
        path.append(x @ np.sqrt(WEIGHTS))
    many = (("run", "step"), np.array(path[-LONG:]).T)
    return xr.Dataset({"one": (("last", "ball"), one), "many": many})


def _autocorrelation(series: np.ndarray) -> np.ndarray:
    """At lags 0 to BALL_LAGS, of runs [runs, steps] less their own means."""
    away, steps = series - series.mean(axis=1, keepdims=True), series.shape[1]
    found = [np.mean(away[:, k:] * away[:, : steps - k]) for k in range(BALL_LAGS + 1)]
    return np.array(found) / found[0]


def _edge() -> float:
    """Sharpness at which a heavy ball let go no longer comes to rest, by halving an interval."""
    rate, momentum = BALL["learning_rate"], BALL["momentum"]
    low, high = 1.0, 1000.0
    for _ in range(40):
        middle, z, v = (low + high) / 2, 1.0, 0.0
        for _ in range(EDGE_STEPS):
            v = momentum * v - rate * middle * z
            z = z + v
            if abs(z) > 1e6:
                break
        low, high = (middle, high) if abs(z) < 10.0 else (low, middle)
    return low


def _ball_rows(found: xr.Dataset) -> list[Row]:
    rate, momentum = BALL["learning_rate"], BALL["momentum"]
    one, whole = found.one.values, found.many.values
    many = whole[:, -WINDOW:]
    alone = plateau.wander(sharpness=BALL_SHARPNESS, alpha=BALL_ALPHA, lags=BALL_LAGS, **BALL)
    setting = f"h={BALL_SHARPNESS:g}, rate {rate:g}, momentum {momentum:g}, {one.shape[1]} balls"
    deviation, error = deviation_and_error(one[-1])
    # Autocorrelation at each lag before the last step, and the period that its roots have.
    products = one[::-1] * one[-1] / np.mean(one[-1] ** 2)
    correlation, spread = products.mean(axis=1), products.std(axis=1) / math.sqrt(one.shape[1])
    # rho_2 = first rho_1 - momentum: the turn per step has cosine first / (2 sqrt momentum).
    first = (correlation[2] + momentum) / correlation[1]
    period = 2 * math.pi / math.acos(first / (2 * math.sqrt(momentum)))
    modes = plateau.wander_of_modes(CURVATURES, WEIGHTS, window=WINDOW, lags=BALL_LAGS, **BALL)
    variances = many.var(axis=1)
    seen = math.sqrt(variances.mean())
    seen_error = variances.std(ddof=1) / math.sqrt(len(variances)) / (2 * seen)
    seen_correlation, correlated = _autocorrelation(many), _autocorrelation(whole)
    low = next(
        k for k in range(1, BALL_LAGS) if correlated[k - 1] > correlated[k] <= correlated[k + 1]
    )
    bend = correlated[low - 1] - 2 * correlated[low] + correlated[low + 1]
    dip = low + 0.5 * (correlated[low - 1] - correlated[low + 1]) / bend
    slow = plateau.wander_of_modes(CURVATURES, WEIGHTS, window=LONG, lags=BALL_LAGS, **BALL)
    watched = plateau.observed(whole, lags=BALL_LAGS)
    long = plateau.observed(whole, lags=LONG // 2)
    several = f"three directions, window {WINDOW}, {len(many)} runs"
    longer = f"three directions, {LONG} steps, {len(whole)} runs"
    each = whole.std(axis=1)
    alike = each.std(ddof=1)
    edge = float(found.edge)
    return [
        Row(FAMILY, "deviation of a heavy ball", setting, alone.deviation, deviation, error=error),
        worst(FAMILY, "autocorrelation of a heavy ball", setting, alone.correlation, correlation,
              spread, tolerance=1e-3, note="lags 0 to 12"),
        Row(FAMILY, "period of a heavy ball", setting, alone.period, period,
            tolerance=0.02 * period),
        Row(FAMILY, "edge of stability", f"rate {rate:g}, momentum {momentum:g}",
            plateau.edge_of_stability(rate, momentum), edge, tolerance=0.01 * edge,
            note=f"{EDGE_STEPS} steps"),
        Row(FAMILY, "deviation as a window shows it", several, modes.deviation, seen,
            error=seen_error),
        worst(FAMILY, "autocorrelation as a window shows it", several, modes.correlation,
              seen_correlation, tolerance=0.02),
        Row(FAMILY, "lag of the first dip", longer, slow.period / 2, dip, tolerance=0.03 * dip),
        Row(FAMILY, "deviation, as observed", longer, watched.deviation,
            math.sqrt(whole.var(axis=1).mean()), tolerance=1e-9),
        worst(FAMILY, "autocorrelation, as observed", longer, watched.correlation, correlated,
              tolerance=1e-9),
        Row(FAMILY, "first dip, as observed", longer, watched.period / 2, dip, tolerance=1e-6),
        Row(FAMILY, "error of a deviation of one run",
            longer,
            plateau.deviation_error(long, LONG), float(alike), tolerance=0.12 * float(alike),
            note="Bartlett; lags to half of the window"),
    ]  # fmt: skip


def _watch(
    watcher: wander.Watcher, rate: float, momentum: float, seeds: range
) -> dict[Name, np.ndarray]:
    """p(noise) [seeds, steps], drawn and fair; sharpness [seeds, 2]; modes [seeds, nodes]."""
    found: dict[Name, list[np.ndarray]] = {}
    drawn = wander.Numbers(rate, momentum)
    for seed in seeds:
        settling = max(SETTLING, math.ceil(LEARNED * (1 - momentum) / rate))
        settled = watcher.advance(watcher.start(seed), drawn, seed, settling)
        after, here = watcher.watch(settled, drawn, seed, WATCHED)
        _, fair = watcher.watch(settled, drawn._replace(fair=1.0), seed, WATCHED)
        # At both ends of what is compared: the curvature falls under way.
        bent = [watcher.curvature(state) for state in (settled, after)]
        for key, value in (
            (records.name("p_noise", "seed", "step", labels="drawn"), here),
            (records.name("p_noise", "seed", "step", labels="fair"), fair),
            (records.name("p_noise_cut", "seed"), watcher.p_noise(after, "1.fc_out")),
            (records.name("sharpness", "seed", "end"), [float(b.sharpness) for b in bent]),
            (records.name("curvature", "seed", "mode"),
             np.concatenate([b.modes.curvatures for b in bent])),
            (records.name("weight", "seed", "mode"),
             np.concatenate([b.modes.weights for b in bent]) / len(bent)),
        ):  # fmt: skip
            found.setdefault(key, []).append(np.asarray(value, np.float64))
    return {key: np.array(values) for key, values in found.items()}


def _rows(
    found: xr.Dataset, rate: float, momentum: float, labels: float, setting: str
) -> list[Row]:
    sharp, edge = found.sharpness.values, plateau.edge_of_stability(rate, momentum)
    # A single network's curvature changes by a factor of two or three within the window.
    note = f"sharpness {sharp.min():.3g} to {sharp.max():.3g}, edge of stability {edge:.3g}"
    curvatures = found.curvature.values.ravel()
    drawn, settled = found.p_noise.sel(labels=["drawn", "fair"]).values
    expected = plateau.wander_of_modes(
        np.maximum(curvatures, 1e-6 * curvatures.max()),
        found.weight.values.ravel() / found.sizes["seed"],
        learning_rate=rate,
        momentum=momentum,
        labels=labels,
        window=WATCHED,
        lags=LAGS,
    )
    seen = plateau.observed(drawn, lags=LAGS)
    fair = plateau.observed(settled, lags=LAGS)
    error = plateau.deviation_error(seen, drawn.size)
    made = float(np.sqrt(max(seen.deviation**2 - fair.deviation**2, 0.0)))
    dip = seen.period / 2
    return [
        Row(FAMILY, "deviation of p(noise) that labels make", setting, expected.deviation, made,
            error=error, tolerance=0.16 * made, note=f"quadratic about where it is; {note}"),
        Row(FAMILY, "lag of the first dip of a network", setting, expected.period / 2, dip,
            tolerance=0.35 * dip, note=f"goes like the root of the sharpness; {note}"),
        Row(FAMILY, "share of the variance that is no label noise", setting, 0.0,
            (fair.deviation / seen.deviation) ** 2, tolerance=0.3,
            note="labels replaced by their law"),
        Row(FAMILY, "p(noise) without the second feed-forward", setting, 0.0,
            float(found.p_noise_cut.mean()), tolerance=0.1, note="the noise is in that layer"),
        Row(FAMILY, "p(noise)", setting, ALPHA, float(drawn.mean()), error=error,
            tolerance=0.03, note="alpha; clean sequences, recall not finished"),
    ]  # fmt: skip
