"""Interventions on weight matrices: one notation, and new parameters out.

    LAYER.MATRIX@RHO [ + LAYER.MATRIX@RHO ... ]

LAYER counts from 0. MATRIX is one of q_proj k_proj v_proj out_proj fc_in fc_out, the
product ov (values times output projection, cut as one matrix), or a group: attn
(q_proj k_proj v_proj out_proj), mlp (fc_in fc_out), all. RHO is

    0.1      keep the largest floor(0.1 r) singular values, r = min(d_in, d_out)
    -0.1     drop the largest floor(0.1 r) and keep the rest: the complement of 0.1
    0.1:0.5  keep ranks floor(0.1 r) up to floor(0.5 r), a band
    auto     keep what rises above the Gavish-Donoho threshold of white noise

Examples: 1.fc_in@0.1, 1.mlp@0 (no second feed-forward), 1.fc_out@-0.02+1.ov@0.2.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from truncation import spectrum
from truncation.address import Address as Address
from truncation.address import Key, Matrices, Params
from truncation.address import ProductAddress as ProductAddress
from truncation.address import at_path as at_path
from truncation.address import product as product

GROUPS = {
    "attn": ("q_proj", "k_proj", "v_proj", "out_proj"),
    "mlp": ("fc_in", "fc_out"),
    "all": ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out"),
}
MATRICES = (*GROUPS["all"], "ov")


@dataclasses.dataclass(frozen=True)
class Cut:
    """One LAYER.MATRIX@RHO; keeps the ranks from floor(start r) up to floor(stop r).

    automatic is the RHO `auto`: start and stop then have no meaning.
    """

    layer: int
    matrix: str
    start: Fraction
    stop: Fraction
    automatic: bool = False

    def __str__(self) -> str:
        """The notation that parses back to this cut."""
        return f"{self.layer}.{self.matrix}@{self._rho()}"

    def _rho(self) -> str:
        if self.automatic:
            return "auto"
        if self.start == 0:
            return _decimal(self.stop)
        if self.stop == 1:
            return "-" + _decimal(self.start)
        return f"{_decimal(self.start)}:{_decimal(self.stop)}"


@dataclasses.dataclass(frozen=True)
class Intervention:
    """Cuts applied together, at most one per matrix."""

    cuts: tuple[Cut, ...]

    def __str__(self) -> str:
        """The notation that parses back to this intervention."""
        return "+".join(map(str, self.cuts))


def _decimal(value: Fraction) -> str:
    return f"{float(value):g}"


def _fraction(text: str, whole: str) -> Fraction:
    # Fractions of decimal text, not floats: 0.29 of 100 ranks is 29, never 28.
    if not re.fullmatch(r"\d+(\.\d*)?([eE]-?\d+)?|\.\d+([eE]-?\d+)?", text):
        raise ValueError(f"intervention {whole!r}: RHO {text!r} is not a number in [0, 1]")
    value = Fraction(text)
    if not 0 <= value <= 1:
        raise ValueError(f"intervention {whole!r}: RHO {text} is outside [0, 1]")
    return value


def _parse_cut(text: str) -> Cut:
    match = re.fullmatch(r"(\d+)\.([a-z_]+)@(\S+)", text.strip())
    if not match:
        raise ValueError(f"intervention {text!r}: expected LAYER.MATRIX@RHO, as in 1.fc_in@0.1")
    layer, matrix, rho = int(match[1]), match[2], match[3]
    if matrix not in MATRICES and matrix not in GROUPS:
        known = " ".join((*MATRICES, *GROUPS))
        raise ValueError(f"intervention {text!r}: unknown matrix {matrix!r}; known are {known}")
    if rho == "auto":
        return Cut(layer, matrix, Fraction(0), Fraction(1), automatic=True)
    if rho.startswith("-"):
        return Cut(layer, matrix, _fraction(rho[1:], text), Fraction(1))
    start, colon, stop = rho.partition(":")
    if not colon:
        return Cut(layer, matrix, Fraction(0), _fraction(rho, text))
    band = Cut(layer, matrix, _fraction(start, text), _fraction(stop, text))
    if band.start > band.stop:
        raise ValueError(f"intervention {text!r}: the band {rho} runs backwards")
    return band


def parse(text: str) -> Intervention:
    """Read the notation of this module; ValueError names what is wrong."""
    return Intervention(tuple(_parse_cut(part) for part in text.split("+")))


def resolve(intervention: Intervention, matrices: Matrices) -> dict[Key, Cut]:
    """The matrices an intervention touches, groups expanded.

    Raises ValueError where the model has no such layer or matrix, and where one matrix
    would be cut twice. A group stands for those of its matrices that the layer has.
    """
    layers = sorted({layer for layer, _ in matrices})
    cuts: dict[Key, Cut] = {}
    for cut in intervention.cuts:
        if cut.layer not in layers:
            raise ValueError(f"intervention {cut}: the model has layers {layers[0]}-{layers[-1]}")
        members = GROUPS.get(cut.matrix, (cut.matrix,))
        keys = [(cut.layer, name) for name in members if (cut.layer, name) in matrices]
        if not keys:
            present = " ".join(name for layer, name in matrices if layer == cut.layer)
            raise ValueError(f"intervention {cut}: layer {cut.layer} has only {present}")
        for key in keys:
            if key in cuts:
                raise ValueError(f"intervention {intervention}: {key[0]}.{key[1]} is cut twice")
            cuts[key] = dataclasses.replace(cut, matrix=key[1])
    for layer, name in cuts:
        for part in matrices[layer, name].parts:
            if (layer, part) in cuts:
                raise ValueError(
                    f"intervention {intervention}: {layer}.{name} is made of {layer}.{part}, "
                    "which is cut too"
                )
    return cuts


def keep_top(layer: int, matrix: str, kept: int, rank: int) -> Cut:
    """The cut that keeps the largest `kept` of `rank` components, with the shortest RHO."""
    if not 0 <= kept <= rank:
        raise ValueError(f"kept {kept}: expected 0 to {rank}")
    for digits in range(10):
        stop = Fraction(-(-kept * 10**digits // rank), 10**digits)
        if int(stop * rank) == kept:
            return Cut(layer, matrix, Fraction(0), min(stop, Fraction(1)))
    raise ValueError(f"rank {rank}: too large for a decimal RHO")


def kept_ranks(cut: Cut, rank: int) -> tuple[int, int]:
    """First kept rank and the first beyond the band, of `rank` = min(d_in, d_out)."""
    return int(cut.start * rank), int(cut.stop * rank)


def keep_mask(
    cut: Cut, singular_values: Float[Array, "*batch r"], shape: tuple[int, ...]
) -> Float[Array, "*batch r"]:
    """One where a component stays and zero where it goes; shape is the matrix's own."""
    if cut.automatic:
        threshold = spectrum.gavish_donoho_threshold(singular_values, (shape[0], shape[1]))
        return (singular_values > threshold[..., None]).astype(singular_values.dtype)
    start, stop = kept_ranks(cut, min(shape))
    ranks = np.arange(min(shape))
    mask = jnp.asarray((ranks >= start) & (ranks < stop), singular_values.dtype)
    return jnp.broadcast_to(mask, singular_values.shape)


