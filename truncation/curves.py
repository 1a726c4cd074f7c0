"""Many interventions inside one compiled program: whole curves over rho along training."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from truncated_weights.truncation import kept
from truncated_weights.truncation.address import Matrices, Params
from truncated_weights.truncation.editing import (
    by_components,
    decompose_all,
    edit,
    families,
    resolve,
)
from truncated_weights.truncation.notation import Intervention, Key


def evaluate_all(
    evaluate: Callable[[Params], Any],
    params: Params,
    interventions: Sequence[Intervention],
    matrices: Matrices,
    *,
    at_once: int = 64,
) -> Any:
    """evaluate(params') for every intervention, stacked on a new leading axis; jit-able.

    Interventions on the same set of matrices are one vectorised call, so a whole curve
    over rho costs one SVD per matrix, and whatever of `evaluate` does not depend on the
    edited matrices (the layers below) is computed once per call. at_once bounds how many
    edited models are evaluated side by side, and so the memory. Results in the order given.
    """
    resolved = [resolve(intervention, matrices) for intervention in interventions]
    if measured := [str(cut) for cuts in resolved for cut in cuts.values() if cut.metric]:
        raise ValueError(f"{measured[0]}: a curve inside a program has no moments of the data")
    touched = sorted({key for cuts in resolved for key in by_components(cuts)})
    decompositions = decompose_all(params, matrices, touched)

    order: list[int] = []
    results = []
    for name, members in families(resolved).items():
        masks = {
            key: jnp.stack(
                [
                    kept.mask(
                        resolved[index][key], matrices[key].read(params), decompositions.get(key)
                    )
                    for index in members
                ]
            )
            for key, _ in name
        }

        def one(masks: dict[Key, Array]) -> Any:
            return evaluate(edit(params, matrices, decompositions, masks))

        if len(members) <= at_once:
            results.append(jax.vmap(one)(masks))
        else:
            results.append(jax.lax.map(one, masks, batch_size=at_once))
        order.extend(members)
    restore = np.argsort(np.asarray(order))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[restore], *results)
