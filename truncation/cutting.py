"""Cutting the matrices of any model in one call.

params = truncation.cut(params, "3.fc_in@0.1", {"fc_in": "params/layers_{layer}/wi/kernel"})
"""

from collections.abc import Mapping

from truncated_weights.truncation import editing, leaves
from truncated_weights.truncation.address import Params
from truncated_weights.truncation.leaves import Where
from truncated_weights.truncation.metrics import Moments
from truncated_weights.truncation.notation import Intervention, Key, parse


def cut(
    params: Params,
    intervention: str | Intervention,
    where: Where,
    *,
    moments: Mapping[Key, Moments] | None = None,
) -> Params:
    """New parameters after an intervention; those given stay as they are.

    params is any pytree of arrays: nested dicts of Flax linen, an nnx.State, a module; where
    says which of its leaves are matrices (truncation/leaves.py). The notation is that of
    truncation/notation.py: "0.fc_in@0.1", "*.mlp@magnitude:0.5", "-1.q_proj@auto". moments, by
    (layer, matrix) counted from 0, are needed where components are measured by data,
    "1.fc_in@whitened:0.1" (truncation.moments makes them). Leaves that
    are not cut are shared with the old tree. Raises ValueError where the notation or a path is
    wrong and where a matrix holds NaN, infinity, integers or truth values.
    """
    matrices = leaves.matrices(params, where)
    chosen = parse(intervention) if isinstance(intervention, str) else intervention
    editing.require_finite(params, matrices, list(editing.resolve(chosen, matrices)))
    return editing.apply(params, chosen, matrices, moments)
