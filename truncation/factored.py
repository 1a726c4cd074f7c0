"""Interventions stored as two thin factors where that is smaller.

With K the k components kept,

    sum_{i in K} sigma_i u_i v_i^T = (U_K S_K^1/2) (S_K^1/2 V_K^T)         [d_in, k] [k, d_out]
    x W_K = (x U_K S_K^1/2) (S_K^1/2 V_K^T)

and of a product A B, of which B is what is stored, B V_K V_K^T = (B V_K) (V_K^T). The factors hold
k (d_in + d_out) numbers for d_in d_out, and take as many multiplications for each input x, so that
both memory and time are less where k < d_in d_out / (d_in + d_out).
"""

from typing import Any

import numpy as np

from truncated_weights.truncation import editing
from truncated_weights.truncation.address import Params, ProductAddress
from truncated_weights.truncation.notation import Intervention
from truncated_weights.truncation.search.decompositions import Decompositions


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
    for key, mask in decompositions.kept(intervention).items():
        address = matrices[key]
        # What is stored for a product is its second matrix.
        stored = address.second if isinstance(address, ProductAddress) else address
        d_in, d_out = stored.read(params).shape
        kept = int(np.count_nonzero(mask))
        by_components = mask.ndim == 1 and stored.write_factors is not None
        factored = by_components and pays(kept, (d_in, d_out))
        if factored:
            params = address.keep_factored(params, decompositions[key], np.asarray(mask))
        else:
            params = editing.edit(
                params, matrices, decompositions.of([key] if mask.ndim == 1 else []), {key: mask}
            )
        rows.append(
            {
                "intervention": str(cuts[key]),
                "kept": kept,
                "rank": mask.size,
                "factored": factored,
                "parameters_before": d_in * d_out,
                "parameters_after": kept * (d_in + d_out) if factored else d_in * d_out,
            }
        )
    return params, rows
