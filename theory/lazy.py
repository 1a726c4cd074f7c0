"""How the two-layer Transformer learns while its weights hardly move: the kernel at its start.

Setting: toy/transformer.py at the default options, width d, hidden width H, embeddings N(0, 1)
per entry, learned matrices and the unembedding uniform with variance 1 / (3 fan-in). To first
order in the change of the weights the logits of input x follow

    f_k'(x) = E_x' sum_k' K_kk'(x, x') (y_k'(x') - p_k'(x')),   K = J(x) J(x')^T,       (lazy)

J the derivative of the logits by the weights at the start. Time is learning rate times steps.

Closed form (limit of wide layers and long contexts). Columns of W_U become orthogonal with
squared norm 1/3, so K_kk' = K(x, x') 1{k = k'}. Attention averages independent embeddings, so
that what it adds to the stream vanishes against the stream itself. Let s d be the squared norm of
a stream and o d the overlap of two: s = 2 at the start (token plus position), and o = 1 for the
same token at two positions, which is all that two triggers have in common. With c = o / s,
theta = arccos c and the arc-cosine kernels (Cho and Saul, 2009)

    kappa_0 = (pi - theta) / pi,    kappa_1 = (sqrt(1 - c^2) + c (pi - theta)) / pi,

- the first feed-forward makes s_1 = s + s / 18 and o_1 = o + kappa_1(c) s / 18;
- the second one learns with  fc_out: H s_1 kappa_1(c_1) / 18,  fc_in: d o_1 kappa_0(c_1) / 18;
- the first one with  fc_out: H s kappa_1(c) B / 18,  fc_in: d o kappa_0(c) B / 18,
  B = 1 + kappa_0(c_1) / 18, because it is read directly and through the second one.

What attention writes is read through a value and an output matrix, each of which divides the
squared norm by three, and learns with what is attended to: with o_0 its overlap per dimension
(`softmax_overlap`; `attended_overlap` where attention is uniform), along four paths
(`attention_paths`):

- values and outputs of layer 0, written there:           (2 d / 9) o_0
- values and outputs of layer 1, written there:           (2 d / 9) o_1, where what layer 0 has
  added is attended to as well: its bag of words, o_0 / 9, and the mean of its feed-forward,
      o_1 = (10 / 9) o_0 + kappa_1(0) / 9 + (kappa_1(1/2) - kappa_1(0)) o_0 / 9;
- the first feed-forward at positions attended to, written by layer 1:
      (1 / 9) ((H / 9) (kappa_1(0) + (kappa_1(1/2) - kappa_1(0)) o_0) + (d / 18) kappa_0(1/2) o_0);
- values and outputs of layer 0, written by layer 1:      (1 / 9) (2 d / 9) o_0.

So layer 1 writes about twice what layer 0 does. Keys have a mean effect too, for which there
is no formula yet: measured, they add about a tenth to the sum of the four (KEYS).

What follows. Feed-forwards carry the noise, first and second alike, W_out 1.8 H / d times what
W_in does. At H = 4 d the kernel of two triggers is r = 0.55 of that of one with itself: the
Transformer reading the trigger is the memory of `theory.frequent_memory` with that r, which is
why noise comes first. And nothing in (lazy) at this order knows the context: recall is not here.
Beyond this order it is, slowly: values read the context under uniform attention, in which the
correct token is more frequent than others. Measured (experiments.linearised, 300 steps, p(correct)
full / linearised): .03 / .02 to .51 / .07 at d = 32, .44 / .05, .52 / .13, .51 / .27 at d = 128 and
rates .01, .03, .1. That this is what the linear network recalls by is a hypothesis.

Proved: the limits of each term at d, H -> infinity with attention neglected. Heuristic: the four
paths of attention (streams of different tokens taken as orthogonal but for the term 4 / (3 d) of
`softmax_overlap`), and that at finite width and context the rest is small. Measured until p(noise)
passes alpha, d = 32, 64, 128: this p(noise) is off by up to .14, .02, .06, the linearised network's
by .02 at most.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from truncated_weights.theory import checks

PARTS = ("0.fc_in", "0.fc_out", "1.fc_in", "1.fc_out")
# What keys add to the four paths of attention: measured (d = T = 64, Zipf over 8 to 64 tokens).
KEYS = 1.09
# Of a key's score at the start: variance of the part of its token, and covariance of that from two
# triggers, whose streams share their token.
SCORE_VARIANCE, SCORE_COVARIANCE = 2.0 / 3.0, 1.0 / 3.0
# Nodes of the quadrature over scores, and points, in log, of the one over normalisers.
SCORE_NODES, NORMALISERS = 16, np.linspace(-8.0, 4.5, 48)
# Squared norm, per dimension, of the stream that enters the first layer: token and position.
ENTERING = 2.0


class Curves(NamedTuple):
    """Probabilities after each step, step 0 first."""

    correct: Float[np.ndarray, " steps"]
    noise: Float[np.ndarray, " steps"]


def arc_cosine(cosine: float) -> tuple[float, float]:
    """kappa_0 and kappa_1 of the module's docstring, one at cosine 1."""
    cosine = checks.within("cosine", cosine, -1.0, 1.0)
    angle = np.arccos(cosine)
    left = np.pi - angle
    return float(left / np.pi), float((np.sqrt(1.0 - cosine**2) + cosine * left) / np.pi)


