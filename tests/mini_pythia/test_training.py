"""The training loop against an unrolled one, and its promises: resume, sharding, prefetch."""

import dataclasses
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bridge.config import Config
from mini_pythia import training
from mini_pythia.prefetch import prefetch
from mini_pythia.schedule import checkpoint_steps, record_steps, segments
from mini_pythia.store import StateStore

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
GRADIENT = jax.jit(
    jax.value_and_grad(lambda params, tokens: training.next_token_loss(params, CONFIG, tokens))
)


def fresh():
    return training.init_state(CONFIG, SETTINGS, key=jax.random.key(0))


def advance(state, start, stop, block=BLOCK, settings=SETTINGS):
    return training.advance(
        state,
        jnp.asarray(block),
        jnp.int32(start),
        jnp.int32(stop),
        config=CONFIG,
        settings=settings,
    )


def assert_identical(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_the_loss_is_the_mean_of_log_probabilities_read_one_by_one():
    params = fresh().params
    tokens = BLOCK[0, :2]
    logits = np.asarray(training.model.forward(params, CONFIG, jnp.asarray(tokens)), np.float64)
    total = 0.0
    for sequence in range(2):
        for position in range(16):
            row = logits[sequence, position]
            total -= row[tokens[sequence, position + 1]] - np.log(np.exp(row).sum())
    loss = training.next_token_loss(params, CONFIG, jnp.asarray(tokens))
    assert float(loss) == pytest.approx(total / 32, rel=1e-5)


def test_a_span_equals_its_steps_taken_by_hand():
    transform = training.optimizer(SETTINGS)

    @jax.jit
    def step(params, opt_state, gradients):
        updates, opt_state = transform.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    state = fresh()
    params, opt_state, losses = state.params, state.opt_state, []
    for tokens in BLOCK[:6]:
        loss, gradients = GRADIENT(params, jnp.asarray(tokens))
        params, opt_state = step(params, opt_state, gradients)
        losses.append(float(loss))
    state = advance(state, 0, 6)
    assert int(state.step) == 6
    np.testing.assert_allclose(state.losses[:6], losses, rtol=1e-4)
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True):
        # Adam amplifies rounding where a gradient is nearly zero: the keys' bias has none.
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_the_first_step_is_adamws_closed_form():
    # After one step Adam's moments give the gradient's sign, and decay acts on matrices alone.
    start = fresh()
    after = advance(start, 0, 1)
    gradients = GRADIENT(start.params, jnp.asarray(BLOCK[0]))[1]
    trees = (start.params, after.params, gradients)
    for before, now, gradient in zip(*map(jax.tree.leaves, trees), strict=True):
        decay = 0.1 * before if before.ndim > 1 else 0.0
        moving = np.abs(gradient) > 1e-4
        expected = before - SETTINGS.learning_rate * (np.sign(gradient) + decay)
        np.testing.assert_allclose(now[moving], np.asarray(expected)[moving], atol=1e-5)


def test_where_a_run_stops_changes_nothing_to_the_bit():
    whole = advance(fresh(), 0, 6)
    pieces = fresh()
    for start, stop in ((0, 1), (1, 2), (2, 5), (5, 6)):
        pieces = advance(pieces, start, stop)
    assert_identical(whole, pieces)


def test_a_restored_run_ends_with_the_same_bits(tmp_path):
    whole = advance(fresh(), 0, 6)
    with StateStore(tmp_path / "state") as store:
        assert store.restore(fresh()) is None
        store.save(advance(fresh(), 0, 2), 2)
        store.save(advance(fresh(), 0, 4), 4)
    with StateStore(tmp_path / "state") as store:
        assert store.latest_step == 4
        restored = store.restore(fresh())
    assert int(restored.step) == 4
    assert np.isnan(np.asarray(restored.losses)).tolist() == [False] * 4 + [True] * 76
    assert_identical(whole, advance(restored, 4, 6))


def test_spans_of_any_length_share_one_compilation():
    advance(fresh(), 0, 2)
    compiled = training.advance._cache_size()
    advance(fresh(), 1, 5)
    assert training.advance._cache_size() == compiled


def test_eight_devices_give_the_figures_of_one():
    mesh = training.data_mesh(jax.devices())
    assert mesh.size == 8
    block = training.place_block(BLOCK, mesh)
    assert {shard.data.shape for shard in block.addressable_shards} == {(80, 1, 17)}
    state = training.replicate(fresh(), mesh)
    sharded = training.advance(
        state, block, jnp.int32(0), jnp.int32(6), config=CONFIG, settings=SETTINGS
    )
    single = advance(fresh(), 0, 6)
    np.testing.assert_allclose(sharded.losses, single.losses, rtol=1e-4)
    leaf = sharded.params["embed_in"]["embedding"]
    assert len(leaf.sharding.device_set) == 8
    assert leaf.sharding.is_fully_replicated
    with pytest.raises(ValueError, match="batch of 8 sequences cannot be divided over 3"):
        training.place_block(BLOCK, training.data_mesh(jax.devices()[:3]))


def test_training_learns_a_deterministic_language():
    state = advance(fresh(), 0, 80)
    assert float(state.losses[0]) == pytest.approx(np.log(64), abs=0.5)
    assert float(state.losses[-1]) < 0.3


def test_bfloat16_keeps_float32_masters_and_nearly_the_loss():
    settings = dataclasses.replace(SETTINGS, dtype="bfloat16")
    low, full = advance(fresh(), 0, 6, settings=settings), advance(fresh(), 0, 6)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(low.params))
    np.testing.assert_allclose(low.losses[:6], full.losses[:6], rtol=2e-2)
    assert not np.array_equal(low.losses[:6], full.losses[:6])


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


def test_segments_cover_every_step_once_and_stop_at_every_boundary():
    boundaries = record_steps(checkpoint_steps(103, 50), 25)
    for start in (0, 3, 40, 102):
        spans = segments(boundaries, 20, start)
        assert [step for a, b in spans for step in range(a, b)] == list(range(start, 103))
        assert {b for b in boundaries if b > start} <= {stop for _, stop in spans}
        assert all(a // 20 == (b - 1) // 20 for a, b in spans)


def test_prefetch_keeps_the_order_runs_ahead_and_stops():
    made = []

    def make(index):
        made.append((index, threading.current_thread().name))
        return index * index

    before = threading.active_count()
    items = prefetch(make, 3, 100)
    assert [next(items) for _ in range(4)] == [9, 16, 25, 36]
    items.close()
    assert threading.active_count() == before
    assert [index for index, _ in made] == list(range(3, 3 + len(made)))
    assert len(made) <= 4 + 2 + 1
    assert {name for _, name in made} == {"prefetch"}


def test_an_error_on_the_background_thread_reaches_the_loop():
    def make(index):
        if index == 2:
            raise OSError("disk gone")
        return index

    items = prefetch(make, 0, 5)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(OSError, match="disk gone"):
        next(items)
