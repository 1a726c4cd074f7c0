"""Full and truncated models on the same sequences, at the cost of what each cut changes.

Scored positions are rows r of the sequences s of several sets; a model is a cut c, and for the
sum over a set of any metric m of its logits f_c

    sum_{r in set} m(f_c(r))  =  sum_{slices of rows} sum_{r in slice} 1{r in set} m(F_c(g_c(r)))

Here g_c is what the last layer begins with, its stream and its attention-weighted mean, and F_c
the rest of that layer. It acts on each row by itself, so that rows of different sequences and sets
may stand in one slice. The plain way computes f_c from the tokens on for every c, set and slot.
What is shared:

- offsets: g_c is computed once per slice of sequences, for the full model and for the cuts that
  change it, and written into one buffer at the offset where the slices before end, without gaps
  (probes/packed.py);
- rows: F_c runs over slices of rows, as many as are filled; what a cut leaves alone is that of the
  full model (probes/cuts.py);
- sets: one buffer has the rows of all sets, and their sums are one product with 1{r in set}.

Cost: g for the full model and each cut that changes it, F for all. Memory: 2 d numbers a row for
each g. Slices are small enough for their temporaries to stay in the processor's cache. Values are
those of the plain way to float rounding.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from truncated_weights.toy import network
from truncated_weights.toy.layer import NO_HOOKS, Layer, Weights, unembedding
from truncated_weights.toy.network import Part
from truncated_weights.toy.probes import outputs, packed
from truncated_weights.toy.probes.cuts import EditedWeights, FewComponents, groups
from truncated_weights.toy.probes.outputs import Total, Values
from truncated_weights.toy.probes.packed import RowMap
from truncated_weights.toy.recall import Batch, Task
from truncated_weights.toy.transformer_config import TransformerConfig
from truncated_weights.training import slices
from truncated_weights.training.records import Name, name
from truncated_weights.truncation.notation import Intervention

# Numbers in the largest temporary of a slice, on a processor: 4 MB. Nothing of a slice is kept, so
# that small ones cost nothing.
SLICE_NUMBERS = 2**20
# Numbers that are kept of what the last layer begins with; more are measured in turns.
KEPT_NUMBERS = 2**26

# What the last layer begins with, by group: rows and gathered, [members, ..., d].
Gathered = dict[int, tuple[Array, Array]]
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
) -> tuple[
    dict[str, dict[Name, Array]], dict[str, dict[str, Float[Array, " models"]]], dict[str, Array]
]:
    """By set: outputs.full_model, outputs.means of each intervention, scored positions left out.

    The means are [models] by metric; left out are those for which there was no row (Task.room).

    variants: the same weights under other options (see `cuts.variant`), after the interventions.
    slice_size: sequences at a time; row_slice: rows at a time; by default what suits the device.
    """
    run = _Run(task, config, weights, groups(config, weights, interventions, variants))
    # Sets of one shape are measured in one loop, compiled once.
    names = sorted(sets, key=lambda part: sets[part].positions.shape)
    batches = [sets[part] for part in names]
    sizes = slice_size or _slice_size(config), row_slice or _row_slice(config)
    turns = run.turns(batches)
    if turns == 1:
        found = run.totals(batches, *sizes)
    else:
        # How many positions a batch dropped is known of the whole, not of its parts.
        whole = [b._replace(dropped=jnp.zeros_like(b.tokens[:, 0])) for b in batches]
        parts = [slices.divide(batch, turns) for batch in whole]
        every = jax.lax.map(lambda turn: run.totals(turn, *sizes), parts)
        found = jax.tree.map(lambda x: x.sum(axis=0), every)
    full, models, kept = found

    def by_set(totals: dict[Any, Total]) -> dict[str, Any]:
        averages = {metric: total.mean() for metric, total in totals.items()}
        return {part: {m: v[i] for m, v in averages.items()} for i, part in enumerate(names)}

    filled = jnp.stack([jnp.sum(batch.weights) for batch in batches])
    lost = (filled - kept).astype(jnp.int32)
    return by_set(full), by_set(models), {part: lost[i] for i, part in enumerate(names)}


@dataclasses.dataclass(frozen=True, eq=False)
class _Run:
    """One model and its cuts, over whatever sequences."""

    task: Task
    config: TransformerConfig
    weights: Weights
    groups: Sequence[EditedWeights | FewComponents]

    @property
    def branches(self) -> dict[int, EditedWeights]:
        """The groups whose last layer begins otherwise than that of the full model."""
        return {
            index: group
            for index, group in enumerate(self.groups)
            if isinstance(group, EditedWeights) and not group.shares_gathered
        }

    def rows(self, batches: Sequence[Batch]) -> int:
        """Rows for the scored positions of these batches."""
        return sum(self.task.room(*batch.positions.shape) for batch in batches)

    def turns(self, batches: Sequence[Batch]) -> int:
        """In how many turns to measure, so that what is kept stays below KEPT_NUMBERS."""
        models = 1 + sum(len(group.indices) for group in self.branches.values())
        kept = 2 * models * self.rows(batches) * self.config.d_model
        size = math.gcd(*(batch.positions.shape[0] for batch in batches))
        fits = (t for t in range(1, size) if size % t == 0 and kept <= t * KEPT_NUMBERS)
        return next(fits, size)

    def totals(
        self, batches: Sequence[Batch], slice_size: int, row_slice: int
    ) -> tuple[dict[Name, Total], dict[str, Total], Float[Array, " sets"]]:
        """By metric [sets, ...] of the full model and [sets, models] of all others; rows by set."""
        row_slice = min(row_slice, self.rows(batches))
        rows = -(-self.rows(batches) // row_slice) * row_slice
        # The last slice of sequences may leave this many rows behind the last that it fills.
        spare = max(batch.positions[:slice_size].size for batch in batches)
        row_map = packed.pack(batches, rows=rows, spare=spare)
        buffers: Any = None
        below, base = [], 0
        alike: dict[tuple[int, ...], list[Batch]] = {}
        for batch in batches:
            alike.setdefault(batch.positions.shape, []).append(batch)
        for members in alike.values():
            buffers, found = self._by_sequence(members, row_map, buffers, base, slice_size)
            below.append(found)
            base += sum(batch.positions.size for batch in members)
        full = jax.tree.map(lambda *values: jnp.concatenate(values), *below)

        def step(start: Array) -> Any:
            return self._by_row(buffers, row_map, start * row_slice, row_slice, len(batches))

        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(step, 0))
        # As many slices as are filled: rows may be many more than there is to put into them.
        count = -(-row_map.filled // row_slice)
        upper, models, kept = jax.lax.fori_loop(
            0, count, lambda i, sums: jax.tree.map(jnp.add, sums, step(i)), zero
        )
        return full | upper, models, kept

    def _by_sequence(
        self, batches: Sequence[Batch], row_map: RowMap, buffers: Any, base: int, slice_size: int
    ) -> tuple[Any, dict[Name, Total]]:
        """Append what the last layer begins with; totals [sets] of what is measured up to there.

        batches: of one shape. base: the number of their first slot among those of all sets.
        """
        batch_size, slots = batches[0].positions.shape
        small = max(k for k in range(1, batch_size + 1) if batch_size % k == 0 and k <= slice_size)

        def sliced(*leaves: Array) -> Array:
            whole = jnp.concatenate(leaves)
            return whole.reshape(-1, small, *whole.shape[1:])

        fields = {
            field: sliced(*(getattr(batch, field) for batch in batches))
            for field in Batch._fields
            if field != "dropped"
        }
        bases = base + small * slots * jnp.arange(len(fields["tokens"]))

        def step(buffers: Any, piece: tuple) -> tuple[Any, dict[Name, Total]]:
            fields, first = piece
            batch = Batch(**fields, dropped=jnp.int32(0))
            gathered, found = self._begin(batch)
            return packed.append(buffers, gathered, row_map, first), found

        if buffers is None:
            one = jax.tree.map(lambda x: x[0], fields)
            gathered = jax.eval_shape(
                lambda f: self._begin(Batch(**f, dropped=jnp.int32(0)))[0], one
            )
            buffers = packed.zeros(gathered, row_map)
        buffers, found = jax.lax.scan(step, buffers, (fields, bases))
        sets = len(batches)
        return buffers, jax.tree.map(lambda x: x.reshape(sets, -1, *x.shape[1:]).sum(1), found)

    def _begin(self, batch: Batch) -> tuple[Gathered, dict[Name, Total]]:
        """rows and gathered of the last layer, of the full model and of each branch."""
        task, config, weights = self.task, self.config, self.weights
        x = network.embed(config, weights, batch.tokens)
        trace, stages = network.suffix_and_stages(config, weights, x, 0, batch.positions)
        gathered = {
            i: group.gathered(stages, batch.positions) for i, group in self.branches.items()
        }
        gathered[FULL] = (stages[-1].rows[None], stages[-1].gathered[None])
        out = unembedding(config, weights)
        below = list(zip(outputs.blocks(config), trace.contributions, strict=True))[:-2]
        values = outputs.attention_metrics(task, trace.patterns, batch) | {
            name("margin", block=block): outputs.margin(task, part @ out, batch)
            for block, part in below
        }
        return gathered, {key: value.sum() for key, value in values.items()}

    def _by_row(
        self, buffers: Gathered, row_map: RowMap, start: Array, rows: int, sets: int
    ) -> tuple[dict[Name, Total], dict[str, Total], Float[Array, " sets"]]:
        """Totals over some rows: of the full model, of all others, and of the rows themselves."""
        task, config, weights = self.task, self.config, self.weights
        scored, set_of = packed.scored_of(row_map, start, rows)
        gathered = packed.rows_of(buffers, start, rows)
        stage = network.last_stage(config, weights, *(x[0] for x in gathered[FULL]))
        here = Layer(config, weights, config.num_layers - 1, NO_HOOKS)
        of_set = (set_of[None] == jnp.arange(sets)[:, None]).astype(jnp.float32)

        def by_set(values: dict[Any, Values]) -> dict[Any, Total]:
            return {key: value.sum_by(of_set) for key, value in values.items()}

        def score(logits: Array) -> dict[str, Total]:
            found = outputs.predictions(task, logits, scored)
            return by_set({key: Values(v, scored.weights) for key, v in found.items()})

        logits = network.logits_from(config, weights, stage, Part.LAST_MATRIX)
        attention = here.attention_output(stage.gathered) @ unembedding(config, weights)
        wrote = dict(
            zip(
                outputs.blocks(config)[-2:],
                (attention, here.feed_forward_logits(stage.inner)),
                strict=True,
            )
        )
        margins = {
            name("margin", block=block): outputs.margin(task, part, scored)
            for block, part in wrote.items()
        }
        full = {name(metric): total for metric, total in score(logits).items()}
        full |= by_set(outputs.label_metrics(task, logits, scored) | margins)
        found: dict[int, dict[str, Total]] = {}
        for index, group in enumerate(self.groups):
            if isinstance(group, EditedWeights):
                values = group.logits(stage, gathered.get(index), score)
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