def require_finite(params: Params, matrices: Matrices, keys: Sequence[Key]) -> None:
    """ValueError naming the first of these matrices that holds NaN or infinity."""
    for layer, name in keys:
        if not bool(jnp.all(jnp.isfinite(matrices[layer, name].read(params)))):
            raise ValueError(f"matrix {layer}.{name} holds NaN or infinity: it has no spectrum")


def decompose_all(
    params: Params, matrices: Matrices, keys: Sequence[Key]
) -> dict[Key, spectrum.Decomposition]:
    """One exact SVD per matrix, to be kept and used for every candidate."""
    return {key: spectrum.decompose(matrices[key].read(params)) for key in keys}


def edit(
    params: Params,
    matrices: Matrices,
    decompositions: Mapping[Key, spectrum.Decomposition],
    masks: Mapping[Key, Float[Array, " r"]],
) -> Params:
    """New parameters in which matrix `key` keeps sum_i masks[key]_i sigma_i u_i v_i^T."""
    for key, mask in masks.items():
        params = matrices[key].keep(params, decompositions[key], mask)
    return params


def apply(params: Params, intervention: Intervention | str, matrices: Matrices) -> Params:
    """New parameters after one intervention; RHO 1 and absent matrices are left to the bit."""
    if isinstance(intervention, str):
        intervention = parse(intervention)
    cuts = resolve(intervention, matrices)
    decompositions = decompose_all(params, matrices, list(cuts))
    masks = {
        key: keep_mask(cut, decompositions[key].s, matrices[key].read(params).shape)
        for key, cut in cuts.items()
    }
    return edit(params, matrices, decompositions, masks)


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
    families: dict[tuple[Key, ...], list[int]] = {}
    for index, cuts in enumerate(resolved):
        families.setdefault(tuple(sorted(cuts)), []).append(index)
    touched = sorted({key for family in families for key in family})
    decompositions = decompose_all(params, matrices, touched)

    order: list[int] = []
    results = []
    for keys, members in families.items():
        masks = {
            key: jnp.stack(
                [
                    keep_mask(
                        resolved[index][key],
                        decompositions[key].s,
                        matrices[key].read(params).shape,
                    )
                    for index in members
                ]
            )
            for key in keys
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
