"""The small Pythia in the loop, against an unrolled one: resume, sharding, half precision."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from truncated_weights.bridge.config import Config
from truncated_weights.mini_pythia import training
from truncated_weights.mini_pythia.schedule import checkpoint_steps, record_steps
from truncated_weights.training import loop
from truncated_weights.training.checkpoint import Store
from truncated_weights.training.loop import Feed, Trainer

CONFIG = Config(
    vocab_size=64,
    num_layers=1,
    d_model=16,
    num_heads=2,
    d_ff=32,
    max_positions=32,
    rotary_fraction=0.5,
)
SETTINGS = training.Settings(steps=80, learning_rate=2e-2, warmup_steps=0)


def successor_language():
    """Sequences in which every token is followed by its one successor."""
    successor = np.random.default_rng(1).permutation(63) + 1
    rows = np.zeros((80, 8, 17), np.int32)
    rows[:, :, 0] = np.random.default_rng(2).integers(1, 64, (80, 8))
    for position in range(1, 17):
        rows[:, :, position] = successor[rows[:, :, position - 1] - 1]
    return rows


BLOCK = successor_language()
PROBLEM = training.NextToken(CONFIG)


def loss(params, tokens):
    return PROBLEM.loss(params, {}, tokens, lambda batch: batch)


GRADIENT = jax.jit(jax.value_and_grad(loss))


def trainer(settings=SETTINGS, block=BLOCK, devices=()):
    return Trainer(
        training.NextToken(CONFIG, 0, settings.dtype),
        training.optimizer(settings),
        (0,),
        devices,
        num_steps=80,
        feed=Feed(lambda number: block[20 * number : 20 * number + 20], 20),
    )


# Compiled once for all tests here.
TRAINER = trainer()


def advance(state, start, stop, using=TRAINER):
    spans = using.spans(start)
    try:
        return spans.advance(state, stop - start)
    finally:
        spans.close()


def single(tree):
    """Without the axis of runs."""
    return jax.tree.map(lambda leaf: leaf[0], tree)


def test_the_loss_is_the_mean_of_log_probabilities_read_one_by_one():
    params = single(TRAINER.init().params)
    tokens = BLOCK[0, :2]
    logits = np.asarray(training.model.forward(params, CONFIG, jnp.asarray(tokens)), np.float64)
    total = 0.0
    for sequence in range(2):
        for position in range(16):
            row = logits[sequence, position]
            total -= row[tokens[sequence, position + 1]] - np.log(np.exp(row).sum())
    assert float(loss(params, jnp.asarray(tokens))) == pytest.approx(total / 32, rel=1e-5)


def test_slice_by_slice_is_the_whole_batch(monkeypatch):
    params, tokens = single(TRAINER.init().params), jnp.asarray(BLOCK[0])
    whole = GRADIENT(params, tokens)
    # Two sequences at a time: 17 tokens of 64 logits.
    monkeypatch.setattr(training, "SLICE_NUMBERS", 2 * 17 * 64)
    found = jax.value_and_grad(loss)(params, tokens)
    assert "scan" in str(jax.make_jaxpr(jax.grad(loss))(params, tokens))
    chex.assert_trees_all_close(found, whole, rtol=2e-5, atol=1e-7)


def test_a_span_equals_its_steps_taken_by_hand():
    transform = training.optimizer(SETTINGS)

    @jax.jit
    def step(params, opt_state, gradients):
        updates, opt_state = transform.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    state = TRAINER.init()
    params, opt_state, losses = single(state.params), single(state.optimizer), []
    for tokens in BLOCK[:6]:
        value, gradients = GRADIENT(params, jnp.asarray(tokens))
        params, opt_state = step(params, opt_state, gradients)
        losses.append(float(value))
    state = advance(state, 0, 6)
    assert int(state.step) == 6
    np.testing.assert_allclose(state.losses[0, :6], losses, rtol=1e-4)
    # Adam amplifies rounding where a gradient is nearly zero: the keys' bias has none.
    chex.assert_trees_all_close(single(state.params), params, rtol=1e-7, atol=1e-3)


def test_the_first_step_is_adamws_closed_form():
    # After one step Adam's moments give the gradient's sign, and decay acts on matrices alone.
    start = single(TRAINER.init().params)
    after = single(advance(TRAINER.init(), 0, 1).params)
    gradients = GRADIENT(start, jnp.asarray(BLOCK[0]))[1]
    trees = (start, after, gradients)
    for before, now, gradient in zip(*map(jax.tree.leaves, trees), strict=True):
        decay = 0.1 * before if before.ndim > 1 else 0.0
        moving = np.abs(gradient) > 1e-4
        expected = before - SETTINGS.learning_rate * (np.sign(gradient) + decay)
        np.testing.assert_allclose(now[moving], np.asarray(expected)[moving], atol=1e-5)


def test_where_a_run_stops_and_what_a_store_restores_change_nothing_to_the_bit(tmp_path):
    # Across the edge of a block of 20 steps.
    whole = advance(TRAINER.init(), 0, 23)
    pieces, store = TRAINER.init(), Store(tmp_path, keep=2)
    assert store.restore(TRAINER.abstract()) is None
    for start, stop in ((0, 1), (1, 2), (2, 18), (18, 21)):
        pieces = advance(pieces, start, stop)
        store.save(stop, pieces)
    store.wait()
    assert store.steps() == (18, 21)
    chex.assert_trees_all_equal(whole, advance(pieces, 21, 23))
    restored = Store(tmp_path, keep=2).restore(TRAINER.abstract())
    assert np.isnan(np.asarray(restored.losses[0])).tolist() == [False] * 21 + [True] * 59
    chex.assert_trees_all_equal(whole, advance(restored, 21, 23))


@pytest.mark.parametrize("slice_numbers", [training.SLICE_NUMBERS, 2 * 17 * 64])
def test_eight_devices_give_the_figures_of_one(slice_numbers, monkeypatch):
    """In one slice, and in slices of fewer sequences than there are devices."""
    one = advance(TRAINER.init(), 0, 6)
    monkeypatch.setattr(training, "SLICE_NUMBERS", slice_numbers)
    eight = trainer(devices=tuple(jax.devices()))
    block = eight.place_block(BLOCK)
    assert {shard.data.shape for shard in block.addressable_shards} == {(80, 1, 17)}
    sharded = advance(eight.init(), 0, 6, eight)
    np.testing.assert_allclose(sharded.losses, one.losses, rtol=1e-4)
    leaf = sharded.params["embed_in"]["embedding"]
    assert len(leaf.sharding.device_set) == 8
    assert leaf.sharding.is_fully_replicated
    with pytest.raises(ValueError, match="batch of 8 sequences cannot be divided over 3"):
        trainer(devices=tuple(jax.devices()[:3])).place_block(BLOCK)


def test_training_learns_a_deterministic_language():
    state = loop.run(TRAINER).state
    assert float(state.losses[0, 0]) == pytest.approx(np.log(64), abs=0.5)
    assert float(state.losses[0, -1]) < 0.3


def test_bfloat16_keeps_float32_masters_and_nearly_the_loss():
    half = trainer(dataclasses.replace(SETTINGS, dtype="bfloat16"))
    low, full = advance(half.init(), 0, 6, half), advance(TRAINER.init(), 0, 6)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(low.params))
    np.testing.assert_allclose(low.losses[0, :6], full.losses[0, :6], rtol=2e-2)
    assert not np.array_equal(low.losses[0, :6], full.losses[0, :6])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"steps": 0}, "steps must be positive"),
        ({"steps": 10, "warmup_steps": 10}, "warmup_steps must be from 0"),
        ({"steps": 10, "warmup_steps": 1, "learning_rate": 0.0}, "learning_rate must"),
        ({"steps": 10, "warmup_steps": 1, "dtype": "float16"}, "dtype must be"),
        ({"steps": 10, "warmup_steps": 1, "final_fraction": 2.0}, "final_fraction must"),
        ({"steps": 10, "warmup_steps": 1, "weight_decay": -1.0}, "weight_decay must"),
    ],
)
def test_bad_settings_are_refused_by_name(bad, message):
    with pytest.raises(ValueError, match=message):
        training.Settings(**bad)


def test_checkpoints_are_pythias_grid():
    doubling = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    pythia = (*doubling, *range(1000, 143001, 1000))
    assert len(pythia) == 154
    assert checkpoint_steps(143000, 1000) == pythia
    assert checkpoint_steps(1100, 250) == (*doubling, 750, 1000, 1100)
    assert checkpoint_steps(6, 100) == (0, 1, 2, 4, 6)
    assert record_steps((0, 1, 2, 4, 7), 3) == (0, 1, 2, 3, 4, 6, 7)
    with pytest.raises(ValueError, match="every must be positive"):
        checkpoint_steps(10, 0)
