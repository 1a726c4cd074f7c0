"""Which facts a cut corrects: those too rare for the full memory but not for the truncated one.

Setting: `theory.frequent_memory`. A fact is known where its correct logit is the largest; its
margin is that logit minus the largest other one. "Cut" drops the top singular component of W.
At any time the full memory knows the facts more frequent than some boundary, the truncated one
those more frequent than a lower boundary; between the two lies the window of facts that the
cut corrects. It moves towards rare facts as training goes on and closes when all are known.

Proved.
- Start. To first order in t the noise leads fact i exactly when

      pi_i ((1 - r) (1 - 2 alpha) + r (1 - alpha)) < r alpha.                            (start)

  For r = 0 and alpha < 1/2 no fact is ever behind: without a shared feature a cut has nothing
  to correct.
- Own rows. w_i' = sqrt(1 - r) pi_i R_i: w_ik <= 0 for every other class k, and w_ii - w_i,noise
  rises whenever p_correct - p_noise < 1 - 2 alpha, the value at which it comes to rest. Hence a
  cut that removed the shared row w_0 and nothing else would correct every fact from the start
  (for alpha < 1/2, while that difference is approached from below); what a real cut leaves
  uncorrected is what the top component leaves of the shared row.

Asymptotic (leading logarithm as pi_i -> 0 at fixed r > 0 and alpha < 1/2; the derivation is
heuristic). The shared row first learns the unigram law of the targets, noise included. From
then on a fact not yet learned is behind the noise by log(alpha / ((1 - alpha) pi_i)), and its
own row makes up for that at the rate (1 - r) pi_i (1 - alpha). Hence it overtakes at

    t_i = log(alpha / ((1 - alpha) pi_i)) / ((1 - r) (1 - alpha) pi_i).            (overtaking)

Corrections are of relative order 1 / log(1 / pi_i). For the boundary of the cut no formula is
offered: it depends on how far the top component has turned away from the shared row, and
`edges` computes it from the exact flow.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from truncated_weights.theory import checks, frequent_memory
from truncated_weights.theory.frequent_memory import Facts

Vector = Float[np.ndarray, " facts"]


class Edges(NamedTuple):
    """Lowest known frequency at each time: 0 where all facts are known, inf where none is.

    Where a boundary falls between two facts, the margin is interpolated linearly in log pi.
    """

    full: Float[np.ndarray, " n"]
    cut: Float[np.ndarray, " n"]


class Spectrum(NamedTuple):
    """Singular values of W, falling, and what each component reads and writes.

    Attributes:
      values: the singular values.
      shared: share of e_0 in the reading vector, its squared entry.
      noise: share of the noise tokens in the writing vector, their squared entries added.

    """

    values: Float[np.ndarray, " r"]
    shared: Float[np.ndarray, " r"]
    noise: Float[np.ndarray, " r"]


def margins(values: Float[np.ndarray, "facts classes"] | Sequence) -> Vector:
    """Correct logit minus the largest other logit."""
    values = checks.numbers("values", values, None, None)
    if values.shape[1] < max(2, len(values)):
        raise ValueError(f"values must have a class for each fact, got shape {values.shape}")
    here = np.arange(len(values))
    others = values.copy()
    others[here, here] = -np.inf
    return values[here, here] - others.max(axis=1)


def edge(frequencies: Vector | Sequence, margin: Vector | Sequence) -> float:
    """Frequency at which the margin last turns negative, coming from frequent facts."""
    frequencies = checks.positives("frequencies", frequencies, None)
    checks.at_least("number of frequencies", frequencies.size, 1)
    margin = checks.numbers("margin", margin, frequencies.size)
    order = np.argsort(-frequencies, kind="stable")
    logs, margin = np.log(frequencies[order]), margin[order]
    if margin[-1] > 0.0:
        return 0.0
    known = np.flatnonzero(margin > 0.0)
    if known.size == 0:
        return float(np.inf)
    last = known[-1]
    share = margin[last] / (margin[last] - margin[last + 1])
    return float(np.exp(logs[last] + share * (logs[last + 1] - logs[last])))


def spectrum(memory: Facts, matrix: Float[np.ndarray, "inputs classes"] | Sequence) -> Spectrum:
    """Which component the noise is: compare `shared` and `noise` of the first with the others.

    A component that reads mostly e_0 answers the same whatever the input.
    """
    matrix = checks.numbers("matrix", matrix, memory.frequencies.size + 1, None)
    read, values, write = np.linalg.svd(matrix, full_matrices=False)
    noise = np.sum(write[:, memory.frequencies.size :] ** 2, axis=1)
    return Spectrum(values, read[0] ** 2, noise)


def drop_top(
    matrix: Float[np.ndarray, "inputs classes"] | Sequence, count: int = 1
) -> Float[np.ndarray, "inputs classes"]:
    """The matrix without its `count` largest singular components."""
    matrix = checks.numbers("matrix", matrix, None, None)
    count = checks.at_least("count", count, 0)
    read, values, write = np.linalg.svd(matrix, full_matrices=False)
    return (read[:, count:] * values[count:]) @ write[count:]


def truncated_logits(
    memory: Facts, values: Float[np.ndarray, "facts classes"] | Sequence
) -> Float[np.ndarray, "facts classes"]:
    """Logits after the top component of W is dropped."""
    return frequent_memory.read(memory, drop_top(frequent_memory.weights(memory, values)))


def corrected(
    memory: Facts, values: Float[np.ndarray, "facts classes"] | Sequence
) -> Bool[np.ndarray, " n"]:
    """Facts that the truncated memory knows and the full one does not."""
    return (margins(values) <= 0.0) & (margins(truncated_logits(memory, values)) > 0.0)


def edges(memory: Facts, times: Float[np.ndarray, " n"] | Sequence) -> Edges:
    """Both boundaries of the window along the flow. One singular value decomposition per time."""
    found = [
        (
            edge(memory.frequencies, margins(values)),
            edge(memory.frequencies, margins(truncated_logits(memory, values))),
        )
        for values in frequent_memory.logits(memory, times)
    ]
    full, cut = np.array(found, dtype=np.float64).reshape(-1, 2).T
    return Edges(full, cut)


def start_edge(alpha: float, shared: float) -> float:
    """Lowest frequency not behind the noise as t -> 0, see (start); inf where all are."""
    alpha, r = checks.open_fraction("alpha", alpha), checks.below_one("shared", shared)
    lead = (1.0 - r) * (1.0 - 2.0 * alpha) + r * (1.0 - alpha)
    return float(r * alpha / lead) if lead > 0.0 else float(np.inf)


def overtaking_time(frequencies: Vector | Sequence, alpha: float, shared: float) -> Vector:
    """t_i of the module's docstring; zero where a fact is never behind, inf for alpha >= 1/2."""
    alpha, shared = checks.open_fraction("alpha", alpha), checks.below_one("shared", shared)
    frequencies = checks.positives("frequencies", frequencies, None)
    if np.any(frequencies >= 1.0):
        raise ValueError("frequencies must be below 1")
    if alpha >= 0.5:
        return np.full(frequencies.shape, np.inf)
    if shared == 0.0:
        return np.zeros(frequencies.shape)
    behind = np.log(alpha / (1.0 - alpha)) - np.log(frequencies)
    return np.maximum(behind, 0.0) / ((1.0 - shared) * (1.0 - alpha) * frequencies)


