"""Full and truncated models on the same sequences, at the cost of what each cut changes.

The plain way runs every truncated model from its tokens on. Here

- the layers below and the attention of the last layer run once per slice of sequences, for the
  full model and for each cut that reaches so low;
- what the last layer begins with is packed into rows without gaps (probes/packed.py);
- the rest runs over slices of these rows, with all that a cut leaves alone shared
  (probes/cuts.py); there are as many slices as rows are filled, not as there might be;
- slices are small enough for their temporaries to stay in the processor's cache.

Values are those of the plain way to float rounding.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toy import network
from toy.layer import NO_HOOKS, Layer, Weights, unembedding
from toy.probes import outputs, packed
from toy.probes.cuts import Thin, Whole, groups
from toy.probes.outputs import Total, Values
from toy.probes.packed import Packing
from toy.recall import Batch, Task
from toy.transformer_config import TransformerConfig
from training import slices
from truncation.notation import Intervention

# Numbers in the largest temporary of a slice, on a processor: 4 MB. Nothing of a slice is kept, so
# that small ones cost nothing.
SLICE_NUMBERS = 2**20
# Numbers that are kept of what the last layer begins with; more are measured in turns.
KEPT_NUMBERS = 2**26

Means = dict[str, Float[Array, "..."]]
# What the last layer begins with, by group: rows and gathered, [members, ..., d].
Led = dict[int, tuple[Array, Array]]
FULL = -1


def measure(
    task: Task,
    config: TransformerConfig,
    weights: Weights,
    sets: Mapping[str, Batch],
    interventions: Sequence[Intervention],
    *,
    variants: Sequence[TransformerConfig] = (),
    slice_size: int | None = None,
    row_slice: int | None = None,
) -> tuple[dict[str, Means], dict[str, dict[str, Float[Array, " models"]]], dict[str, Array]]:
    """By set: outputs.full_model of the full model, outputs.means of every intervention, and how
    many scored positions found no row.

    variants: the same weights under other options (see `cuts.variant`), after the interventions.
    slice_size: sequences at a time; row_slice: rows at a time; by default what suits the device.
    """
    run = _Run(task, config, weights, groups(config, weights, interventions, variants))
    # Sets of one shape are measured in one loop, compiled once.
    names = sorted(sets, key=lambda name: sets[name].positions.shape)
    batches = [sets[name] for name in names]
    sizes = slice_size or _slice_size(config), row_slice or _row_slice(config)
    turns = run.turns(batches)
    if turns == 1:
        found = run.totals(batches, *sizes)
    else:
        # What a batch dropped is told by the caller, not by its parts.
        whole = [b._replace(dropped=jnp.zeros_like(b.tokens[:, 0])) for b in batches]
        parts = [slices.divide(batch, turns) for batch in whole]
        every = jax.lax.map(lambda turn: run.totals(turn, *sizes), parts)
        found = jax.tree.map(lambda x: x.sum(axis=0), every)
    full, models, kept = found

    def by_set(totals: dict[str, Total]) -> dict[str, Means]:
        averages = {metric: total.mean() for metric, total in totals.items()}
        return {name: {m: v[i] for m, v in averages.items()} for i, name in enumerate(names)}

    filled = jnp.stack([jnp.sum(batch.weights) for batch in batches])
    lost = (filled - kept).astype(jnp.int32)
    return by_set(full), by_set(models), {name: lost[i] for i, name in enumerate(names)}


@dataclasses.dataclass(frozen=True, eq=False)
class _Run:
    """One model and its cuts, over whatever sequences."""

    task: Task
    config: TransformerConfig
    weights: Weights
    groups: Sequence[Whole | Thin]

    @property
    def low(self) -> dict[int, Whole]:
        """The groups whose last layer begins otherwise than that of the full model."""
        groups = enumerate(self.groups)
        return {i: g for i, g in groups if isinstance(g, Whole) and not g.shares_stage}

    def rows(self, batches: Sequence[Batch]) -> int:
        """Rows for the scored positions of these batches."""
        return sum(self.task.room(*batch.positions.shape) for batch in batches)

    def turns(self, batches: Sequence[Batch]) -> int:
        """In how many turns to measure, so that what is kept stays below KEPT_NUMBERS."""
        models = 1 + sum(len(group.indices) for group in self.low.values())
        kept = 2 * models * self.rows(batches) * self.config.d_model
        size = math.gcd(*(batch.positions.shape[0] for batch in batches))
        fits = (t for t in range(1, size) if size % t == 0 and kept <= t * KEPT_NUMBERS)
        return next(fits, size)

    def totals(
        self, batches: Sequence[Batch], slice_size: int, row_slice: int
    ) -> tuple[dict[str, Total], dict[str, Total], Float[Array, " sets"]]:
        """By metric [sets, ...] of the full model and [sets, models] of all others, rows by set."""
        row_slice = min(row_slice, self.rows(batches))
        rows = -(-self.rows(batches) // row_slice) * row_slice
        # The last slice of sequences may leave this many rows behind the last that it fills.
        spare = max(batch.positions[:slice_size].size for batch in batches)
        packing = packed.pack(batches, rows=rows, spare=spare)
        buffers: Any = None
        below, base = [], 0
        alike: dict[tuple[int, ...], list[Batch]] = {}
        for batch in batches:
            alike.setdefault(batch.positions.shape, []).append(batch)
        for members in alike.values():
            buffers, found = self._lower(members, packing, buffers, base, slice_size)
            below.append(found)
            base += sum(batch.positions.size for batch in members)
        full = jax.tree.map(lambda *values: jnp.concatenate(values), *below)

        def step(start: Array) -> Any:
            return self._upper(buffers, packing, start * row_slice, row_slice, len(batches))

        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(step, 0))
        # As many slices as are filled: rows may be many more than there is to put into them.
        count = -(-packing.filled // row_slice)
        upper, models, kept = jax.lax.fori_loop(
            0, count, lambda i, sums: jax.tree.map(jnp.add, sums, step(i)), zero
        )
        return full | upper, models, kept

    def _lower(
        self, batches: Sequence[Batch], packing: Packing, buffers: Any, base: int, slice_size: int
    ) -> tuple[Any, dict[str, Total]]:
        """Append what the last layer begins with; totals [sets] of what is read off below it."""
        batch_size, slots = batches[0].positions.shape
        small = max(k for k in range(1, batch_size + 1) if batch_size % k == 0 and k <= slice_size)

        def sliced(*leaves: Array) -> Array:
            whole = jnp.concatenate(leaves)
            return whole.reshape(-1, small, *whole.shape[1:])

        fields = {
            name: sliced(*(getattr(batch, name) for batch in batches))
            for name in Batch._fields
            if name != "dropped"
        }
        bases = base + small * slots * jnp.arange(len(fields["tokens"]))

        def step(buffers: Any, piece: tuple) -> tuple[Any, dict[str, Total]]:
            fields, first = piece
            batch = Batch(**fields, dropped=jnp.int32(0))
            led, found = self._begin(batch)
            return packed.append(buffers, led, packing, first), found

        if buffers is None:
            one = jax.tree.map(lambda x: x[0], fields)
            led = jax.eval_shape(lambda f: self._begin(Batch(**f, dropped=jnp.int32(0)))[0], one)
            buffers = packed.blank(led, packing)
        buffers, found = jax.lax.scan(step, buffers, (fields, bases))
        sets = len(batches)
        return buffers, jax.tree.map(lambda x: x.reshape(sets, -1, *x.shape[1:]).sum(1), found)

    def _begin(self, batch: Batch) -> tuple[Led, dict[str, Total]]:
        """rows and gathered of the last layer, of the full model and of each low group."""
        task, config, weights = self.task, self.config, self.weights
        x = network.enter(config, weights, batch.tokens)
        trace, stages = network.walk(config, weights, x, 0, batch.positions)
        led = {i: group.lead(stages, batch.positions) for i, group in self.low.items()}
        led[FULL] = (stages[-1].rows[None], stages[-1].gathered[None])
        out = unembedding(config, weights)
        below = list(zip(outputs.blocks(config), trace.contributions, strict=True))[:-2]
        values = outputs.looks(task, trace.patterns, batch) | {
            f"margin/{name}": outputs.margin(task, part @ out, batch) for name, part in below
        }
        return led, {name: value.sum() for name, value in values.items()}

    def _upper(
        self, buffers: Led, packing: Packing, start: Array, rows: int, sets: int
    ) -> tuple[dict[str, Total], dict[str, Total], Float[Array, " sets"]]:
        """Totals over some rows: of the full model, of all others, and of the rows themselves."""
        task, config, weights = self.task, self.config, self.weights
        scored, set_of = packed.known(packing, start, rows)
        led = packed.rows_of(buffers, start, rows)
        stage = network.settle(config, weights, *(x[0] for x in led[FULL]))
        here = Layer(config, weights, config.num_layers - 1, NO_HOOKS)
        of_set = (set_of[None] == jnp.arange(sets)[:, None]).astype(jnp.float32)

        def by_set(values: dict[str, Values]) -> dict[str, Total]:
            return {name: value.sum_by(of_set) for name, value in values.items()}

        def score(logits: Array) -> dict[str, Total]:
            found = outputs.predictions(task, logits, scored)
            return by_set({name: Values(v, scored.weights) for name, v in found.items()})

        logits = network.resume(config, weights, stage, 3)
        attention = here.move(stage.gathered) @ unembedding(config, weights)
        wrote = dict(
            zip(outputs.blocks(config)[-2:], (attention, here.written(stage.inner)), strict=True)
        )
        margins = {
            f"margin/{name}": outputs.margin(task, part, scored) for name, part in wrote.items()
        }
        full = score(logits) | by_set(outputs.said(task, logits, scored) | margins)
        found: dict[int, dict[str, Total]] = {}
        for index, group in enumerate(self.groups):
            if isinstance(group, Whole):
                values = group.logits(stage, led.get(index), score)
            else:
                values = group.logits(stage, score)
            for place, model in enumerate(group.indices):
                found[model] = jax.tree.map(lambda x, place=place: x[place], values)
        models = [found[i] for i in range(len(found))]
        stacked = jax.tree.map(lambda *values: jnp.stack(values, axis=1), *models) if models else {}
        return full, stacked, of_set @ scored.weights[0]


def _slice_size(config: TransformerConfig) -> int:
    """Sequences at a time below the last layer."""
    return max(
        1, slices.numbers(SLICE_NUMBERS) // (config.length * max(config.hidden_size, config.length))
    )


def _row_slice(config: TransformerConfig) -> int:
    """Rows at a time from there on."""
    return max(1, slices.numbers(SLICE_NUMBERS) // max(config.hidden_size, config.vocab_size))
