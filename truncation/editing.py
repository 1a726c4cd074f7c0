"""Cutting: an intervention resolved against a model's matrices, and new parameters out.

What stays of a matrix is a mask (truncation/kept.py).
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import jax.numpy as jnp

from truncated_weights.truncation import kept, metrics, spectrum
from truncated_weights.truncation.address import Matrices, Params, SummedProductAddress
from truncated_weights.truncation.kept import Mask
from truncated_weights.truncation.metrics import Moments
from truncated_weights.truncation.notation import EVERY, GROUPS, Cut, Intervention, Key, parse
from truncated_weights.truncation.spectrum import Decomposition


def resolve(intervention: Intervention, matrices: Matrices) -> dict[Key, Cut]:
    """The matrices an intervention touches: groups, * and negative layers made plain.

    Raises ValueError where the model has no such layer or matrix, and where one matrix
    would be cut twice. A group stands for those of its matrices that the layer has.
    """
    cuts: dict[Key, Cut] = {}
    for cut in intervention.cuts:
        for key in _keys_of(cut, matrices):
            if key in cuts:
                raise ValueError(f"intervention {intervention}: {key[0]}.{key[1]} is cut twice")
            cuts[key] = dataclasses.replace(cut, layer=key[0], matrix=key[1])
    for (layer, name), cut in cuts.items():
        if matrices[layer, name].parts and not cut.by_components:
            raise ValueError(f"intervention {cut}: a product has no entries of its own to keep")
        if isinstance(matrices[layer, name], SummedProductAddress) and cut.metric:
            raise ValueError(f"intervention {cut}: no single input feeds this sum over heads")
        if matrices[layer, name].parts and cut.metric == "fisher":
            raise ValueError(f"intervention {cut}: of a product, whitened is the one metric")
        for part in matrices[layer, name].parts:
            if (layer, part) in cuts:
                raise ValueError(
                    f"intervention {intervention}: {layer}.{name} is made of {layer}.{part}, "
                    "which is cut too"
                )
    return cuts


def _keys_of(cut: Cut, matrices: Matrices) -> list[Key]:
    """The matrices one cut stands for."""
    layers = sorted({layer for layer, _ in matrices})
    members = GROUPS.get(cut.matrix, (cut.matrix,))
    if cut.layer == EVERY:
        keys = [(n, name) for n in layers for name in members if (n, name) in matrices]
        if not keys:
            raise ValueError(f"intervention {cut}: no layer has {' '.join(members)}")
        return keys
    assert isinstance(cut.layer, int)
    layer = cut.layer if cut.layer >= 0 else layers[-1] + 1 + cut.layer
    if layer not in layers:
        raise ValueError(f"intervention {cut}: the model has layers {layers[0]}-{layers[-1]}")
    keys = [(layer, name) for name in members if (layer, name) in matrices]
    if not keys:
        present = " ".join(name for other, name in matrices if other == layer)
        raise ValueError(f"intervention {cut}: layer {layer} has only {present}")
    return keys


def require_fractions(params: Params, matrices: Matrices, keys: Iterable[Key]) -> None:
    """ValueError naming the first of these matrices that is not stored in floating point.

    What a cut leaves are fractions: integers and truth values would be rounded to rubbish.
    """
    for layer, name in keys:
        for one in matrices[layer, name].stored:
            dtype = one.read(params).dtype
            if not jnp.issubdtype(dtype, jnp.inexact):
                raise ValueError(
                    f"matrix {layer}.{name} at {one.path or 'its place'} is {dtype}, which cannot "
                    "hold what a cut leaves; convert it to a floating-point dtype first"
                )


def require_finite(params: Params, matrices: Matrices, keys: Sequence[Key]) -> None:
    """ValueError naming the first of these matrices that holds NaN or infinity, or no fractions."""
    require_fractions(params, matrices, keys)
    for layer, name in keys:
        if not bool(jnp.all(jnp.isfinite(matrices[layer, name].read(params)))):
            raise ValueError(f"matrix {layer}.{name} holds NaN or infinity: it has no spectrum")


def decompose_all(
    params: Params, matrices: Matrices, keys: Iterable[Key]
) -> dict[Key, Decomposition]:
    """One exact SVD per matrix, to be kept and used for every candidate."""
    keys = list(keys)
    require_fractions(params, matrices, keys)
    return {key: spectrum.decompose(matrices[key].read(params)) for key in keys}


def edit(
    params: Params,
    matrices: Matrices,
    decompositions: Mapping[Key, Decomposition],
    masks: Mapping[Key, Mask],
) -> Params:
    """New parameters in which every matrix keeps what its mask keeps.

    A mask [r] leaves sum_i mask_i sigma_i u_i v_i^T, a mask [d_in, d_out] the entries under it.
    Raises ValueError for a matrix that is not in floating point.
    """
    require_fractions(params, matrices, masks)
    for key, mask in masks.items():
        address = matrices[key]
        if mask.ndim == 2:
            params = address.write(params, address.read(params) * mask)
        else:
            params = address.keep(params, decompositions[key], mask)
    return params


def apply(
    params: Params,
    intervention: Intervention | str,
    matrices: Matrices,
    moments: Mapping[Key, Moments] | None = None,
) -> Params:
    """New parameters after one intervention; RHO 1 and absent matrices are left to the bit.

    moments: those of the matrices that are cut in a metric of the data. Raises ValueError where
    they are missing.
    """
    if isinstance(intervention, str):
        intervention = parse(intervention)
    cuts = resolve(intervention, matrices)
    params = keep_curved(params, matrices, cuts, moments)
    decompositions = {
        key: decompose(params, matrices, cuts[key], moments) for key in by_components(cuts)
    }
    masks = {
        key: kept.mask(cut, matrices[key].read(params), decompositions.get(key))
        for key, cut in cuts.items()
        if cut.kind != "kfac"
    }
    return edit(params, matrices, decompositions, masks)


def decompose(
    params: Params, matrices: Matrices, cut: Cut, moments: Mapping[Key, Moments] | None
) -> Decomposition:
    """The components that a cut by components counts; ValueError where moments are missing."""
    key = int(cut.layer), cut.matrix
    require_fractions(params, matrices, [key])
    matrix = matrices[key].read(params)
    if cut.metric:
        return metrics.decompose(matrix, cut.metric, metrics.of(moments, cut))
    return spectrum.decompose(matrix)


def keep_curved(
    params: Params,
    matrices: Matrices,
    cuts: Mapping[Key, Cut],
    moments: Mapping[Key, Moments] | None,
) -> Params:
    """New parameters after those of the cuts that are by kfac's entries."""
    for key, cut in cuts.items():
        if cut.kind == "kfac":
            require_fractions(params, matrices, [key])
            matrix = matrices[key].read(params)
            params = matrices[key].write(
                params, metrics.kfac(matrix, cut, metrics.of(moments, cut))
            )
    return params


def by_components(cuts: Mapping[Key, Cut]) -> Sequence[Key]:
    """The matrices of these cuts that need a decomposition."""
    return [key for key, cut in cuts.items() if cut.by_components]


def families(cuts: Sequence[Mapping[Key, Cut]]) -> dict[tuple[tuple[Key, str], ...], list[int]]:
    """Indices of interventions that touch the same matrices in the same way.

    Their masks are over the same parts, so that they can be stacked. A name is the sorted
    matrices, each with what its parts are: components by size or in a metric, or entries.
    """
    found: dict[tuple[tuple[Key, str], ...], list[int]] = {}
    for index, one in enumerate(cuts):
        name = tuple(
            sorted((key, cut.metric or str(cut.by_components)) for key, cut in one.items())
        )
        found.setdefault(name, []).append(index)
    return found