def noise_time(num_facts: int, alpha: float, shared: float, fraction: float = 0.5) -> float:
    """Time at which p(noise) of a fact not yet learned reaches `fraction` of alpha.

    The noise logit less that of any other class, g, obeys g' = r (1 + 1/N) (alpha - p) with
    p = e^g / (e^g + N), which integrates to

        r (1 + 1/N) t = g / alpha - log((alpha N - (1 - alpha) e^g) / (alpha N - (1 - alpha)))
                        / (alpha (1 - alpha)).

    Regime: r N large (own rows do not count yet) and other classes alike; with unequal
    frequencies the unigram law is learned meanwhile, which lowers p (heuristic there).
    Saturation, fraction -> 1, is exponential at the rate r (1 + 1/N) alpha (1 - alpha).
    """
    alpha, fraction = (
        checks.open_fraction("alpha", alpha),
        checks.open_fraction("fraction", fraction),
    )
    shared = checks.open_fraction("shared", shared)
    num_facts = checks.at_least("num_facts", num_facts, 2)
    odds = fraction * alpha / (1.0 - fraction * alpha)
    if odds * num_facts <= 1.0:
        raise ValueError(
            f"fraction * alpha must lie above 1 / (num_facts + 1) = {1.0 / (num_facts + 1):.4g}, "
            f"where p(noise) starts, got {fraction * alpha:.4g}"
        )
    left = alpha - (1.0 - alpha) * odds
    start = alpha - (1.0 - alpha) / num_facts
    clock = np.log(num_facts * odds) / alpha - np.log(left / start) / (alpha * (1.0 - alpha))
    return float(clock / (shared * (1.0 + 1.0 / num_facts)))
