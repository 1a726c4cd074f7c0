import dataclasses
import errno
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from truncated_weights.toy import language, recall
from truncated_weights.toy.memory import Memory
from truncated_weights.toy.recall_problem import RecallProblem
from truncated_weights.toy.transformer import TransformerConfig
from truncated_weights.training import loop as training
from truncated_weights.training import optimizer
from truncated_weights.training.checkpoint import CheckpointError, Store
from truncated_weights.training.loop import Measurement, NonFiniteError, Trainer
from truncated_weights.training.optimizer import OptimizerConfig
from truncated_weights.training.records import name
from truncated_weights.training.trainer import Spans

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
    return Trainer(problem, MOMENTUM, (3,), num_steps=7)


@pytest.fixture(scope="module")
def expected(alone):
    return alone.advance(alone.init(), 7)


def agree(a, b):
    """Up to rounding, every leaf."""
    chex.assert_trees_all_close(a, b, rtol=1e-7, atol=2e-6)


def test_where_a_run_is_cut_does_not_matter(alone, expected):
    cut = alone.advance(alone.init(), 3)
    assert np.isnan(cut.losses[0]).tolist() == [False] * 3 + [True] * 4
    cut = alone.advance(cut, 4)
    assert same(expected, cut)
    assert int(cut.step) == 7


def test_seeds_side_by_side_are_the_seeds_alone(problem, expected):
    trainer = Trainer(problem, MOMENTUM, (9, 3, 5), num_steps=7)
    together = trainer.advance(trainer.init(), 7)
    middle = jax.tree.map(lambda x: x[1:2], (together.params, together.frozen, together.losses))
    agree(middle, (expected.params, expected.frozen, expected.losses))
    assert len(np.unique(np.round(together.losses[:, -1], 4))) == 3


def test_runs_with_numbers_of_their_own_are_the_runs_alone(problem, alone, expected):
    """alpha, learning rate, momentum and decay as traced values of one program."""
    start = OptimizerConfig(learning_rate=9.0, momentum=0.1, weight_decay=0.0)
    trainer = Trainer(
        problem,
        functools.partial(optimizer.build, start),
        (3, 3, 4),
        num_steps=7,
        values={
            "alpha": jnp.asarray([0.5, 0.1, 0.5]),
            "learning_rate": jnp.asarray([0.5, 0.25, 0.5]),
            "momentum": jnp.asarray([0.9, 0.0, 0.9]),
            "weight_decay": jnp.asarray([1e-4, 0.1, 1e-4]),
        },
    )
    state = trainer.advance(trainer.init(), 7)
    first = jax.tree.map(lambda x: x[:1], (state.params, state.losses))
    agree(first, (expected.params, expected.losses))

    other = dataclasses.replace(problem, task=dataclasses.replace(problem.task, alpha=0.1))
    descent = OptimizerConfig(learning_rate=0.25, momentum=0.0, weight_decay=0.1)
    single = Trainer(other, optimizer.build(descent), (3,), num_steps=7)
    wanted = single.advance(single.init(), 7)
    second = jax.tree.map(lambda x: x[1:2], (state.params, state.losses))
    agree(second, (wanted.params, wanted.losses))
    assert np.abs(state.losses[0] - state.losses[1]).max() > 1e-3


def test_values_are_for_every_run():
    with pytest.raises(ValueError, match="values of alpha are for 2 runs, there are 1"):
        Trainer(SAMPLED, MOMENTUM, (0,), num_steps=1, values={"alpha": jnp.zeros(2)})


def test_eight_devices_do_what_one_does(problem, expected):
    eight = Trainer(problem, MOMENTUM, (3,), tuple(jax.devices()), num_steps=7)
    state = eight.init()
    text = eight._advance.lower(state, 7, eight._seeds, {}, None, 0).compile().as_text()
    assert "all-reduce" in text, "the batch is not spread over the devices"
    spread = eight.advance(state, 7)
    assert len(jax.tree.leaves(spread.params)[0].sharding.device_set) == 8
    agree((spread.params, spread.losses), (expected.params, expected.losses))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_one_compilation_serves_every_distance(name):
    config = OptimizerConfig(name, warmup=2, steps=9, schedule="cosine")
    trainer = Trainer(SAMPLED, optimizer.build(config), (0,), num_steps=9)
    # The loop's own function, counted by chex: a second trace fails.
    chex.clear_trace_counter()
    once = jax.jit(chex.assert_max_traces(trainer._advance_all, n=1), donate_argnums=0)
    object.__setattr__(trainer, "_advance", once)
    state = trainer.init()
    for distance in (1, 3, 5):
        state = trainer.advance(state, distance)
    assert int(state.step) == 9