def part_kernels(
    width: int, hidden: int, overlap: float, *, attended: float = 0.0
) -> Mapping[str, float]:
    """K(x, x') of each matrix in the limit of the module's docstring.

    Args:
      width: d.
      hidden: H.
      overlap: o, of the streams that enter the first layer: 2 for the same trigger position,
        1 for two of them, 0 for different tokens at different positions.
      attended: overlap per dimension of what two positions attend to, neglected where 0.

    """
    width, hidden = checks.at_least("width", width, 1), checks.at_least("hidden", hidden, 1)
    overlap = checks.within("overlap", overlap, -ENTERING, ENTERING)
    attended = checks.within("attended", attended, 0.0)
    before = arc_cosine(overlap / ENTERING)
    norm = ENTERING * (1.0 + 1.0 / 18.0)
    later = overlap + before[1] * ENTERING / 18.0
    after = arc_cosine(min(1.0, later / norm))
    through = 1.0 + after[0] / 18.0
    values = width * attended * through / 9.0
    return {
        "0.fc_in": width * overlap * before[0] * through / 18.0,
        "0.fc_out": hidden * ENTERING * before[1] * through / 18.0,
        "1.fc_in": width * later * after[0] / 18.0,
        "1.fc_out": hidden * norm * after[1] / 18.0,
        "1.v_proj": values,
        "1.out_proj": values,
    }


def trigger_kernel(width: int, hidden: int, *, same: bool = False) -> float:
    """K of two trigger positions, or of one with itself: the sum over all matrices."""
    return sum(part_kernels(width, hidden, 2.0 if same else 1.0).values())


def descend(
    kernel: Float[np.ndarray, "n n"] | Sequence,
    targets: Float[np.ndarray, "n classes"] | Sequence,
    start: Float[np.ndarray, "n classes"] | Sequence,
    *,
    learning_rate: float,
    momentum: float,
    steps: int,
) -> Float[np.ndarray, "steps_1 n classes"]:
    """Logits of n examples, of equal weight, under heavy-ball descent in function space.

    v <- mu v + K (y - p) / n,  f <- f + eta v: what descent of the weights does to a model that
    is linear in them. Exact for such a model when K is its kernel times the identity of classes.
    """
    values = checks.numbers("start", start, None, None)
    targets = checks.numbers("targets", targets, *values.shape)
    kernel = checks.numbers("kernel", kernel, len(values), len(values))
    learning_rate = checks.positive("learning_rate", learning_rate)
    momentum = checks.below_one("momentum", momentum)
    steps, velocity = checks.at_least("steps", steps, 0), np.zeros(values.shape)
    path = [values]
    for _ in range(steps):
        shifted = np.exp(values - values.max(axis=1, keepdims=True))
        p = shifted / shifted.sum(axis=1, keepdims=True)
        velocity = momentum * velocity + kernel @ (targets - p) / len(kernel)
        values = values + learning_rate * velocity
        path.append(values)
    return np.array(path)


