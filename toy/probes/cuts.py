"""Truncated models as what they share with the full one and what they do not.

A group is one or several interventions that run through one compiled function:

- Whole: edited weights, run from the lowest matrix that they touch;
- Thin: cuts of one matrix of the last layer by rank. With W = U S V^T a cut changes what W gives by
  (x U S)_K V_K^T for few components K, those kept or those dropped. The coordinates x U S are
  computed once for all cuts of the matrix, and the next matrix is folded into V_K^T: a cut of the
  attention output costs |K| d_hidden multiplications a row instead of d d_hidden.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from toy import network, transformer
from toy.layer import NO_HOOKS, Layer, Weights, unembedding
from toy.network import Stage
from toy.transformer_config import TransformerConfig
from truncation import editing, linear, notation, spectrum
from truncation.address import Address, Matrices, ProductAddress
from truncation.notation import Cut, Intervention, Key
from truncation.spectrum import Decomposition

# Cuts of the same matrices beyond this many share one compiled function, by masks instead of
# thin factors: compiling each would cost more than running it.
UNROLLED = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Whole:
    """Models of edited weights that differ from the full one from matrix `lowest` on.

    indices: which interventions. stack: their cut matrices [members, d_in, d_out], written into
    weights one after the other; None where weights are those of the one model itself.
    """

    indices: tuple[int, ...]
    config: TransformerConfig
    weights: Weights
    lowest: Key
    where: Matrices
    stack: dict[Key, Array] | None = None

    @property
    def shares_stage(self) -> bool:
        """Whether the last layer begins with what it begins with in the full model."""
        last = self.config.num_layers - 1
        return self.lowest[0] == last and network.part(self.config, self.lowest) > 0

    def lead(self, stages: Sequence[Stage], positions: Array) -> tuple[Array, Array]:
        """rows and gathered of the last layer, [members, batch, slots, d]."""

        def one(weights: Weights) -> tuple[Array, Array]:
            stage = stages[self.lowest[0]]
            found = network.lead(self.config, weights, stage, self.lowest, positions)
            return found.rows, found.gathered

        return self._each(one)

    def logits(
        self, stage: Stage, led: tuple[Array, Array] | None, score: Callable[[Array], Any]
    ) -> Any:
        """score(logits) with a leading axis of members; led: [members, ...] from `lead`."""
        if led is None:
            which = network.part(self.config, self.lowest)
            return self._each(lambda w: score(network.resume(self.config, w, stage, which)))

        def one(weights: Weights, rows: Array, gathered: Array) -> Any:
            own = stage._replace(rows=rows, gathered=gathered)
            return score(network.resume(self.config, weights, own))

        return self._each(one, *led)

    def _each(self, function: Callable, *more: Array) -> Any:
        if self.stack is None:
            found = function(self.weights, *(x[0] for x in more))
            return jax.tree.map(lambda x: x[None], found)

        def one(piece: tuple) -> Any:
            matrices, *rest = piece
            weights = self.weights
            for key, matrix in matrices.items():
                weights = _stored(self.where[key]).write(weights, matrix)
            return function(weights, *rest)

        return jax.lax.map(one, (self.stack, *more))


class Piece(NamedTuple):
    """Components start to stop of a matrix: kept, all others gone, or (sign -1) dropped.

    model: which intervention that is.
    """

    model: int
    start: int
    stop: int
    sign: int


@dataclasses.dataclass(frozen=True, eq=False)
class Thin:
    """Cuts of one matrix of the last layer, each a few of its components.

    which: the part of the layer (network.part). left [d, r]: from what that part reads to the
    coordinates. right [r, n]: from these to what it gives, and, as onward, to what comes next.
    """

    pieces: tuple[Piece, ...]
    here: Layer
    which: int
    left: Float[Array, "d r"]
    right: Float[Array, "r n"]
    onward: Float[Array, "r m"]

    @property
    def indices(self) -> tuple[int, ...]:
        """Which interventions."""
        return tuple(piece.model for piece in self.pieces)

    def logits(self, stage: Stage, score: Callable[[Array], Any]) -> Any:
        """score(logits) with a leading axis of cuts."""
        here, rows = self.here, stage.rows
        read = {
            1: stage.gathered, 2: here.reads(rows, stage.h), 3: stage.inner,
        }[self.which]  # fmt: skip
        coordinates = read @ self.left
        found = []
        for piece in self.pieces:
            few = piece.sign * coordinates[..., piece.start : piece.stop]
            kept = piece.sign > 0
            right, onward = (m[piece.start : piece.stop] for m in (self.right, self.onward))
            h, inner = stage.h, stage.inner
            if self.which == 1:
                base = here.add_attention(rows, jnp.zeros_like(rows)) if kept else stage.h
                h = base + few @ right
                inner = here.act(here.feed_in(base) + few @ onward)
            elif self.which == 2:
                change = few @ onward
                inner = here.act(change if kept else here.feed_in(read) + change)
            if self.which < 3:
                logits = here.unembed(h, inner, here.close(inner))
            elif kept:
                logits = here.pass_on(h) + few @ onward
            else:
                logits = here.unembed(h, inner, here.close(inner)) + few @ onward
            found.append(score(logits))
        return jax.tree.map(lambda *values: jnp.stack(values), *found)


def groups(
    config: TransformerConfig,
    weights: Weights,
    interventions: Sequence[Intervention],
    variants: Sequence[TransformerConfig],
) -> list[Whole | Thin]:
    """All interventions, then the variants, in groups; indices count them in this order."""
    where = transformer.matrices(config)
    resolved = [editing.resolve(i, where) for i in interventions]
    parts = _Parts(where, weights)
    found: list[Whole | Thin] = []
    for members in editing.families(resolved).values():
        keys = sorted(resolved[members[0]])
        lowest = min(keys, key=lambda key: (key[0], network.part(config, key)))
        if len(members) > UNROLLED:
            stack = _stacked([resolved[i] for i in members], where, weights, parts)
            found.append(Whole(tuple(members), config, weights, lowest, where, stack))
            continue
        thin: list[Piece] = []
        for index in members:
            piece = _thin_piece(config, index, resolved[index], where, weights)
            if piece is not None:
                thin.append(piece)
                continue
            edited = _edited(resolved[index], where, weights, parts)
            found.append(Whole((index,), config, edited, lowest, where))
        if thin:
            found.append(_thin(config, weights, keys[0], thin, parts))
    for index, other in enumerate(variants, len(resolved)):
        lowest = _first_difference(config, other)
        found.append(Whole((index,), other, weights, lowest, where))
    return found


class _Parts:
    """Decompositions, each made when it is first asked for.

    By the eigenvectors of the Gram matrix (spectrum.decompose_gram): five exact decompositions
    cost as much as the forwards of 128 sequences.
    """

    def __init__(self, where: Matrices, weights: Weights):
        self._where, self._weights = where, weights
        self._known: dict[Key, Decomposition] = {}

    def __getitem__(self, key: Key) -> Decomposition:
        """The components of a matrix."""
        if key not in self._known:
            matrix = self._where[key].read(self._weights)
            self._known[key] = spectrum.decompose_gram(matrix)
        return self._known[key]

    def shape(self, key: Key) -> tuple[int, ...]:
        """Shape of a matrix."""
        return self._where[key].read(self._weights).shape

    def of(self, cuts: Mapping[Key, Cut]) -> dict[Key, Decomposition]:
        """The decompositions that these cuts need."""
        return {key: self[key] for key in editing.by_components(cuts)}


def _thin_piece(
    config: TransformerConfig,
    index: int,
    cuts: Mapping[Key, Cut],
    where: Matrices,
    weights: Weights,
) -> Piece | None:
    """The cut as a few components, where it is one; None where whole matrices are cheaper.

    A norm or a parallel block stands between the attention output and what would be folded.
    """
    if len(cuts) > 1 or config.layer_norm or config.parallel:
        return None
    ((key, cut),) = cuts.items()
    last, which = config.num_layers - 1, network.part(config, key)
    if key[0] < last or which == 0 or cut.kind != "rank":
        return None
    if which == 1 and config.feed_forward[last] in ("none", "linear"):
        return None
    d_in, d_out = where[key].read(weights).shape
    rank = min(d_in, d_out)
    start, stop = notation.kept_places(cut, rank)
    chosen = [Piece(index, start, stop, 1)]
    if start == 0:
        chosen.append(Piece(index, stop, rank, -1))
    if stop == rank:
        chosen.append(Piece(index, 0, start, -1))
    piece = min(chosen, key=lambda piece: piece.stop - piece.start)
    worth = (piece.stop - piece.start) * (d_in + d_out) < d_in * d_out
    return piece if worth else None


def _thin(
    config: TransformerConfig,
    weights: Weights,
    key: Key,
    pieces: Sequence[Piece],
    parts: _Parts,
) -> Thin:
    here = Layer(config, weights, config.num_layers - 1, NO_HOOKS)
    which, matrices = network.part(config, key), weights["layers"][here.index]
    rank = max(piece.stop for piece in pieces)
    if rank:
        u, s, vt = parts[key]
        left, right = u[:, :rank] * s[None, :rank], vt[:rank]
    else:
        d_in, d_out = parts.shape(key)
        left, right = jnp.zeros((d_in, 0)), jnp.zeros((0, d_out))
    if which == 1:
        # From what was gathered to the coordinates, and from these to what fc_in gives.
        if key[1] == "out_proj" and config.num_heads == 1:
            left = here.through_value(left)
        if key[1] == "v_proj":
            right = _times(right, matrices["out_proj"])
        onward = _times(right, matrices["fc_in"])
    else:
        onward = _times(right, unembedding(config, weights)) if which == 3 else right
    return Thin(tuple(pieces), here, which, left, right, onward)


def _times(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision=linear.PRECISE)


def _stored(address: Address) -> Address:
    """What is written when this matrix is cut: of a product, its second factor."""
    return address.second if isinstance(address, ProductAddress) else address


def _stacked(
    members: Sequence[Mapping[Key, Cut]], where: Matrices, weights: Weights, parts: _Parts
) -> dict[Key, Array]:
    """The cut matrices [members, d_in, d_out] of each key."""
    known = parts.of(members[0])

    def one(masks: dict[Key, Array]) -> dict[Key, Array]:
        edited = editing.edit(weights, where, known, masks)
        return {key: _stored(where[key]).read(edited) for key in masks}

    def mask(key: Key, cut: Cut) -> Array:
        return editing.mask_of(cut, where[key].read(weights), known.get(key))

    masks = {key: jnp.stack([mask(key, cuts[key]) for cuts in members]) for key in members[0]}
    return jax.lax.map(one, masks)


def _edited(cuts: Mapping[Key, Cut], where: Matrices, whole: Weights, parts: _Parts) -> Weights:
    """The weights of one intervention: thin factors where these are cheaper than the matrix."""
    weights, known = whole, parts.of(cuts)
    for key, cut in cuts.items():
        address = where[key]
        d_in, d_out = address.read(whole).shape
        start, stop = notation.kept_places(cut, min(d_in, d_out))
        if cut.kind == "rank" and (stop - start) * (d_in + d_out) < d_in * d_out:
            weights = address.keep_factored(weights, known[key], np.arange(start, stop))
        else:
            mask = {key: editing.mask_of(cut, address.read(whole), known.get(key))}
            weights = editing.edit(weights, where, known, mask)
    return weights


def variant(config: TransformerConfig, name: str) -> TransformerConfig:
    """The options of a variant: no_relu (in all layers), LAYER.no_relu, or no_last_residual.

    Raises ValueError where the name is unknown or changes nothing.
    """
    last = config.num_layers - 1
    layer, _, what = name.rpartition(".")
    if what == "no_relu" and (not layer or layer.isdigit()):
        chosen = [int(layer)] if layer else range(config.num_layers)
        kinds = [
            "linear_mlp" if kind == "mlp" and index in chosen else kind
            for index, kind in enumerate(config.feed_forward)
        ]
        if tuple(kinds) != config.feed_forward:
            return dataclasses.replace(config, feed_forward=tuple(kinds))  # type: ignore[arg-type]
    if name == "no_last_residual" and config.feed_forward[last] == "none" and config.last_residual:
        return dataclasses.replace(config, last_residual=False)
    raise ValueError(
        f"variant {name!r} is none of no_relu, LAYER.no_relu, no_last_residual of this model"
    )


def _first_difference(config: TransformerConfig, other: TransformerConfig) -> Key:
    """The matrix before which two variants are the same."""
    for layer, (one, two) in enumerate(zip(config.feed_forward, other.feed_forward, strict=True)):
        if one != two:
            return layer, "fc_in"
    return config.num_layers - 1, "out_proj"
