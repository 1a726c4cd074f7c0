"""Truncated models as what they share with the full one and what they do not.

W = U S V^T, K the components kept of a matrix of the last layer and D those dropped:

    x W[K]  =  (x U S)[K] V[K]^T  =  x W - (x U S)[D] V[D]^T

Exact, and one of the two is short where K or D is. The next matrix M, if no nonlinearity stands
between, is multiplied into the right factor once:

    x W[K] M  =  (x U S)[K] (V[K]^T M)

M is fc_in behind an attention output and W_U behind the last matrix of a feed-forward. All cuts
of W share what W reads, x W, x W M and the coordinates x U S. A row then costs |K| (d + d_hidden)
multiplications for a cut of the attention output, where the edited matrix costs d (d + d_hidden).
What comes after, logits and scores, is computed for each cut as the plain way does.

A group is one or several interventions that run through one compiled function:

- EditedWeights: any edit, run from the first matrix that it changes (network.branch); saved is
  what comes before;
- FewComponents: cuts by rank of one matrix of the last layer, each by K or D as above.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from truncated_weights.toy import network, transformer
from truncated_weights.toy.layer import NO_HOOKS, Layer, Weights, unembedding
from truncated_weights.toy.network import Part, Stage
from truncated_weights.toy.transformer_config import TransformerConfig
from truncated_weights.truncation import editing, kept, linear, notation, spectrum
from truncated_weights.truncation.address import Address, Matrices, ProductAddress
from truncated_weights.truncation.notation import Cut, Intervention, Key
from truncated_weights.truncation.spectrum import Decomposition

# Cuts of the same matrices beyond this many share one compiled function, by masks instead of
# a few components each: compiling each would cost more than running it.
UNROLLED = 4


@dataclasses.dataclass(frozen=True, eq=False)
class EditedWeights:
    """Models of edited weights, run from `first` on, the first matrix that is edited.

    indices: which interventions. stack: their cut matrices [members, d_in, d_out], written into
    weights one after the other; None where weights are those of the one model itself.
    """

    indices: tuple[int, ...]
    config: TransformerConfig
    weights: Weights
    first: Key
    where: Matrices
    stack: dict[Key, Array] | None = None

    @property
    def shares_gathered(self) -> bool:
        """Whether rows and gathered of the last layer are those of the full model."""
        last = self.config.num_layers - 1
        return self.first[0] == last and self._part > Part.PATTERN

    @property
    def _part(self) -> Part:
        return network.part_of(self.config, self.first)

    def gathered(self, stages: Sequence[Stage], positions: Array) -> tuple[Array, Array]:
        """rows and gathered of the last layer, [members, batch, slots, d].

        stages: of all layers of the full model, from network.suffix_and_stages.
        """

        def one(weights: Weights) -> tuple[Array, Array]:
            stage = stages[self.first[0]]
            found = network.branch(self.config, weights, stage, self.first, positions)
            return found.rows, found.gathered

        return self._each(one)

    def logits(
        self, stage: Stage, own: tuple[Array, Array] | None, score: Callable[[Array], Any]
    ) -> Any:
        """score(logits) with a leading axis of members.

        stage: of the last layer of the full model. own: rows and gathered of these models,
        [members, ...] from `gathered`; None where they share those of the full model.
        """
        if own is None:
            return self._each(
                lambda w: score(network.logits_from(self.config, w, stage, self._part))
            )

        def one(weights: Weights, rows: Array, gathered: Array) -> Any:
            edited = stage._replace(rows=rows, gathered=gathered)
            return score(network.logits_from(self.config, weights, edited))

        return self._each(one, *own)

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


class Span(NamedTuple):
    """Components start to stop of a matrix: all that is kept of it, or all that is dropped.

    intervention: its place among all.
    """

    intervention: int
    start: int
    stop: int
    dropped: bool

    @property
    def size(self) -> int:
        """How many components that is."""
        return self.stop - self.start


@dataclasses.dataclass(frozen=True, eq=False)
class FewComponents:
    """Cuts of one matrix of the last layer, each by the few components that it keeps or drops.

    part: where the matrix stands. left [d, r], U S: from what that part reads to the coordinates.
    right [r, n], V^T: from these to what the part gives. onward [r, m], V^T M: the next matrix
    multiplied in, or `right` where there is none to multiply.
    """

    spans: tuple[Span, ...]
    here: Layer
    part: Part
    left: Float[Array, "d r"]
    right: Float[Array, "r n"]
    onward: Float[Array, "r m"]

    @property
    def indices(self) -> tuple[int, ...]:
        """Which interventions."""
        return tuple(span.intervention for span in self.spans)

    def logits(self, stage: Stage, score: Callable[[Array], Any]) -> Any:
        """score(logits) with a leading axis of cuts; stage: of the last layer, full model."""
        here, rows = self.here, stage.rows
        read = {
            Part.OUTPUT: stage.gathered,
            Part.FEED_FORWARD: here.feed_forward_input(rows, stage.h),
            Part.LAST_MATRIX: stage.inner,
        }[self.part]
        coordinates = read @ self.left
        found = []
        for span in self.spans:
            few = coordinates[..., span.start : span.stop]
            few = -few if span.dropped else few
            right, onward = (m[span.start : span.stop] for m in (self.right, self.onward))
            h, inner = stage.h, stage.inner
            if self.part == Part.OUTPUT:
                base = stage.h if span.dropped else here.add_attention(rows, jnp.zeros_like(rows))
                h = base + few @ right
                inner = here.nonlinearity(here.fc_in_output(base) + few @ onward)
            elif self.part == Part.FEED_FORWARD:
                change = few @ onward
                whole = here.fc_in_output(read) + change if span.dropped else change
                inner = here.nonlinearity(whole)
            if self.part < Part.LAST_MATRIX:
                logits = here.unembed(h, inner, here.from_inner(inner))
            elif span.dropped:
                logits = here.unembed(h, inner, here.from_inner(inner)) + few @ onward
            else:
                logits = here.residual_logits(h) + few @ onward
            found.append(score(logits))
        return jax.tree.map(lambda *values: jnp.stack(values), *found)


def groups(
    config: TransformerConfig,
    weights: Weights,
    interventions: Sequence[Intervention],
    variants: Sequence[TransformerConfig],
) -> list[EditedWeights | FewComponents]:
    """All interventions, then the variants, in groups; indices count them in this order."""
    where = transformer.matrices(config)
    resolved = [editing.resolve(i, where) for i in interventions]
    if measured := [cut for cuts in resolved for cut in cuts.values() if cut.metric]:
        raise ValueError(
            f"intervention {measured[0]}: records along training have no moments of the data; "
            "cut a finished run with the program truncate"
        )
    decompositions = _Decompositions(where, weights)
    found: list[EditedWeights | FewComponents] = []
    for members in editing.families(resolved).values():
        keys = sorted(resolved[members[0]])
        first = min(keys, key=lambda key: (key[0], network.part_of(config, key)))
        if len(members) > UNROLLED:
            stack = _stacked([resolved[i] for i in members], where, weights, decompositions)
            found.append(EditedWeights(tuple(members), config, weights, first, where, stack))
            continue
        spans: list[Span] = []
        for index in members:
            span = _span(config, index, resolved[index], where, weights)
            if span is not None:
                spans.append(span)
                continue
            edited = _edited(resolved[index], where, weights, decompositions)
            found.append(EditedWeights((index,), config, edited, first, where))
        if spans:
            found.append(_few_components(config, weights, keys[0], spans, decompositions))
    for index, other in enumerate(variants, len(resolved)):
        first = _first_difference(config, other)
        found.append(EditedWeights((index,), other, weights, first, where))
    return found


class _Decompositions:
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


def _span(
    config: TransformerConfig,
    index: int,
    cuts: Mapping[Key, Cut],
    where: Matrices,
    weights: Weights,
) -> Span | None:
    """The cut as a few components; None where it is none, or where the whole matrix is cheaper.

    A norm or a parallel block stands between the attention output and the next matrix.
    """
    if len(cuts) > 1 or config.layer_norm or config.parallel:
        return None
    ((key, cut),) = cuts.items()
    last, part = config.num_layers - 1, network.part_of(config, key)
    if key[0] < last or part == Part.PATTERN or cut.kind != "rank":
        return None
    if part == Part.OUTPUT and config.feed_forward[last] in ("none", "linear"):
        return None
    d_in, d_out = where[key].read(weights).shape
    rank = min(d_in, d_out)
    start, stop = notation.kept_band(cut, rank)
    spans = [Span(index, start, stop, dropped=False)]
    if start == 0:
        spans.append(Span(index, stop, rank, dropped=True))
    if stop == rank:
        spans.append(Span(index, 0, start, dropped=True))
    span = min(spans, key=lambda span: span.size)
    return span if span.size * (d_in + d_out) < d_in * d_out else None


def _few_components(
    config: TransformerConfig,
    weights: Weights,
    key: Key,
    spans: Sequence[Span],
    decompositions: _Decompositions,
) -> FewComponents:
    here = Layer(config, weights, config.num_layers - 1, NO_HOOKS)
    part, matrices = network.part_of(config, key), weights["layers"][here.index]
    rank = max(span.stop for span in spans)
    if rank:
        u, s, vt = decompositions[key]
        left, right = u[:, :rank] * s[None, :rank], vt[:rank]
    else:
        d_in, d_out = decompositions.shape(key)
        left, right = jnp.zeros((d_in, 0)), jnp.zeros((0, d_out))
    onward = right
    if part == Part.OUTPUT:
        # From the weighted mean to the coordinates, and from these to what fc_in gives.
        if key[1] == "out_proj" and config.num_heads == 1:
            left = here.through_value(left)
        if key[1] == "v_proj":
            right = _times(right, matrices["out_proj"])
        onward = _times(right, matrices["fc_in"])
    elif part == Part.LAST_MATRIX:
        onward = _times(right, unembedding(config, weights))
    return FewComponents(tuple(spans), here, part, left, right, onward)


def _times(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision=linear.PRECISE)


def _stored(address: Address) -> Address:
    """The address that a cut of this matrix is written to: of a product, its second factor."""
    return address.second if isinstance(address, ProductAddress) else address


def _stacked(
    members: Sequence[Mapping[Key, Cut]],
    where: Matrices,
    weights: Weights,
    decompositions: _Decompositions,
) -> dict[Key, Array]:
    """The cut matrices [members, d_in, d_out] of each key."""
    known = decompositions.of(members[0])

    def one(masks: dict[Key, Array]) -> dict[Key, Array]:
        edited = editing.edit(weights, where, known, masks)
        return {key: _stored(where[key]).read(edited) for key in masks}

    def mask(key: Key, cut: Cut) -> Array:
        return kept.mask(cut, where[key].read(weights), known.get(key))

    masks = {key: jnp.stack([mask(key, cuts[key]) for cuts in members]) for key in members[0]}
    return jax.lax.map(one, masks)


def _edited(
    cuts: Mapping[Key, Cut], where: Matrices, whole: Weights, decompositions: _Decompositions
) -> Weights:
    """The weights of one intervention: two thin factors where these are cheaper than the matrix."""
    weights, known = whole, decompositions.of(cuts)
    for key, cut in cuts.items():
        address = where[key]
        d_in, d_out = address.read(whole).shape
        start, stop = notation.kept_band(cut, min(d_in, d_out))
        if cut.kind == "rank" and (stop - start) * (d_in + d_out) < d_in * d_out:
            weights = address.keep_factored(weights, known[key], kept.ranks(cut, min(d_in, d_out)))
        else:
            mask = {key: kept.mask(cut, address.read(whole), known.get(key))}
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
    """The first matrix from which on two variants differ."""
    for layer, (one, two) in enumerate(zip(config.feed_forward, other.feed_forward, strict=True)):
        if one != two:
            return layer, "fc_in"
    return config.num_layers - 1, "out_proj"
