"""Runs side by side: vectorised, mapped, and spread over a mesh of (runs, batch)."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.training import optimizer, runs
from truncated_weights.training.checkpoint import Store
from truncated_weights.training.optimizer import OptimizerConfig
from truncated_weights.training.trainer import Trainer

SEEDS = (3, 4, 5, 6)
VALUES = {
    "alpha": np.array([0.5, 0.1, 0.9, 0.3]),
    "learning_rate": np.array([0.5, 0.25, 0.1, 0.5]),
}
STEPS = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Flipped:
    """Logistic regression on labels that are flipped with probability alpha: small and quick."""

    alpha: object = 0.5

    def init(self, key):
        return {"w": jax.random.normal(key, (6, 3))}, {"u": jnp.ones(3)}

    def given(self, values):
        return Flipped(values["alpha"])

    def draw(self, key):
        x = jax.random.normal(key, (8, 6))
        return x, (x[:, 0] > 0) ^ jax.random.bernoulli(jax.random.fold_in(key, 1), self.alpha, (8,))

    def loss(self, params, frozen, key, shard):
        x, y = shard(self.draw(key))
        hidden = jnp.tanh(jnp.matmul(x, params["w"], precision=jax.lax.Precision.HIGHEST))
        return jnp.mean(jnp.logaddexp(0.0, jnp.where(y, -1.0, 1.0) * jnp.sum(hidden, axis=1)))


def make(chosen=(0, 1, 2, 3), **options):
    return Trainer(
        Flipped(),
        functools.partial(optimizer.build, OptimizerConfig()),
        [SEEDS[i] for i in chosen],
        num_steps=STEPS,
        values={name: value[list(chosen)] for name, value in VALUES.items()},
        **options,
    )


@pytest.fixture(scope="module")
def alone():
    """Every run by itself, on one device: what all the others must reproduce."""
    ends = []
    for index in range(len(SEEDS)):
        trainer = make([index])
        ends.append(trainer.advance(trainer.init(), STEPS))
    return jax.tree.map(lambda *x: np.concatenate(x), *((e.params, e.losses) for e in ends))


def agree(state, alone):
    got = jax.device_get((state.params, state.losses))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-6), got, alone)


@pytest.mark.parametrize("together", [1, 3, 4])
def test_however_many_are_done_at_once_each_is_the_run_alone(alone, together):
    trainer = make(together=together)
    agree(trainer.advance(trainer.init(), STEPS), alone)


@pytest.mark.parametrize(
    ("devices", "shape", "together"), [(2, (2, 1), 1), (2, (2, 1), 4), (8, (4, 2), 1)]
)
def test_runs_and_batch_share_the_devices(alone, devices, shape, together):
    trainer = make(devices=jax.devices()[:devices], together=together)
    state = trainer.advance(trainer.init(), STEPS)
    agree(state, alone)
    assert tuple(trainer._mesh.shape.values()) == shape
    leaf = jax.tree.leaves(state.params)[0]
    # Weights of a run lie on the devices of that run only.
    assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {len(SEEDS) // shape[0]}


def test_a_mesh_of_the_largest_number_of_groups():
    devices = jax.devices()
    shapes = {n: tuple(runs.mesh(devices, n).shape.values()) for n in (1, 3, 4, 6, 8, 32)}
    assert shapes == {1: (1, 8), 3: (1, 8), 4: (4, 2), 6: (2, 4), 8: (8, 1), 32: (8, 1)}


@pytest.mark.parametrize("together", [1, 4])
def test_one_trace_serves_every_number(together):
    """Other seeds and other values compile nothing: they are arguments."""
    trainer = make(together=together)
    chex.clear_trace_counter()
    counted = chex.assert_max_traces(trainer._advance_all, n=1)
    once = jax.jit(counted, donate_argnums=0)
    state = trainer.init()
    for scale in (1.0, 0.5, 0.1):
        values = {name: jnp.asarray(v * scale) for name, v in trainer._values.items()}
        seeds = trainer._seeds + np.uint32(7)
        state = once(state, 1, seeds, values, None, 0)
    assert int(state.step) == 3


def test_a_checkpoint_goes_to_another_number_of_devices(alone, tmp_path):
    eight = make(devices=jax.devices())
    state = eight.advance(eight.init(), 3)
    store = Store(tmp_path)
    store.save(3, state)
    store.wait()
    two = make(devices=jax.devices()[:2])
    found = Store(tmp_path).restore(two.abstract())
    assert len(jax.tree.leaves(found.params)[0].sharding.device_set) == 2
    agree(two.advance(found, STEPS - 3), alone)
