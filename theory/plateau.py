"""Why p(noise) wanders once it has reached alpha: momentum rings when labels strike it.

Model. One number, the noise logit z less what it settles at, with curvature h of the loss along
it (an eigenvalue of the Hessian: the sharpness), under heavy ball of rate eta and momentum mu
with gradients that err by xi, independent from step to step, of variance sigma^2:

    v <- mu v - eta (h z + xi),   z <- z + v.

That is an autoregression of order two, z_{t+1} = (1 + mu - eta h) z_t - mu z_{t-1} - eta xi_t,
so, exactly (Box and Jenkins):

- it is stable while h < 2 (1 + mu) / eta, the edge of stability;
- it rings where (1 + mu - eta h)^2 < 4 mu, with period 2 pi / omega,
  cos omega = (1 + mu - eta h) / (2 sqrt mu), about 2 pi / sqrt(eta h) far from the edge;
- autocorrelation rho_1 = (1 + mu - eta h) / (1 + mu), rho_k = (1 + mu - eta h) rho_{k-1}
  - mu rho_{k-2};
- variance eta sigma^2 (1 + mu) / ((1 - mu) h (2 (1 + mu) - eta h)).

Labels. Where the model says what the labels are drawn from, the gradient of one label has mean
zero and covariance G = E[J^T (diag p - p p^T) J], the Gauss-Newton matrix (Fisher's identity);
labels of one sequence do not correlate, because each is fair given what came before. So n labels
a step give sigma^2 = h / n along a direction of curvature h: the variance above becomes

    s(h) = eta (1 + mu) / (n (1 - mu) (2 (1 + mu) - eta h)),

which is eta / (2 n (1 - mu)) in EVERY direction while h is far below the edge: weights wander
alike along all of them, and flat directions only take longer. With g the gradient of p(noise) by
the weights and g_i its components along the directions,

    variance of p(noise) = sum_i g_i^2 s(h_i)   -> eta |g|^2 / (2 n (1 - mu)),        (modes)

and its autocorrelation is the mean of rho_k(h_i) with those weights. No eigenvector is needed:
Lanczos from g gives the few (h_i, g_i^2) that stand for all (toy.sharpness.lanczos).

One mode. If all triggers move together and nothing but the noise logit moves, K the kernel of two
triggers (`theory.lazy`), then h = K alpha (1 - alpha), g^2 = h alpha (1 - alpha), and

    variance of p(noise) = h alpha (1 - alpha) s(h).                                  (one mode)

Over a window. Within W steps the mean of the window is subtracted, and what moves more slowly
than W is not seen: each mode's covariance at lag k loses the variance of that mean,
s(h) sum_{|k| < W} (W - |k|) rho_k / W^2.

Proved: stationary laws of the autoregression, and (modes) for a quadratic loss whose labels are
drawn from the model. Heuristic: that the Transformer's plateau is one, with curvature constant
over the window. Refuted: the edge of stability as its cause (sharpness is 4 to 27 where the edge
is at 60 to 250).

Measured (experiments.plateau: d = T = 32, 18 settings of rate, batch and momentum): what the
labels add to the deviation is 1.02 times (modes) in the mean, 1.16 at worst, a cell being
measured to 6 per cent; one mode is as right in the mean and off by 1.5 at worst. The lag of the
first dip is within 4 per cent of (modes), 12 at worst. Labels replaced by their law leave 5 to 30
per cent of the variance: that is which sequences are drawn, and slow learning.

Not derived: the curvature itself, which adapts. eta h / (1 - mu) stands at 1.1 to 1.8 at batch 16
(3.4 at the largest step), 1.5 to 2.6 at 32 and 2.0 to 3.2 at 64, whatever rate and momentum: that
is why the deviation hardly changes with the rate, and less than as n^(-1/2) with the batch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from truncated_weights.theory import checks


class Wander(NamedTuple):
    """Wander of p(noise).

    Attributes:
      deviation: standard deviation of p(noise).
      period: in steps; inf where it does not ring.
      correlation: autocorrelation at lags 0, 1, 2, ...

    """

    deviation: float
    period: float
    correlation: Float[np.ndarray, " lags"]


def edge_of_stability(learning_rate: float, momentum: float) -> float:
    """Largest curvature at which heavy ball is stable: 2 (1 + mu) / eta."""
    momentum = checks.below_one("momentum", momentum)
    return 2.0 * (1.0 + momentum) / checks.positive("learning_rate", learning_rate)


def wander(
    *,
    sharpness: float,
    learning_rate: float,
    momentum: float,
    alpha: float,
    labels: float | int,
    lags: int = 24,
) -> Wander:
    """What one mode predicts from a measured (or predicted) sharpness, ever watched.

    Args:
      sharpness: h, between 0 and the edge of stability.
      learning_rate: eta.
      momentum: mu, in [0, 1).
      alpha: probability of the noise label.
      labels: n, scored positions per batch.
      lags: how many autocorrelations after the zeroth.

    Raises:
      ValueError: where the curvature is not stable, or as the arguments' bounds say.

    """
    alpha, lags = checks.open_fraction("alpha", alpha), checks.at_least("lags", lags, 0)
    sharpness = checks.number("sharpness", sharpness)
    curvatures = np.array([sharpness])
    _refuse("sharpness", curvatures, learning_rate, momentum, labels)
    variance = _variance(curvatures, learning_rate, momentum, labels)[0]
    first = 1.0 + momentum - learning_rate * sharpness
    rings = first**2 < 4.0 * momentum
    period = 2.0 * np.pi / np.arccos(first / (2.0 * np.sqrt(momentum))) if rings else np.inf
    return Wander(
        float(np.sqrt(sharpness * alpha * (1.0 - alpha) * variance)),
        float(period),
        _correlation(curvatures, learning_rate, momentum, lags)[:, 0],
    )


def wander_of_modes(
    curvatures: Float[np.ndarray, " modes"] | Sequence,
    weights: Float[np.ndarray, " modes"] | Sequence,
    *,
    learning_rate: float,
    momentum: float,
    labels: float | int,
    window: int,
    lags: int = 24,
) -> Wander:
    """What all directions together predict, as a window of so many steps shows it.

    Args:
      curvatures: h_i, positive and below the edge of stability.
      weights: g_i^2, squared components of the gradient of p(noise).
      learning_rate: eta.
      momentum: mu, in [0, 1).
      labels: n, scored positions per batch.
      window: W, steps over which deviation and correlation are taken; more than `lags`.
      lags: how many autocorrelations after the zeroth.

    Raises:
      ValueError: where a curvature is not stable, or as the arguments' bounds say.

    """
    window = checks.at_least("window", window, checks.at_least("lags", lags, 0) + 1)
    curvatures = checks.numbers("curvatures", curvatures, None)
    _refuse("curvatures", curvatures, learning_rate, momentum, labels)
    weights = checks.numbers("weights", weights, curvatures.size)
    if np.any(weights < 0.0) or not np.any(weights > 0.0):
        raise ValueError("weights must not be negative, nor all zero")
    power = weights * _variance(curvatures, learning_rate, momentum, labels)
    correlation = _correlation(curvatures, learning_rate, momentum, window - 1)
    share = np.where(np.arange(window) == 0, 1.0, 2.0) * (window - np.arange(window)) / window**2
    seen = (correlation[: lags + 1] - share @ correlation) @ power
    found = seen / seen[0]
    return Wander(float(np.sqrt(seen[0])), 2.0 * first_dip(found), found)


def observed(series: Float[np.ndarray, "runs steps"] | Sequence, *, lags: int = 24) -> Wander:
    """The same figures of watched series, their own means subtracted; runs weigh the same."""
    series = checks.numbers("series", series, None, None)
    checks.at_least("runs of series", series.shape[0], 1)
    checks.at_least("steps of series", series.shape[1], checks.at_least("lags", lags, 0) + 1)
    away = series - series.mean(axis=1, keepdims=True)
    steps = away.shape[1]
    covariance = np.array(
        [np.mean(away[:, lag:] * away[:, : steps - lag]) for lag in range(lags + 1)]
    )
    found = covariance / max(covariance[0], np.finfo(np.float64).tiny)
    return Wander(float(np.sqrt(covariance[0])), 2.0 * first_dip(found), found)


def deviation_error(wander: Wander, steps: int) -> float:
    """Standard error of a deviation measured over so many steps of a Gaussian series (Bartlett).

    Neighbouring steps are alike, so that they count as steps / (sum over all lags of rho^2). Zero
    for a series that does not move.
    """
    steps = checks.at_least("steps", steps, 1)
    alike = max(2.0 * float(np.sum(wander.correlation**2)) - 1.0, 0.0)
    return wander.deviation * float(np.sqrt(alike / (2.0 * steps)))


def first_dip(correlation: Float[np.ndarray, " lags"] | Sequence) -> float:
    """Lag of the first local minimum of an autocorrelation, by a parabola; inf without one.

    Half of the period of what rings at one frequency and dies out slowly; less where it dies fast.
    """
    correlation = checks.numbers("correlation", correlation, None)
    inner = (correlation[1:-1] < correlation[:-2]) & (correlation[1:-1] <= correlation[2:])
    if not inner.any():
        return float("inf")
    lag = 1 + int(np.argmax(inner))
    before, here, after = correlation[lag - 1 : lag + 2]
    return lag + 0.5 * float((before - after) / (before - 2.0 * here + after))


def _refuse(
    name: str,
    curvatures: Float[np.ndarray, " modes"],
    rate: float,
    momentum: float,
    labels: float | int,
) -> None:
    checks.positive("labels", labels)
    edge = edge_of_stability(rate, momentum)
    if not (np.all(curvatures > 0.0) and np.all(curvatures < edge)):
        worst = curvatures[np.argmax(np.abs(curvatures - edge / 2.0))]
        raise ValueError(f"{name} must lie between 0 and the edge {edge:g}, got {worst:g}")


def _variance(
    curvatures: Float[np.ndarray, " modes"], rate: float, momentum: float, labels: float | int
) -> Float[np.ndarray, " modes"]:
    """s(h) of the module's docstring."""
    room = 2.0 * (1.0 + momentum) - rate * curvatures
    return rate * (1.0 + momentum) / ((1.0 - momentum) * labels * room)


def _correlation(
    curvatures: Float[np.ndarray, " modes"], rate: float, momentum: float, lags: int
) -> Float[np.ndarray, "lags_1 modes"]:
    """rho_k(h) at lags 0, ..., lags."""
    first = 1.0 + momentum - rate * curvatures
    found = [np.ones_like(first), first / (1.0 + momentum)]
    while len(found) <= lags:
        found.append(first * found[-1] - momentum * found[-2])
    return np.array(found[: lags + 1])
