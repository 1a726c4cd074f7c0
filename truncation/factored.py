"""Interventions stored as two thin factors where that is smaller.

A matrix [d_in, d_out] with k components left takes k (d_in + d_out) numbers as factors, so
they pay below k = d_in d_out / (d_in + d_out); at that size they also take less time, as
k (d_in + d_out) multiplications replace d_in d_out per input.
"""

from typing import Any

import numpy as np

from truncation import editing
from truncation.address import Params, ProductAddress
from truncation.notation import Intervention
from truncation.search.decompositions import Decompositions


def pays(kept: int, shape: tuple[int, int]) -> bool:
    """Whether k (d_in + d_out) < d_in d_out."""
    return kept * (shape[0] + shape[1]) < shape[0] * shape[1]


def apply(
    decompositions: Decompositions, intervention: Intervention
) -> tuple[Params, list[dict[str, Any]]]:
    """New parameters after the intervention, in factors where they pay, dense elsewhere.

    Also one row per matrix: kept components (entries where the cut is by magnitude) and of how
    many, whether it is factored, numbers stored before and after. Same outputs as editing.apply
    up to float rounding. A matrix whose model stores it whole (no write_factors), or that is cut
    by magnitude, stays dense. A cut that keeps everything leaves its matrix untouched.
    """
    matrices, params = decompositions.matrices, decompositions.params
    cuts, rows = decompositions.resolve(intervention), []
    for key, mask in decompositions.stays(intervention).items():
        address = matrices[key]
        # What is stored for a product is its second matrix.
        stored = address.second if isinstance(address, ProductAddress) else address
        d_in, d_out = stored.read(params).shape
        kept = np.flatnonzero(mask)
        by_components = mask.ndim == 1 and stored.write_factors is not None
        factored = by_components and pays(len(kept), (d_in, d_out))
        if factored:
            params = address.keep_factored(params, decompositions[key], kept)
        else:
            params = editing.edit(
                params, matrices, decompositions.of([key] if mask.ndim == 1 else []), {key: mask}
            )
        rows.append(
            {
                "intervention": str(cuts[key]),
                "kept": len(kept),
                "rank": mask.size,
                "factored": factored,
                "parameters_before": d_in * d_out,
                "parameters_after": len(kept) * (d_in + d_out) if factored else d_in * d_out,
            }
        )
    return params, rows
