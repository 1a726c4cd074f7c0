"""When the noise and when the attention are learned: a reduced gradient flow.

HEURISTIC, unlike the rest of this package: a closed system of nine ordinary
differential equations for the symmetric part of the joint gradient flow of F, V
and W in the simplified model of `theory.first_step`, uniform language. It keeps
leading orders in 1/N, takes T much larger than N, replaces every sequence by
the average one given its ybar, and drops couplings named below. What follows
from it is stated as scaling laws; their agreement with training is measured,
not proved.

State. Attention splits into three masses, on correct tokens after a trigger
(A_c), on noise tokens after a trigger (A_n) and on the rest: with w the score
of the key etilde(q) and y that of an ordinary key e(k) above e(tau),

    A_c = (1 - alpha) e^w / Z,  A_n = alpha e^(w - y) / Z,
    Z = N - 1 + (1 - alpha) e^w + alpha e^(w - y),   A = A_c + A_n.

The logits are, for the classes g = tau, outputs, q and with v = V_kk - V_kj the
strength of copying,

    (1 + 3/N) h_g + A m_g + v (A_c 1{correct} + (1 - A)/N 1{output}).

h_g is what F has learned at e(q), the integral of the mean residual of class g;
1/N of it again comes from F at etilde(z_{T-1}) and 2/N from V through the
overlap of two average feature vectors; m_g is V at etilde(q). With residuals
r_c = 1 - alpha - p_c (correct), r_o = -p_o (another output), r_tau = alpha - p_tau,
r_q = -p_q and rbar_g their means over ybar,

    h_g' = rbar_g,   m_g' = A rbar_g,   v' = (A_c / (N - 1)) (r_c - r_o),
    w' = A_c (g_c - gbar) + A_n (g_n - gbar),
    y' = A_c (g_c - gbar) / (N - 1) - A_n (g_n - gbar),

where g_n = sum_g r_g m_g, g_c = g_n + v r_c, the rest gains
g_b = v (r_c + (N - 2) r_o) / N and gbar is the average of the three by mass.
Dropped: query features other than e(q), differences among key features of the
rest, correlations of attention with the sequence.

Scaling laws, N large, learning rate times steps as time:

- p(noise) = alpha / 2. While nothing else is learned, the noise logit L obeys
  L' = alpha - e^L / (N + e^L), which integrates to

      t_noise = (1/alpha) (log(alpha N / (2 - alpha)) + log(2 - alpha) / (1 - alpha)).

- A_c = 1/2. While A is small, A_c = ((1 - alpha)/N) e^w and r_c = 1 - alpha give
  dw/dv = N v, so w = N v^2 / 2 and v' = ((1 - alpha)/N)^2 e^(N v^2 / 2), which
  reaches any w of order log N at the same leading time

      t_attention = sqrt(pi/2) N^(3/2) / (1 - alpha)^2.

  (Copying feeds attention and attention feeds copying: the Gaussian integral is
  a finite-time blow-up, and no logarithm of N survives.)

Hence their ratio grows like N^(3/2) / log N.

Any trigger. A trigger of frequency f with K possible outputs has A_c = f (1 - alpha) e^w while A
is small; the two equations that feed each other are

    v' = f (1 - alpha)^2 e^w / K,   w' = f (1 - alpha)^2 v e^w,                            (pair)

with w = K v^2 / 2, and a score w is reached at

    t = sqrt(pi K / 2) erf(sqrt(w)) / (f (1 - alpha)^2)                       (`take_over_time`)

exactly for (pair). N = K = 1 / f, w -> infinity is t_attention above. A network descends with
momentum mu, whose velocity lags behind the gradient by mu / (1 - mu) steps at each of the two
links. `take_over_steps` iterates (pair) with it and with A_c / (1 - A_c) = e^w times its value at
the start. Over K = 7 to 63, f = .05 to .23, mu = .9 its steps are t0 + C sqrt(K) / f within
2 to 3 %, t0 = 18, C = 2.4 at the SPEED below: the offset is the lag's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.integrate import solve_ivp
from scipy.special import erf

from truncated_weights.theory import checks

State = Float[np.ndarray, " 9"]
Vector = Float[np.ndarray, " _"]

NOISE, OUTPUT, TRIGGER = range(3)
# Of (pair) in the two-layer Transformer: the scale of its features, chosen so that its steps have
# the slope in sqrt(K) / f that was measured (d = T = 64, alpha = .3). Not derived.
SPEED = 4.0


class Curves(NamedTuple):
    """The reduced flow over time.

    Attributes:
      p_noise: probability of the noise token on noisy test sequences.
      attention_correct: A_c, the attention mass on correct tokens.
      attention_noise: A_n.
      feed_forward_margin: part of the noise-minus-correct logit margin written by F.
      attention_margin: the part written by the attention, through V.

    """

    p_noise: Float[np.ndarray, " n"]
    attention_correct: Float[np.ndarray, " n"]
    attention_noise: Float[np.ndarray, " n"]
    feed_forward_margin: Float[np.ndarray, " n"]
    attention_margin: Float[np.ndarray, " n"]


class Times(NamedTuple):
    """Times of half learning, learning rate times steps, and their ratio."""

    noise: float
    attention: float
    ratio: float


def curves(num_ordinary: int, alpha: float, times: Float[np.ndarray, " n"] | Sequence) -> Curves:
    """Observables of the reduced flow at `times`, which may come in any order.

    Raises:
      ValueError: if num_ordinary is below 4, alpha outside (0, 1), or a time negative.

    """
    num_ordinary, alpha = _checked(num_ordinary, alpha)
    moments, where = np.unique(checks.nonnegative_times(times), return_inverse=True)
    if moments.size == 0:
        return Curves(*np.empty((5, 0)))
    states = _solve(num_ordinary, alpha, float(moments[-1]), samples=moments).y.T[where]
    rows = [_observe(num_ordinary, alpha, state) for state in states]
    return Curves(*np.array(rows).T)


def half_times(num_ordinary: int, alpha: float) -> Times:
    """Times at which the reduced flow first has p(noise) = alpha / 2 and A_c = 1/2.

    Raises:
      ValueError: if an argument is out of range, or alpha is at most 2 / (N + 1), where
        p(noise) starts at half of its final value or above.

    """
    num_ordinary, alpha = _checked(num_ordinary, alpha)
    _require_rise(num_ordinary, alpha)
    events = [
        lambda _, state: _observe(num_ordinary, alpha, state)[0] - alpha / 2.0,
        lambda _, state: _masses(num_ordinary, alpha, state)[0] - 0.5,
    ]
    limit = 100.0 * asymptotic_half_times(num_ordinary, alpha).attention
    solution = _solve(num_ordinary, alpha, limit, events=events)
    noise, attention = (float(found[0]) for found in solution.t_events)
    return Times(noise, attention, attention / noise)


def asymptotic_half_times(num_ordinary: int, alpha: float) -> Times:
    """The scaling laws of the module's docstring. Regime: N alpha large, T >> N >> 1.

    Errors as `half_times`.
    """
    num_ordinary, alpha = _checked(num_ordinary, alpha)
    _require_rise(num_ordinary, alpha)
    rest = np.log(2.0 - alpha) / (1.0 - alpha)
    noise = (np.log(alpha * num_ordinary / (2.0 - alpha)) + rest) / alpha
    attention = np.sqrt(np.pi / 2.0) * num_ordinary**1.5 / (1.0 - alpha) ** 2
    return Times(float(noise), float(attention), float(attention / noise))


def take_over_time(
    frequency: float, num_outputs: int, alpha: float, score: float | None = None
) -> float:
    """Time at which (pair) of the module's docstring reaches a score, or blows up.

    Exact for (pair), which is itself heuristic. Regime: attention's mass after triggers small,
    e^score far below 1 / (f (1 - alpha)).

    Args:
      frequency: f, of the trigger in noisy sequences.
      num_outputs: K.
      alpha: noise level.
      score: w, of the key that marks a position after the trigger; None for the blow-up.

    Raises:
      ValueError: if an argument is out of range.

    """
    frequency = checks.open_fraction("frequency", frequency)
    num_outputs = checks.at_least("num_outputs", num_outputs, 1)
    alpha = checks.open_fraction("alpha", alpha)
    covered = 1.0 if score is None else erf(np.sqrt(checks.within("score", score, 0.0)))
    speed = frequency * (1.0 - alpha) ** 2
    return float(np.sqrt(np.pi * num_outputs / 2.0) * covered / speed)


def take_over_steps(
    *,
    frequency: float,
    num_outputs: int,
    alpha: float,
    learning_rate: float,
    momentum: float,
    speed: float = SPEED,
    at_most: int = 100_000,
) -> float:
    """Steps of heavy-ball descent after which (pair) has A_c = 1/2; NaN if not within `at_most`.

    Regime: as the module's docstring; K near N, so that a token's own key cannot recall in place
    of the previous token's (at 7 outputs of 63 networks recall earlier than this).

    Measured at d = T = 64, rate .03, momentum .9, alpha = .3, Zipf over 8, 16, 32, 64 tokens:
    47, 72, 92, 119 steps; this: 38, 63, 87, 131. At 32 tokens and rates .015, .03, .06: 144, 89,
    65; this: 153, 87, 52. Exponent of 1 - alpha from .1 to .5: -1.6; this: -1.6. SPEED was set
    on the slope in sqrt(K) / f, of a few values tried, on overlapping runs: offset and exponents
    are predicted, the level is not. It is unknown at other d and T.

    Args:
      frequency: f, of the trigger in noisy sequences.
      num_outputs: K.
      alpha: noise level.
      learning_rate: of the descent.
      momentum: mu.
      speed: factor of both equations.
      at_most: steps to try.

    Raises:
      ValueError: if an argument is out of range.

    """
    frequency = checks.open_fraction("frequency", frequency)
    num_outputs = checks.at_least("num_outputs", num_outputs, 1)
    alpha = checks.open_fraction("alpha", alpha)
    learning_rate = checks.positive("learning_rate", learning_rate)
    momentum = checks.below_one("momentum", momentum)
    speed, at_most = checks.positive("speed", speed), checks.at_least("at_most", at_most, 1)
    start = frequency * (1.0 - alpha)
    # In w, A_c = 1/2 is where the score has made up for the odds of the start.
    half = np.log((1.0 - start) / start)
    copy = score = copying = looking = 0.0
    if half <= 0.0:
        return 0.0
    for step in range(at_most):
        mass = 1.0 / (1.0 + np.exp(half - score))
        push = speed * (1.0 - alpha) * mass
        copying = momentum * copying + push / num_outputs
        looking = momentum * looking + push * copy
        copy += learning_rate * copying
        before, score = score, score + learning_rate * looking
        if score >= half:
            return float(step + (half - before) / (score - before))
    return float("nan")


def _velocity(num_ordinary: int, alpha: float, state: State) -> State:
    n = num_ordinary
    through_value, copy = state[3:6], state[6]
    masses = _masses(n, alpha, state)
    p = _probabilities(n, *_logits(n, masses, state))
    after = masses[0] + masses[1]
    correct, other = 1.0 - alpha - p[0], -p[1]
    outputs = correct + (n - 2) * other
    mean = np.array([alpha - p[2], outputs / (n - 1), -p[3]])
    gain_noise = mean @ (through_value * np.array([1.0, n - 1.0, 1.0]))
    gain = np.array([gain_noise + copy * correct, gain_noise, copy * outputs / n])
    pull = masses * (gain - masses @ gain)
    return np.concatenate(
        [
            mean,
            after * mean,
            [
                masses[0] * (correct - other) / (n - 1),
                pull[0] + pull[1],
                pull[0] / (n - 1) - pull[1],
            ],
        ]
    )


def _masses(n: int, alpha: float, state: State) -> Vector:
    """Attention on correct tokens, on noise tokens, on the rest."""
    score, advantage = state[7], state[8]
    logs = np.array([np.log1p(-alpha) + score, np.log(alpha) + score - advantage, np.log(n - 1.0)])
    weights = np.exp(logs - logs.max())
    return weights / weights.sum()


def _logits(n: int, masses: Vector, state: State) -> tuple[Vector, Vector]:
    """Logits of correct, another output, noise, trigger: from F and through V."""
    classes = [OUTPUT, OUTPUT, NOISE, TRIGGER]
    fed, through_value, copy = state[:3][classes], state[3:6][classes], state[6]
    copied = copy * np.array([masses[0] + masses[2] / n, masses[2] / n, 0.0, 0.0])
    attended = 2.0 / n * fed + (masses[0] + masses[1]) * through_value + copied
    return (1.0 + 1.0 / n) * fed, attended


def _probabilities(n: int, fed: Vector, attended: Vector) -> Vector:
    values = fed + attended
    weights = np.exp(values - values.max())
    return weights / (weights @ np.array([1.0, n - 2.0, 1.0, 1.0]))


def _observe(n: int, alpha: float, state: State) -> Vector:
    masses = _masses(n, alpha, state)
    fed, attended = _logits(n, masses, state)
    margins = [x[2] - x[0] for x in (fed, attended)]
    return np.array([_probabilities(n, fed, attended)[2], masses[0], masses[1], *margins])


def _solve(n: int, alpha: float, end: float, *, samples=None, events=None):  # type: ignore[no-untyped-def]
    if events:  # nothing after the last event is of interest
        events[-1].terminal = True
    solution = solve_ivp(
        lambda _, state: _velocity(n, alpha, state),
        (0.0, end),
        np.zeros(9),
        method="LSODA",
        t_eval=samples,
        events=events,
        rtol=1e-8,
        atol=1e-10,
    )
    if not solution.success:
        raise RuntimeError(f"the reduced flow could not be integrated: {solution.message}")
    return solution


def _require_rise(num_ordinary: int, alpha: float) -> None:
    least = 2.0 / (num_ordinary + 1)
    if alpha <= least:
        raise ValueError(
            f"alpha must exceed 2 / (num_ordinary + 1) = {least:.4g} for p(noise) to start below "
            f"half of its final value, got {alpha}"
        )


def _checked(num_ordinary: int, alpha: float) -> tuple[int, float]:
    return checks.at_least("num_ordinary", num_ordinary, 4), checks.open_fraction("alpha", alpha)