def probe(problem, params, frozen, key):
    return {name("norm"): optax.tree.norm(params), name("draw"): jax.random.uniform(key)}


def measurements(*steps):
    return [Measurement("probe", probe, frozenset(steps))]


def test_resuming_gives_the_same_run_to_the_bit(tmp_path, monkeypatch):
    # One step a dispatch, however fast the machine: the fourth question comes after step 3.
    monkeypatch.setattr(training, "SECONDS_PER_DISPATCH", 0.0)

    def trainer():
        return Trainer(SAMPLED, MOMENTUM, (1, 2), num_steps=9)

    def records(store, report=lambda record: None, **options):
        kept = []
        end = training.run(
            trainer(),
            measurements(0, 2, 5, 9),
            store=store,
            checkpoint_steps=(4,),
            report=lambda record: (kept.append(record), report(record)),
            **options,
        )
        return kept, end

    class Killed(BaseException):
        pass

    def die(record):
        if record.step == 5:
            begun.append(record)
            raise Killed

    whole = Store(tmp_path / "whole")
    expected, end = records(whole)
    assert (end.step, end.stopped) == (9, False)
    interrupted = Store(tmp_path / "cut")
    begun = []
    with pytest.raises(Killed):
        records(interrupted, lambda record: (begun.append(record), die(record)))
    assert interrupted.steps()[-1] == 4

    again = Store(tmp_path / "cut")
    continued, resumed = records(again)
    kept = [r for r in begun if r.step <= 4] + continued
    assert [r.step for r in kept] == [r.step for r in expected]
    for got, wanted in zip(kept, expected, strict=True):
        assert np.array_equal(got.loss, wanted.loss, equal_nan=True)
        assert same(got.measured, wanted.measured)
    assert same(resumed.state, end.state)
    assert same(again.restore(trainer().abstract()), end.state)
    assert same(whole.restore(trainer().abstract()), end.state)
    nothing, same_end = records(again)
    assert nothing == []
    assert same(same_end.state, end.state)

    # Asked to stop between two records: the state is stored where it is, and forgotten later.
    asked = Store(tmp_path / "asked")
    questions = iter([False, False, False, True])
    first, stopped = records(asked, should_stop=lambda: next(questions))
    assert stopped.stopped
    assert stopped.step == 3
    assert asked.steps()[-1] == stopped.step
    rest, resumed = records(asked)
    assert same(resumed.state, end.state)
    assert asked.steps() == whole.steps()
    for got, wanted in zip([*first, *rest], expected, strict=True):
        assert np.array_equal(got.loss, wanted.loss, equal_nan=True)
        assert same(got.measured, wanted.measured)


def test_every_record_comes_once_and_every_save_is_announced(tmp_path):
    trainer = Trainer(SAMPLED, MOMENTUM, (0,), num_steps=8)
    store = Store(tmp_path)
    told = []

    def before_save(step, state):
        assert step not in store.steps()
        assert int(state.step) == step
        told.append(("save", step))

    training.run(
        trainer,
        measurements(0, 3, 8),
        store=store,
        checkpoint_steps=(5,),
        report=lambda record: told.append((record.step, sorted(record.measured))),
        before_save=before_save,
    )
    # What belongs to a checkpoint can be kept by the reader before it is written.
    assert told == [
        (0, ["probe"]), (3, ["probe"]), (5, []), ("save", 5), (8, ["probe"]), ("save", 8),
    ]  # fmt: skip
    assert store.steps() == (5, 8)


