"""What a component says: the directions a matrix writes, read through the unembedding.

Of a matrix that writes to the residual stream (fc_out, out_proj, ov), W = sum_i sigma_i u_i v_i^T
adds sigma_i (u_i . x) v_i for an input x, which moves the logits along v_i^T R, R the readout.
A singular vector has no sign of its own: without an input, both ends are told; with a mean input
x, the end that it is pushed to. Nor has it a direction of its own where singular values are
equal: then only the space of all of them means something, and rows say which ones these are.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from truncated_weights.truncation import degenerate
from truncated_weights.truncation.finite import NotFiniteError
from truncated_weights.truncation.spectrum import Decomposition

# Values closer than this share of the largest are told: a rotation by 1 / gap of the matrix's
# noise mixes them, long before they are equal to rounding.
NEAR = 1e-2


def decode(
    parts: Decomposition,
    readout: Float[np.ndarray, "d_out tokens"],
    *,
    mean_input: Float[np.ndarray, " d_in"] | None = None,
    components: Sequence[int] | None = None,
    top: int = 5,
    near: float = NEAR,
) -> list[dict[str, Any]]:
    """One row per component (the first eight, unless told) and end: the tokens it raises most.

    parts belong to a matrix [d_in, d_out] whose output is read by readout: the unembedding, with
    the scale of a final norm multiplied in. Rows hold component, singular_value, energy (its
    share of sum sigma^2), near ("3-5" where singular values 3 to 5 are closer than `near` times
    the largest, else ""), end ("+" or "-", the sign of v_i), strength (sigma |u_i . x|, with
    mean_input only), tokens and logits (v_i^T R, per unit of what is written). Raises ValueError
    where the shapes do not fit or a component does not exist.
    """
    u, s, vt = (np.asarray(part, np.float64) for part in parts)
    if vt.shape[1] != len(readout):
        raise ValueError(f"readout: {len(readout)} rows, but the matrix writes {vt.shape[1]}")
    if mean_input is not None and mean_input.shape != (len(u),):
        raise ValueError(f"mean_input: {mean_input.shape}, but the matrix reads {len(u)}")
    for name, array in (("readout", readout), ("mean_input", mean_input)):
        if array is not None and not np.isfinite(array).all():
            raise NotFiniteError(f"{name}: it is not finite, so nothing is the largest of it")
    chosen = range(min(8, len(s))) if components is None else components
    if any(not 0 <= index < len(s) for index in chosen):
        raise ValueError(f"components: the matrix has 0 to {len(s) - 1}")
    runs = {
        index: (start, stop)
        for start, stop in degenerate.groups(s, tolerance=near)
        for index in range(start, stop)
    }
    total = float(np.sum(s**2)) or 1.0
    rows: list[dict[str, Any]] = []
    for index in chosen:
        start, stop = runs[index]
        about: dict[str, Any] = {
            "component": index,
            "singular_value": float(s[index]),
            "energy": float(s[index] ** 2) / total,
            "near": f"{start}-{stop - 1}" if stop - start > 1 else "",
        }
        logits = vt[index] @ np.asarray(readout, np.float64)
        ends = [("+", 1.0), ("-", -1.0)]
        if mean_input is not None:
            push = float(u[:, index] @ mean_input)
            ends = ends[:1] if push >= 0 else ends[1:]
            about["strength"] = float(s[index]) * abs(push)
        for end, sign in ends:
            order = np.argsort(-sign * logits, kind="stable")[:top]
            rows.append(
                about
                | {
                    "end": end,
                    "tokens": order.tolist(),
                    "logits": (sign * logits[order]).tolist(),
                }
            )
    return rows
