import dataclasses
import errno

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from toy import language, recall
from toy.memory import Memory
from toy.recall_problem import RecallProblem
from toy.transformer import TransformerConfig
from training import loop as training
from training import optimizer
from training.checkpoint import CheckpointError, Store
from training.loop import Measurement, NonFiniteError, Trainer
from training.optimizer import OptimizerConfig

SAMPLED = Memory(6, 0.4, batch_size=16)
MOMENTUM = optimizer.build(OptimizerConfig(learning_rate=0.5))


def same(a, b):
    """Equal to the bit, every leaf."""
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: np.array_equal(x, y), a, b)))


@pytest.fixture(scope="module")
def problem():
    task = recall.make_task(language.zipf(5), alpha=0.5, length=8)
    model = TransformerConfig(task.vocab_size, 8, d_model=6, feed_forward=("linear",))
    return RecallProblem(task, model, batch_size=16)


@pytest.fixture(scope="module")
def alone(problem):
    """Seed 3 on one device."""
    return Trainer(problem, MOMENTUM, (3,))


@pytest.fixture(scope="module")
def expected(alone):
    return alone.advance(alone.init(), 7)


def agree(a, b):
    """Up to rounding, every leaf."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-6), a, b)


def test_where_a_run_is_cut_does_not_matter(alone, expected):
    whole, loss = expected
    cut, first = alone.advance(alone.init(), 3)
    cut, second = alone.advance(cut, 4)
    assert same(whole, cut)
    np.testing.assert_allclose((3 * first + 4 * second) / 7, loss, rtol=1e-6)
    assert int(whole.step) == 7


def test_seeds_side_by_side_are_the_seeds_alone(problem, expected):
    trainer = Trainer(problem, MOMENTUM, (9, 3, 5))
    together, losses = trainer.advance(trainer.init(), 7)
    np.testing.assert_allclose(losses[1:2], expected[1], rtol=1e-5)
    middle = jax.tree.map(lambda x: x[1:2], (together.params, together.frozen))
    agree(middle, (expected[0].params, expected[0].frozen))
    assert len(np.unique(np.round(losses, 4))) == 3


def test_eight_devices_do_what_one_does(problem, expected):
    eight = Trainer(problem, MOMENTUM, (3,), tuple(jax.devices()))
    state = eight.init()
    compiled = eight._advance.lower(state, 7).compile()
    assert "all-reduce" in compiled.as_text(), "the batch is not spread over the devices"
    spread, loss = compiled(state, 7)
    assert len(jax.tree.leaves(spread.params)[0].sharding.device_set) == 8
    np.testing.assert_allclose(loss, expected[1], rtol=1e-5)
    agree(spread.params, expected[0].params)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_one_compilation_serves_every_distance(name):
    config = OptimizerConfig(name, warmup=2, steps=9, schedule="cosine")
    trainer = Trainer(SAMPLED, optimizer.build(config), (0,))
    state = trainer.init()
    for distance in (1, 3, 5):
        state, _ = trainer.advance(state, distance)
    assert trainer._advance._cache_size() == 1


def probe(params, frozen, key):
    return {"norm": optax.tree.norm(params), "draw": jax.random.uniform(key)}


def measurements(*steps):
    return [Measurement("probe", probe, frozenset(steps))]


def test_resuming_gives_the_same_run_to_the_bit(tmp_path):
    def trainer():
        return Trainer(SAMPLED, MOMENTUM, (1, 2))

    def records(store, measured=(0, 2, 5, 9)):
        return training.run(
            trainer(), measurements(*measured), num_steps=9, checkpoint_steps=(4,), store=store
        )

    whole = Store(tmp_path / "whole")
    expected = list(records(whole))
    interrupted = Store(tmp_path / "cut")
    begun = []
    for record in records(interrupted):
        begun.append(record)
        if record.step == 5:
            break
    interrupted.wait()
    assert interrupted.steps()[-1] == 4

    again = Store(tmp_path / "cut")
    continued = list(records(again))
    kept = [r for r in begun if r.step <= 4] + continued
    assert [r.step for r in kept] == [r.step for r in expected]
    for got, wanted in zip(kept, expected, strict=True):
        assert np.array_equal(got.loss, wanted.loss, equal_nan=True)
        assert same(got.measured, wanted.measured)
    assert same(again.restore(trainer().abstract()), whole.restore(trainer().abstract()))
    assert list(records(again)) == []


def test_every_record_comes_once_and_every_save_is_announced(tmp_path):
    trainer = Trainer(SAMPLED, MOMENTUM, (0,))
    store = Store(tmp_path)
    told = []
    for record in training.run(
        trainer, measurements(0, 3, 8), num_steps=8, checkpoint_steps=(5,), store=store
    ):
        # What belongs to a checkpoint can be kept by the reader before it is written.
        assert record.step not in store.steps()
        told.append((record.step, sorted(record.measured)))
    assert told == [(0, ["probe"]), (3, ["probe"]), (5, []), (8, ["probe"])]
    assert store.steps() == (5, 8)


def test_loss_of_a_record_is_the_mean_since_the_record_before():
    def one_by_one():
        trainer = Trainer(SAMPLED, MOMENTUM, (0,))
        state = trainer.init()
        for _ in range(6):
            state, loss = trainer.advance(state, 1)
            yield float(loss[0])

    losses = list(one_by_one())
    trainer = Trainer(SAMPLED, MOMENTUM, (0,))
    records = list(training.run(trainer, measurements(0, 2, 6), num_steps=6))
    assert np.isnan(records[0].loss[0])
    np.testing.assert_allclose(records[1].loss[0], np.mean(losses[:2]), rtol=1e-6)
    np.testing.assert_allclose(records[2].loss[0], np.mean(losses[2:]), rtol=1e-6)


def test_the_device_is_given_work_before_the_host_reads():
    dispatched = []

    class Watched(Trainer):
        def advance(self, state, num_steps):
            dispatched.append(int(num_steps))
            return super().advance(state, num_steps)

    trainer = Watched(SAMPLED, MOMENTUM, (0,))
    seen = []
    for record in training.run(trainer, measurements(1, 2, 4, 8), num_steps=8):
        seen.append((record.step, sum(dispatched)))
    assert seen == [(1, 2), (2, 4), (4, 8), (8, 8)]


@dataclasses.dataclass(frozen=True)
class Cliff:
    """A weight that climbs by the learning rate each step, and a loss that ends at a height."""

    height: float
    infinite: bool = False

    def init(self, key):
        return {"w": 3 * jax.random.uniform(key)}, {}

    def loss(self, params, frozen, key, shard):
        w = params["w"]
        beyond = jnp.inf if self.infinite else jnp.nan
        return jnp.where(w > self.height, beyond, -w)


@pytest.mark.parametrize("infinite", [False, True])
def test_what_is_not_finite_stops_the_run_and_leaves_the_checkpoint_before(tmp_path, infinite):
    problem = Cliff(7.5, infinite)
    trainer = Trainer(problem, optax.sgd(1.0), (7, 8, 9))
    start = np.asarray(trainer.init().params["w"])
    # The loss of step n is taken at start + n - 1.
    first_bad = np.floor(7.5 - start).astype(int) + 2
    assert 4 < first_bad.min() <= 8
    assert first_bad.min() < first_bad.max(), "the seeds should fall at different steps"
    store = Store(tmp_path)
    seen = []
    records = training.run(
        trainer, measurements(*range(9)), num_steps=8, checkpoint_steps=(2, 4), store=store
    )
    with pytest.raises(NonFiniteError, match="is not finite at step") as caught:
        seen.extend(record.step for record in records)
    first = int(first_bad.min())
    assert (caught.value.step, caught.value.seed) == (first, (7, 8, 9)[int(np.argmin(first_bad))])
    assert seen == list(range(first))
    store.wait()
    assert store.steps() == (2, 4)
    assert np.array_equal(store.restore(trainer.abstract(), 4).params["w"], start + 4)


def test_weights_that_overflow_are_noticed_where_the_loss_is_still_finite():
    class Overflow(Cliff):
        def loss(self, params, frozen, key, shard):
            return jnp.exp(-params["w"]) - 3e38 * params["w"]

    trainer = Trainer(Overflow(0.0), optax.sgd(10.0), (0,))
    with pytest.raises(NonFiniteError, match="seed 0 is not finite at step 1"):
        list(training.run(trainer, measurements(1), num_steps=1))


def test_seed_and_purpose_decide_the_draws():
    state = Trainer(Cliff(9.0), optax.sgd(1.0), (7, 8)).init()
    evaluate = Trainer(SAMPLED, MOMENTUM, (7, 8)).measure(probe)
    draws = np.asarray(evaluate(Trainer(SAMPLED, MOMENTUM, (7, 8)).init())["draw"])
    assert len({*draws.tolist(), *np.asarray(state.params["w"]).tolist()}) == 4


def test_log_spaced():
    assert sorted(training.log_spaced(20, every=6)) == [0, 1, 2, 4, 6, 8, 12, 16, 18, 20]
    assert sorted(training.log_spaced(20, every=20, first=3)) == [0, 3, 6, 12, 20]
    assert sorted(training.log_spaced(1, every=50)) == [0, 1]


def test_store_refuses_what_is_not_there(tmp_path):
    store = Store(tmp_path)
    trainer = Trainer(SAMPLED, MOMENTUM, (0,))
    assert store.restore(trainer.abstract()) is None
    store.save(3, trainer.init())
    store.wait()
    with pytest.raises(CheckpointError, match="no checkpoint of step 2; there are"):
        store.restore(trainer.abstract(), 2)
    other = Trainer(SAMPLED, optimizer.build(OptimizerConfig("adam")), (0,))
    with pytest.raises(CheckpointError, match="checkpoint 3 cannot be read"):
        store.restore(other.abstract())


def test_a_full_disk_is_an_error_of_the_system(tmp_path, monkeypatch):
    store = Store(tmp_path)
    # The words of tensorstore 0.1.86 on a full file system.
    message = (
        'RESOURCE_EXHAUSTED: Failed writing: "x": Failed to write 3208 bytes to file 6: '
        "No space left on device [os_error_code='28']"
    )

    def fail(*_, **__):
        raise ValueError(message)

    monkeypatch.setattr(store._manager, "save", fail)
    monkeypatch.setattr(store._manager, "wait_until_finished", fail)
    for call in (lambda: store.save(1, {}), store.wait):
        with pytest.raises(OSError, match="No space left") as caught:
            call()
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path))
    message = "another fault"
    with pytest.raises(ValueError, match="another fault"):
        store.wait()