def trigger_curves(
    *,
    width: int,
    hidden: int,
    num_outputs: int,
    num_classes: int,
    alpha: float,
    learning_rate: float,
    momentum: float,
    steps: int,
) -> Curves:
    """p(correct) and p(noise) at triggers, step by step, with no network at hand.

    One example stands for all triggers: the kernel of two at different positions, targets
    averaged over the correct output, logits zero at the start (random ones of variance
    (s_1 + ...) / 3 average out in the mean, not in each example). Regime: number of
    positions large, steps until p(noise) saturates.
    """
    alpha = checks.open_fraction("alpha", alpha)
    num_outputs = checks.at_least("num_outputs", num_outputs, 1)
    num_classes = checks.at_least("num_classes", num_classes, num_outputs + 1)
    target = np.zeros((1, num_classes))
    target[0, :num_outputs] = (1.0 - alpha) / num_outputs
    target[0, -1] = alpha
    values = descend(
        np.array([[trigger_kernel(width, hidden)]]),
        target,
        np.zeros((1, num_classes)),
        learning_rate=learning_rate,
        momentum=momentum,
        steps=steps,
    )[:, 0]
    p = np.exp(values - values.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return Curves(p[:, :num_outputs].mean(axis=1), p[:, -1])


def attended_overlap(
    frequencies: Float[np.ndarray, "outputs vocab"] | Sequence, length: int
) -> float:
    """Overlap per dimension of what two positions attend to under uniform attention.

    The argument `attended` of `part_kernels`. Tokens agree with probability sum_v f_v^2, f the
    mean over outputs of the chain's frequencies; of positions s and t, uniform in 2, ..., T, the
    share 1 / max(s, t) is in common. Regime: sequences with outputs of their own, T large.
    """
    length = checks.at_least("length", length, 2)
    law = _mean_law(frequencies)
    larger = np.arange(2, length + 1)
    pairs = 2 * larger - 3  # of places whose larger one this is
    return float(law @ law + np.sum(pairs / larger) / (length - 1) ** 2)


def _mean_law(
    frequencies: Float[np.ndarray, "outputs vocab"] | Sequence,
) -> Float[np.ndarray, " vocab"]:
    law = checks.probabilities("frequencies", frequencies)
    if law.ndim != 2:
        raise ValueError(f"frequencies must have shape [outputs, vocab], got {law.shape}")
    return law.mean(axis=0)


def softmax_overlap(
    frequencies: Float[np.ndarray, "outputs vocab"] | Sequence, length: int, width: int
) -> float:
    """o_0: overlap per dimension of what two triggers attend to with the weights at the start.

    Attention is not uniform at the start: a key's scores from two triggers, whose streams share
    their token, covary by 1/3, so that what both attend to weighs e^(1/3) where tokens are many.
    Where they are few, one of them takes a good part of the softmax, and the weight is less: with
    f the frequencies and a, a' the scores of two triggers,

        sum_v f_v^2 E[e^(a_v + a'_v) / (Z Z')],   Z = sum_u f_u e^(a_u),   1/Z = int e^(-l Z) dl,

    which factors over tokens; both integrals are quadratures, with an error below 1e-3. Positions
    are many. Streams of different tokens are orthogonal in the mean only: those that overlap by
    chance, with variance 4 / d, are attended to together, which adds 4 / (3 d).

    Arguments as `attended_overlap`, and width: d.
    """
    law = _mean_law(frequencies)
    alike = law @ law
    places = attended_overlap(frequencies, length) - alike
    width = checks.at_least("width", width, 1)
    return float(_softmax_agreement(law) + np.exp(SCORE_COVARIANCE) * places + 4.0 / (3.0 * width))


def _softmax_agreement(law: Float[np.ndarray, " vocab"]) -> float:
    """The sum of the docstring of `softmax_overlap`."""
    points, weights = np.polynomial.hermite_e.hermegauss(SCORE_NODES)
    weights = weights / weights.sum()
    # Scores are a common part, on the first axis, and one of each trigger's own.
    common = np.sqrt(SCORE_COVARIANCE) * points[:, None]
    own = np.sqrt(SCORE_VARIANCE - SCORE_COVARIANCE) * points[None]
    scores = np.exp(common + own)
    steps = np.exp(NORMALISERS)
    present = law[law > 0.0]
    shrink = np.exp(-np.einsum("v,gh,l->vghl", present, scores, steps))
    without = np.einsum("vghl,h->vgl", shrink, weights)
    chosen = np.einsum("vghl,gh,h->vgl", shrink, scores, weights)
    both = np.einsum("vgl,vgm,g->vlm", without, without, weights)
    taken = np.einsum("vgl,vgm,g->vlm", chosen, chosen, weights)
    integrand = np.einsum("v,vlm->lm", present**2, taken / both)
    integrand *= np.exp(np.sum(np.log(both), axis=0))
    return float(steps @ integrand @ steps * (NORMALISERS[1] - NORMALISERS[0]) ** 2)


def attention_paths(width: int, hidden: int, attended: float) -> Mapping[str, float]:
    """K of two triggers along each path by which attention writes: see the module's docstring.

    Args:
      width: d.
      hidden: H.
      attended: o_0, from `softmax_overlap`.

    Returns:
      "MATRICES -> LAYER": what learns and which layer's attention writes it.

    """
    width, hidden = checks.at_least("width", width, 1), checks.at_least("hidden", hidden, 1)
    attended = checks.positive("attended", attended)
    apart, half = arc_cosine(0.0)[1], arc_cosine(0.5)
    features = apart + (half[1] - apart) * attended
    values = 2.0 * width / 9.0
    return {
        "0.v_proj, 0.out_proj -> 0": values * attended,
        "1.v_proj, 1.out_proj -> 1": values * (10.0 * attended + features) / 9.0,
        "0.fc_in, 0.fc_out -> 1": (hidden * features / 9.0 + width * half[0] * attended / 18.0)
        / 9.0,
        "0.v_proj, 0.out_proj -> 1": values * attended / 9.0,
    }


def margin_ratio(width: int, hidden: int, attended: float, softmax: float | None = None) -> float:
    """Feed-forwards over attention: what the first step adds to the noise margin.

    The four paths of `attention_paths` and a tenth for the keys, against the feed-forwards read
    directly. The ratio grows more slowly than N and stops, because positions are attended to as
    well, and the mean of the first feed-forward, which all streams share; the simplified model of
    theory.first_step has neither and its ratio is N / 2 for all T.

    Measured at d = T = 64, Zipf over 8, 16, 32, 64 tokens: 4.0 to 5.3, 3.9 to 4.8, 5.9 to 6.4, 7.1
    to 9.1; this with `softmax`: 4.0, 5.0, 5.9, 6.6.

    Args:
      width: d.
      hidden: H.
      attended: overlap of what is attended to uniformly, from `attended_overlap`.
      softmax: o_0, from `softmax_overlap`; None takes its limit of many tokens and wide layers,
        e^(1/3) times `attended`.

    """
    attended = checks.positive("attended", attended)
    overlap = np.exp(SCORE_COVARIANCE) * attended if softmax is None else softmax
    overlap = checks.positive("softmax", overlap)
    fed = sum(part_kernels(width, hidden, 1.0)[name] for name in PARTS)
    return fed / (KEYS * sum(attention_paths(width, hidden, overlap).values()))


def label_deviation(
    *, alpha: float, num_classes: int, num_outputs: int, labels: float, num_noise: int = 1
) -> float:
    """Deviation over mean of the first gradient along its own mean, over batches of n labels.

    Classes are orthogonal, kernels of all pairs of triggers are taken as equal, and all classes
    as equally likely at the start. Labels are independent given the correct outputs, which enter
    the mean alike, so that only the number of noise labels matters. With the mean residual
    r = (alpha - 1/V at the noise, (1 - alpha)/K - 1/V at K outputs, -1/V elsewhere),

        sqrt(alpha (1 - alpha) / n) |r_noise - r_output| / |r|^2.
    """
    alpha, labels = checks.open_fraction("alpha", alpha), checks.positive("labels", labels)
    num_noise = checks.at_least("num_noise", num_noise, 1)
    num_outputs = checks.at_least("num_outputs", num_outputs, 1)
    num_classes = checks.at_least("num_classes", num_classes, num_outputs + num_noise)
    residual = np.full(num_classes, -1.0 / num_classes)
    noise, output = alpha / num_noise, (1.0 - alpha) / num_outputs
    residual[:num_noise] += noise
    residual[num_noise : num_noise + num_outputs] += output
    strays = np.sqrt(alpha * (1.0 - alpha) / labels) * abs(noise - output)
    return float(strays / (residual @ residual))