def test_loss_of_a_record_is_the_mean_since_the_record_before():
    trainer = Trainer(SAMPLED, MOMENTUM, (0,), num_steps=6)
    losses = np.asarray(trainer.advance(trainer.init(), 6).losses)[0]
    records = []
    end = training.run(trainer, measurements(0, 2, 6), report=records.append)
    np.testing.assert_array_equal(end.state.losses[0], losses)
    assert np.isnan(records[0].loss[0])
    np.testing.assert_allclose(records[1].loss[0], np.mean(losses[:2]), rtol=1e-6)
    np.testing.assert_allclose(records[2].loss[0], np.mean(losses[2:]), rtol=1e-6)


def test_the_device_is_given_work_before_the_host_reads():
    trainer = Trainer(SAMPLED, MOMENTUM, (0,), num_steps=8)
    sent = [0]
    seen = []
    advance = Spans.advance

    def watched(self, state, num_steps):
        sent.append(sent[-1] + num_steps)
        return advance(self, state, num_steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Spans, "advance", watched)
        training.run(
            trainer,
            measurements(1, 2, 4, 8),
            report=lambda record: seen.append((record.step, sent[-1] > record.step)),
        )
    assert seen == [(1, True), (2, True), (4, True), (8, False)]
    # Dispatches grow as their time allows, never beyond the next record.
    assert sent[:3] == [0, 1, 2]
    assert sent[-1] == 8


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
    trainer = Trainer(problem, optax.sgd(1.0), (7, 8, 9), num_steps=12)
    start = np.asarray(trainer.init().params["w"])
    # The loss of step n is taken at start + n - 1.
    first_bad = np.floor(7.5 - start).astype(int) + 2
    assert first_bad.min() > 4
    assert first_bad.max() <= 10
    assert first_bad.min() < first_bad.max(), "the runs should fall at different steps"
    store = Store(tmp_path)
    seen = []
    with pytest.raises(NonFiniteError, match="is not finite at step") as caught:
        training.run(
            trainer,
            measurements(*range(13)),
            store=store,
            checkpoint_steps=(2, 4),
            report=lambda record: seen.append((record.step, record.first_bad.tolist())),
        )
    # One run that is lost does not stop the others; when all are, the first is named.
    first, last = int(first_bad.min()), int(first_bad.max())
    assert (caught.value.step, caught.value.seed) == (first, (7, 8, 9)[int(np.argmin(first_bad))])
    assert [step for step, _ in seen] == list(range(last))
    for step, lost in seen:
        assert lost == [bad if bad <= step else -1 for bad in first_bad.tolist()]
    assert store.steps() == (2, 4)
    assert np.array_equal(store.restore(trainer.abstract(), 4).params["w"], start + 4)


def test_weights_that_overflow_are_noticed_where_the_loss_is_still_finite():
    class Overflow(Cliff):
        def loss(self, params, frozen, key, shard):
            return jnp.exp(-params["w"]) - 3e38 * params["w"]

    trainer = Trainer(Overflow(0.0), optax.sgd(10.0), (0,), num_steps=1)
    with pytest.raises(NonFiniteError, match="seed 0 is not finite at step 1"):
        training.run(trainer, measurements(1))


def test_seed_and_purpose_decide_the_draws():
    state = Trainer(Cliff(9.0), optax.sgd(1.0), (7, 8), num_steps=1).init()
    trainer = Trainer(SAMPLED, MOMENTUM, (7, 8), num_steps=1)
    draws = np.asarray(trainer.measure(probe)(trainer.init())[name("draw")])
    assert len({*draws.tolist(), *np.asarray(state.params["w"]).tolist()}) == 4


def test_log_spaced():
    assert sorted(training.log_spaced(20, every=6)) == [0, 1, 2, 4, 6, 8, 12, 16, 18, 20]
    assert sorted(training.log_spaced(20, every=20, first=3)) == [0, 3, 6, 12, 20]
    assert sorted(training.log_spaced(1, every=50)) == [0, 1]


def test_store_refuses_what_is_not_there(tmp_path):
    store = Store(tmp_path)
    trainer = Trainer(SAMPLED, MOMENTUM, (0,), num_steps=3)
    assert store.restore(trainer.abstract()) is None
    store.save(3, trainer.init())
    store.wait()
    with pytest.raises(CheckpointError, match="no checkpoint of step 2; there are"):
        store.restore(trainer.abstract(), 2)
    other = Trainer(SAMPLED, optimizer.build(OptimizerConfig("adam")), (0,), num_steps=3)
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
