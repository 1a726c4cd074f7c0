"""The shared feature that real inputs bring along: which r a set of embeddings has.

The flow of an associative memory sees its inputs only through their overlaps G_ij = E_i . E_j:

    z_i' = sum_j G_ij pi_j R_j.

The memory of `theory.frequent_memory` is G = (1 - r) I + r 1 1^T. The noise has the same
residual alpha - u in every row at the start (u one over the number of classes), so

    noise logit of fact i = (alpha - u) kappa_i t + O(t^2),   kappa_i = sum_j G_ij pi_j,

with kappa_i = (1 - r) pi_i + r there. For any other embeddings this defines r by what it does:
the r that would give the same kappa_i.

Three cases.
- Random rows of variance 1/d (Gaussian), so also d < N: kappa_i has mean pi_i and variance
  (sum_{j != i} pi_j^2 + 2 pi_i^2) / d. The r of a fact is then random, of either sign, and of
  order sqrt(sum pi^2 / d): rare facts alone notice, half of them inherit the noise and half its
  opposite. Exact for every d; what follows from it for t > 0 is first order in t.
- Rows with a mean: G_ij -> |mean|^2 off the diagonal, r = |mean|^2 / E|E_i|^2.
- What a wide random rectified layer makes of orthonormal inputs: r = 1/pi = 0.318, whatever
  the task (Cho and Saul, 2009, arc-cosine kernel of degree one). A linear map read off such
  features is the memory with that r, exactly in the limit of infinite width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from truncated_weights.theory import checks

Vector = Float[np.ndarray, " facts"]


class Drive(NamedTuple):
    """Mean and standard deviation of kappa_i over random embeddings."""

    mean: Vector
    deviation: Vector


def noise_drive(
    embeddings: Num[np.ndarray, "facts d"] | Sequence, frequencies: Vector | Sequence
) -> Vector:
    """kappa_i = sum_j pi_j E_i . E_j."""
    law = checks.frequencies("frequencies", frequencies)
    rows = checks.numbers("embeddings", embeddings, law.size, None)
    return rows @ (law @ rows)


def effective_shared(drive: Vector | Sequence, frequencies: Vector | Sequence) -> Vector:
    """r of each fact: the solution of kappa_i = (1 - r) pi_i + r."""
    law = checks.frequencies("frequencies", frequencies)
    drive = checks.numbers("drive", drive, law.size)
    return (drive - law) / (1.0 - law)


def random_drive(frequencies: Vector | Sequence, width: int) -> Drive:
    """kappa_i of Gaussian rows of variance 1 / width."""
    law = checks.frequencies("frequencies", frequencies)
    width = checks.at_least("width", width, 1)
    return Drive(law, np.sqrt((np.sum(law**2) + law**2) / width))


def rectified_overlap(cosine: Float[np.ndarray, " n"] | Sequence) -> Float[np.ndarray, " n"]:
    """Overlap of relu(E_i A) and relu(E_j A) over their squared norm, A wide and Gaussian.

    (sqrt(1 - c^2) + c (pi - arccos c)) / pi for inputs of cosine c: 1/pi at c = 0, 1 at c = 1.
    """
    cosine = checks.numbers("cosine", cosine, None)
    if np.any(np.abs(cosine) > 1.0):
        raise ValueError("cosine must lie in [-1, 1]")
    return (np.sqrt(1.0 - cosine**2) + cosine * (np.pi - np.arccos(cosine))) / np.pi
