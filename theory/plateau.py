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

Labels. With K the kernel of two triggers (`theory.lazy`), h = K alpha (1 - alpha), and n coin
flips per step, of weight K each, give sigma^2 = K^2 alpha (1 - alpha) / n. With
dp = alpha (1 - alpha) dz

    variance of p(noise) = eta h alpha (1 - alpha) (1 + mu) / ((1 - mu) n (2 (1 + mu) - eta h)),

close to eta h alpha (1 - alpha) / (2 n (1 - mu)) far from the edge. Regime (heuristic): p near
alpha, all triggers move together, no noise but that of the labels.

Measured on the Transformer: the wander is not the edge of stability. d = T = 64, rate .03,
momentum .9, batch 64, one seed, steps 600 to 1,000: sharpness 13 to 20 where the edge is at 127;
deviation .030, period 9, where h = 15 and n = 700 predict .028 and 9.4. And at the plateau
eta h / (1 - mu) hardly depends on rate or momentum (2.5, 2.7, 2.7 at rates .03, .015, .06 and
momentum .9, 2.6 and 2.1 at .03, .06 and .8; d = T = 32, batch 32, two seeds):
the sharpness adapts to the step, which is why the deviation does not change with the rate. Why
it settles there is not derived here.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from theory import checks


class Wander(NamedTuple):
    """Stationary wander of p(noise).

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
    return 2.0 * (1.0 + momentum) / learning_rate


def wander(
    *,
    sharpness: float,
    learning_rate: float,
    momentum: float,
    alpha: float,
    labels: float | int,
    lags: int = 24,
) -> Wander:
    """What the model predicts from a measured (or predicted) sharpness.

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
    alpha = checks.open_fraction("alpha", alpha)
    if not 0.0 <= momentum < 1.0 or learning_rate <= 0.0 or labels <= 0.0:
        raise ValueError("momentum must lie in [0, 1), learning_rate and labels be positive")
    edge = edge_of_stability(learning_rate, momentum)
    if not 0.0 < sharpness < edge:
        raise ValueError(f"sharpness must lie between 0 and the edge {edge:g}, got {sharpness:g}")
    first = 1.0 + momentum - learning_rate * sharpness
    spread = alpha * (1.0 - alpha)
    variance = learning_rate * sharpness * spread * (1.0 + momentum)
    variance /= (1.0 - momentum) * labels * (2.0 * (1.0 + momentum) - learning_rate * sharpness)
    rings = first**2 < 4.0 * momentum
    period = 2.0 * np.pi / np.arccos(first / (2.0 * np.sqrt(momentum))) if rings else np.inf
    correlation = [1.0, first / (1.0 + momentum)]
    while len(correlation) <= lags:
        correlation.append(first * correlation[-1] - momentum * correlation[-2])
    return Wander(float(np.sqrt(variance)), float(period), np.array(correlation[: lags + 1]))
