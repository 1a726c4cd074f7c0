"""Rows without gaps, against picking the scored positions out by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.toy import language, recall
from truncated_weights.toy.probes import packed


@pytest.fixture(scope="module")
def sets():
    task = recall.make_task(language.zipf(5), alpha=0.5, length=12, outputs="all")
    task = dataclasses.replace(task, clean_capacity=12, capacity=5)
    draw = functools.partial(recall.sample, task, batch_size=6)
    return [draw(jax.random.key(0), alpha=0.0), draw(jax.random.key(1))]


@pytest.mark.parametrize("rows", [80, 20])
def test_every_filled_slot_has_its_row_in_order(sets, rows):
    assert sets[0].positions.shape != sets[1].positions.shape
    row_map = packed.pack(sets, rows=rows, spare=40)
    wanted, values = [], []
    for index, batch in enumerate(sets):
        shape = batch.positions.shape
        # A number for each slot, twice: the second a thousand more.
        value = 100.0 * index + np.arange(np.prod(shape)).reshape(*shape, 1)
        values.append(jnp.asarray(np.concatenate([value, value + 1000], axis=-1), jnp.float32))
        for row, slot in zip(*np.nonzero(np.asarray(batch.weights)), strict=True):
            field = (int(getattr(batch, n)[row, slot]) for n in ("positions", "labels", "correct"))
            wanted.append((index, *field, float(value[row, slot, 0])))
    assert rows == 20 or len(wanted) < rows
    wanted = wanted[:rows]
    assert int(row_map.filled) == len(wanted)

    buffer = packed.zeros(values[0], row_map)
    first = 0
    for value in values:
        for three in (value[:3], value[3:]):
            buffer = packed.append(buffer, three, row_map, jnp.int32(first))
            first += three.shape[0] * three.shape[1]
    got = []
    for start in range(0, len(wanted), 5):
        scored, of_set = packed.scored_of(row_map, jnp.int32(start), 5)
        taken = packed.rows_of(buffer, jnp.int32(start), 5)[0]
        np.testing.assert_array_equal(taken[:, 1], taken[:, 0] + 1000)
        found = (of_set, scored.positions[0], scored.labels[0], scored.correct[0], taken[:, 0])
        live = np.asarray(scored.weights[0]) > 0
        got += [
            row
            for row, here in zip(zip(*map(np.asarray, found), strict=True), live, strict=True)
            if here
        ]
    np.testing.assert_array_equal(np.asarray(got, float), np.asarray(wanted, float))
