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
from truncated_weights.truncation.notation import Cut, Intervention, kept_band
from truncated_weights.truncation.search.decompositions import Decompositions


def pays(kept: int, shape: tuple[int, int]) -> bool:
    """Whether k (d_in + d_out) < d_in d_out."""
    return kept * (shape[0] + shape[1]) < shape[0] * shape[1]


def apply(
    decompositions: Decompositions, intervention: Intervention
) -> tuple[Params, list[dict[str, Any]]]:
    """New parameters after the intervention, in factors where they pay, dense elsewhere.

    Also one row per matrix: kept components (entries where the cut is by those) and of how
    many, whether it is factored, numbers stored before and after. Same outputs as editing.apply
    up to float rounding. A matrix whose model stores it whole (no write_factors), or that is cut
    by entries, stays dense. A cut that keeps everything leaves its matrix untouched.
    """
    matrices, rows = decompositions.matrices, []
    cuts = decompositions.resolve(intervention)
    params = editing.keep_curved(decompositions.params, matrices, cuts, decompositions.moments)
    masks = decompositions.kept(intervention)
    for key, cut in cuts.items():
        address = matrices[key]
        if key not in masks:
            size = address.read(params).size
            start, stop = kept_band(cut, size)
            rows.append(_row(cut, stop - start, size, False, size, size))
            continue
        mask = masks[key]
        # What is stored for a product is its second matrix.
        stored = address.second if isinstance(address, ProductAddress) else address
        d_in, d_out = stored.read(params).shape
        kept = int(np.count_nonzero(mask))
        by_components = mask.ndim == 1 and stored.write_factors is not None
        factored = by_components and pays(kept, (d_in, d_out))
        components = {key: decompositions.components(cut)} if mask.ndim == 1 else {}
        if factored:
            params = address.keep_factored(params, components[key], np.asarray(mask))
        else:
            params = editing.edit(params, matrices, components, {key: mask})
        after = kept * (d_in + d_out) if factored else d_in * d_out
        rows.append(_row(cut, kept, mask.size, factored, d_in * d_out, after))
    return params, rows


def _row(cut: Cut, kept: int, rank: int, factored: bool, before: int, after: int) -> dict[str, Any]:
    return {
        "intervention": str(cut),
        "kept": kept,
        "rank": rank,
        "factored": factored,
        "parameters_before": before,
        "parameters_after": after,
    }
