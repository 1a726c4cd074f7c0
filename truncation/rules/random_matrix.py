"""Data-free ranks: keep what rises above the noise edge of a random matrix.

A matrix W = signal + noise with iid noise of standard deviation sigma has, of the noise
alone, no singular value beyond sigma (sqrt d_in + sqrt d_out) (Marchenko and Pastur). Where
sigma is known (an initialisation that training hardly moved), that edge is the threshold;
where it is not, Gavish and Donoho give the threshold that minimises the squared error of
the kept part. No example is looked at.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from truncation import spectrum
from truncation.intervention import Intervention, Key, keep_top
from truncation.search import evaluator as search


def kept(
    evaluator: search.Evaluator,
    keys: Sequence[Key],
    sigma: Mapping[Key, float] | None = None,
) -> dict[Key, int]:
    """How many components of each matrix exceed the edge (sigma known) or the threshold."""
    counts = {}
    for key, parts in evaluator.decompositions(list(keys)).items():
        rows, columns = evaluator.model.matrices[key].read(evaluator.params).shape
        if sigma is not None:
            threshold = spectrum.marchenko_pastur_edge((rows, columns), sigma[key])
        else:
            threshold = float(spectrum.gavish_donoho_threshold(parts.s, (rows, columns)))
        counts[key] = int(np.sum(np.asarray(parts.s) > threshold))
    return counts


def interventions(
    evaluator: search.Evaluator,
    keys: Sequence[Key],
    sigma: Mapping[Key, float] | None = None,
) -> list[Intervention]:
    """One intervention per matrix that keeps what `kept` counts."""
    ranks = {k: d.s.shape[-1] for k, d in evaluator.decompositions(list(keys)).items()}
    return [
        Intervention((keep_top(layer, matrix, count, ranks[layer, matrix]),))
        for (layer, matrix), count in kept(evaluator, keys, sigma).items()
    ]
