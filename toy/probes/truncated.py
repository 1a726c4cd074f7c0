"""Full and truncated models on the same sequences, at the cost of what each cut changes.

The plain way runs every truncated model from its tokens on. Here, per slice of the batch:

- one forward of the full model, whose stages (network.walk) every cut goes on from: a cut of the
  last feed-forward shares all layers below and the attention of its own;
- matrices are decomposed by the eigenvectors of their Gram matrix (spectrum.decompose_gram):
  five exact decompositions cost as much as the forwards of 128 sequences;
- matrices of low rank are applied as two thin factors, and W_out W_U as one matrix;
- slices are small enough for their temporaries to stay in the processor's cache.

Values are those of the plain way to float rounding.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from toy import network, transformer
from toy.layer import Weights
from toy.network import Stage, Trace
from toy.probes.outputs import EVEN, means
from toy.recall import Batch, Task
from toy.transformer_config import TransformerConfig
from truncation import editing, notation, spectrum
from truncation.address import Address, Matrices, ProductAddress
from truncation.notation import Cut, Intervention, Key

# Cuts of the same matrices beyond this many share one compiled function, by masks instead of
# thin factors: compiling each would cost more than running it.
UNROLLED = 4
# Numbers in the largest temporary of a slice: what fits a processor's cache, or keeps an
# accelerator busy.
SLICE_NUMBERS = {"cpu": 2**22, "accelerator": 2**28}

Means = dict[str, Float[Array, "..."]]


def measure(
    task: Task,
    config: TransformerConfig,
    weights: Weights,
    sets: Mapping[str, Batch],
    interventions: Sequence[Intervention],
    full: Callable[[Trace, Batch], Means],
    *,
    variants: Mapping[str, TransformerConfig] | None = None,
    slice_size: int | None = None,
) -> tuple[dict[str, Means], dict[str, dict[str, Float[Array, " models"]]]]:
    """full(trace, batch) of the full model, and outputs.means of every intervention, by set.

    variants: the same weights under other options (see `variant`), after the interventions.

    Sets of one shape are measured in one loop. full gives means over scored positions, or over
    all where named in outputs.EVEN. slice_size: sequences at a time; by default what suits
    the device. Interventions in the order given.
    """
    cuts = _Cuts(config, weights, interventions, list((variants or {}).values()))
    whole: dict[str, Means] = {}
    truncated: dict[str, Means] = {}
    shapes = {name: batch.positions.shape for name, batch in sets.items()}
    for shape in dict.fromkeys(shapes.values()):
        alike = {name: batch for name, batch in sets.items() if shapes[name] == shape}
        size = slice_size or _slice_size(config, shape[0])
        found = _measure_alike(task, config, weights, alike, cuts, full, size)
        whole, truncated = whole | found[0], truncated | found[1]
    return whole, truncated


def _measure_alike(
    task: Task,
    config: TransformerConfig,
    weights: Weights,
    sets: Mapping[str, Batch],
    cuts: "_Cuts",
    full: Callable[[Trace, Batch], Means],
    small: int,
) -> tuple[dict[str, Means], dict[str, Means]]:
    """`measure` of sets whose batches have one shape, `small` sequences at a time."""
    names = list(sets)

    def one(batch: Batch) -> tuple[Array, Means, Means]:
        x = network.enter(config, weights, batch.tokens)
        trace, stages = network.walk(config, weights, x, 0, batch.positions)
        found = cuts.evaluate(stages, batch.positions, lambda logits: means(task, logits, batch))
        return jnp.sum(batch.weights), full(trace, batch), found

    def sliced(leaves: Sequence[Array]) -> Array:
        # Slices of all sets in one loop: compiled once.
        whole = jnp.concatenate(leaves)
        return whole.reshape(-1, small, *whole.shape[1:])

    fields = {
        name: sliced([getattr(batch, name) for batch in sets.values()])
        for name in Batch._fields
        if name != "dropped"
    }
    weight, *measured = jax.lax.map(lambda f: one(Batch(**f, dropped=jnp.int32(0))), fields)
    weight = weight.reshape(len(names), -1)
    share = weight / jnp.maximum(jnp.sum(weight, axis=1, keepdims=True), 1)

    def average(metric: str, values: Array) -> Array:
        values = values.reshape(len(names), -1, *values.shape[1:])
        # Means over all positions weigh every slice alike, the others its scored positions.
        if metric in EVEN:
            return values.mean(axis=1)
        return jnp.einsum("sn,sn...->s...", share, values)

    def by_set(part: Means) -> dict[str, Means]:
        averages = {metric: average(metric, values) for metric, values in part.items()}
        return {name: {m: v[i] for m, v in averages.items()} for i, name in enumerate(names)}

    return by_set(measured[0]), by_set(measured[1])


def _slice_size(config: TransformerConfig, batch: int) -> int:
    kind = "cpu" if jax.default_backend() == "cpu" else "accelerator"
    most = SLICE_NUMBERS[kind] // (config.length * max(config.hidden_size, config.length))
    return max(k for k in range(1, batch + 1) if batch % k == 0 and k <= max(most, 1))


class _Cuts:
    """The interventions, each matrix decomposed once, grouped by what they go on from.

    All edited weights are made here, outside the loop over slices.
    """

    def __init__(
        self,
        config: TransformerConfig,
        weights: Weights,
        interventions: Sequence[Intervention],
        variants: Sequence[TransformerConfig],
    ):
        self._config, self._weights, self._variants = config, weights, variants
        self._where: Matrices = transformer.matrices(config)
        self._resolved = [editing.resolve(i, self._where) for i in interventions]
        keys = sorted({key for cuts in self._resolved for key in editing.by_components(cuts)})
        self._parts = {key: spectrum.decompose_gram(self._where[key].read(weights)) for key in keys}
        self._few: list[tuple[int, Weights]] = []
        self._many: list[tuple[list[int], dict[Key, Array]]] = []
        for members in editing.families(self._resolved).values():
            if len(members) <= UNROLLED:
                self._few += [(i, self._edited(self._resolved[i])) for i in members]
            else:
                self._many.append((members, self._stacked(members)))

    def evaluate(
        self, stages: Sequence[Stage], positions: Array, score: Callable[[Array], Means]
    ) -> Means:
        """score(logits) of every intervention, stacked in the order given."""
        found: dict[int, Means] = {}

        def run(index: int, edited: Weights) -> Means:
            keys = self._keys(index)
            lowest = min(keys, key=lambda key: (key[0], network.part(self._config, key)))
            stage = stages[lowest[0]]
            return score(network.resume(self._config, edited, stage, lowest, positions))

        def run_written(index: int, matrices: Mapping[Key, Array]) -> Means:
            edited = self._weights
            for key, matrix in matrices.items():
                edited = self._stored(key).write(edited, matrix)
            return run(index, edited)

        for index, edited in self._few:
            found[index] = run(index, edited)
        for members, matrices in self._many:
            values = jax.lax.map(lambda m, first=members[0]: run_written(first, m), matrices)
            for place, index in enumerate(members):
                found[index] = {name: value[place] for name, value in values.items()}
        for index, other in enumerate(self._variants, len(self._resolved)):
            key = _first_difference(self._config, other)
            logits = network.resume(other, self._weights, stages[key[0]], key, positions)
            found[index] = score(logits)
        names = found[0] if found else {}
        return {name: jnp.stack([found[i][name] for i in range(len(found))]) for name in names}

    def _keys(self, index: int) -> list[Key]:
        return sorted(self._resolved[index])

    def _stored(self, key: Key) -> Address:
        """What is written when this matrix is cut: of a product, its second factor."""
        address = self._where[key]
        return address.second if isinstance(address, ProductAddress) else address

    def _mask(self, key: Key, cut: Cut) -> Array:
        return editing.mask_of(cut, self._where[key].read(self._weights), self._parts.get(key))

    def _stacked(self, members: Sequence[int]) -> dict[Key, Array]:
        """The cut matrices [members, d_in, d_out] of each key."""

        def one(masks: dict[Key, Array]) -> dict[Key, Array]:
            edited = editing.edit(self._weights, self._where, self._parts, masks)
            return {key: self._stored(key).read(edited) for key in masks}

        masks = {
            key: jnp.stack([self._mask(key, self._resolved[i][key]) for i in members])
            for key in self._keys(members[0])
        }
        return jax.lax.map(one, masks)

    def _edited(self, cuts: Mapping[Key, Cut]) -> Weights:
        weights = self._weights
        for key, cut in cuts.items():
            address = self._where[key]
            d_in, d_out = address.read(weights).shape
            start, stop = notation.kept_places(cut, min(d_in, d_out))
            if cut.kind == "rank" and (stop - start) * (d_in + d_out) < d_in * d_out:
                weights = address.keep_factored(weights, self._parts[key], np.arange(start, stop))
            else:
                mask = {key: self._mask(key, cut)}
                weights = editing.edit(weights, self._where, self._parts, mask)
        return weights


def variant(config: TransformerConfig, name: str) -> TransformerConfig:
    """The options of a variant: LAYER.no_relu, or no_last_residual.

    Raises ValueError where the name is unknown or changes nothing.
    """
    last = config.num_layers - 1
    layer, _, what = name.rpartition(".")
    if what == "no_relu" and layer.isdigit() and int(layer) <= last:
        kinds = list(config.feed_forward)
        if kinds[int(layer)] == "mlp":
            kinds[int(layer)] = "linear_mlp"
            return dataclasses.replace(config, feed_forward=tuple(kinds))
    if name == "no_last_residual" and config.feed_forward[last] == "none" and config.last_residual:
        return dataclasses.replace(config, last_residual=False)
    raise ValueError(f"variant {name!r} is none of LAYER.no_relu, no_last_residual of this model")


def _first_difference(config: TransformerConfig, other: TransformerConfig) -> Key:
    """The matrix before which two variants are the same."""
    for layer, (one, two) in enumerate(zip(config.feed_forward, other.feed_forward, strict=True)):
        if one != two:
            return layer, "fc_in"
    return config.num_layers - 1, "out_proj"
