"""Against the update rules that PyTorch documents, written out in NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from truncated_weights.training import optimizer
from truncated_weights.training.optimizer import OptimizerConfig

STEPS = 12
TARGETS = np.random.default_rng(0).normal(size=(STEPS, 3))
START = np.array([1.0, -2.0, 0.5])


def gradient(w, step):
    """Of a loss that changes every step: |w - target|^4 / 4, by coordinate."""
    return (w - TARGETS[step]) ** 3


def with_optax(config):
    descent = optimizer.build(config)
    with jax.enable_x64(True):
        w = jnp.asarray(START)
        state = descent.init(w)
        for step in range(STEPS):
            updates, state = descent.update(gradient(w, step), state, w)
            w = optax.apply_updates(w, updates)
        return np.asarray(w)


def sgd(rate, momentum, decay):
    """torch.optim.SGD, dampening 0."""
    w, buffer = START.copy(), None
    for step in range(STEPS):
        g = gradient(w, step) + decay * w
        buffer = g if buffer is None else momentum * buffer + g
        w = w - rate * buffer
    return w


def adam(rate, beta1, decay, *, decoupled):
    """torch.optim.Adam and AdamW: beta2 0.999, eps 1e-8."""
    w, first, second = START.copy(), np.zeros(3), np.zeros(3)
    for step in range(STEPS):
        g = gradient(w, step)
        if decoupled:
            w = w - rate * decay * w
        else:
            g = g + decay * w
        first = beta1 * first + (1 - beta1) * g
        second = 0.999 * second + 0.001 * g**2
        corrected = first / (1 - beta1 ** (step + 1))
        root = np.sqrt(second / (1 - 0.999 ** (step + 1)))
        w = w - rate * corrected / (root + 1e-8)
    return w


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd_is_that_of_pytorch(momentum, decay):
    got = with_optax(OptimizerConfig("sgd", 0.01, momentum, decay))
    np.testing.assert_allclose(got, sgd(0.01, momentum, decay), rtol=1e-12)


@pytest.mark.parametrize(("name", "decoupled"), [("adam", False), ("adamw", True)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_is_that_of_pytorch(name, decoupled, decay):
    got = with_optax(OptimizerConfig(name, 0.05, 0.8, decay))
    # One order of operations differs: AdamW decays before its step in PyTorch, beside it here.
    tolerance = 1e-12 if decay == 0 or not decoupled else 1e-9
    np.testing.assert_allclose(got, adam(0.05, 0.8, decay, decoupled=decoupled), rtol=tolerance)


@pytest.mark.parametrize(
    ("schedule", "warmup", "rates"),
    [
        ("constant", 0, [0.4] * 8),
        ("constant", 2, [0.0, 0.2, *[0.4] * 6]),
        ("linear", 0, [0.4 * (1 - k / 8) for k in range(8)]),
        ("linear", 4, [0, 0.1, 0.2, 0.3, 0.4, 0.3, 0.2, 0.1]),
        ("cosine", 0, [0.2 * (1 + math.cos(math.pi * k / 8)) for k in range(8)]),
        (
            "cosine",
            4,
            [0, 0.1, 0.2, 0.3, *(0.2 * (1 + math.cos(math.pi * k / 4)) for k in range(4))],
        ),
    ],
)
def test_schedules_have_their_closed_form(schedule, warmup, rates):
    config = OptimizerConfig("sgd", 0.4, 0.0, 0.0, schedule, warmup, steps=8)
    descent = optimizer.build(config)
    state = descent.init(jnp.zeros(()))
    taken = []
    for _ in range(8):
        update, state = descent.update(jnp.ones(()), state, jnp.zeros(()))
        taken.append(-float(update))
    np.testing.assert_allclose(taken, rates, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_weight_that_is_unfrozen_begins_afresh(name):
    config = OptimizerConfig(name, 0.05, 0.8, 0.1)
    staged = optimizer.unfreezing(optimizer.build(config), lambda params: {"early": 0, "late": 4})
    plain = optimizer.build(config)
    with jax.enable_x64(True):
        w = {"early": jnp.asarray(START), "late": jnp.asarray(START)}
        state = staged.init(w)
        alone, alone_state = jnp.asarray(START), plain.init(jnp.asarray(START))
        for step in range(STEPS):
            g = {name: gradient(leaf, step) for name, leaf in w.items()}
            updates, state = staged.update(g, state, w)
            w = optax.apply_updates(w, updates)
            if step < 4:
                np.testing.assert_array_equal(w["late"], START)
                continue
            # As an optimiser that first sees the weight at step 4.
            updates, alone_state = plain.update(gradient(alone, step), alone_state, alone)
            alone = optax.apply_updates(alone, updates)
            np.testing.assert_allclose(w["late"], alone, rtol=1e-12)
    expected = {"sgd": sgd(0.05, 0.8, 0.1), "adamw": adam(0.05, 0.8, 0.1, decoupled=True)}[name]
    np.testing.assert_allclose(w["early"], expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": -0.1}, "momentum"),
        ({"b2": 1.0}, "b2"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"warmup": -1}, "warmup"),
        ({"warmup": 5, "steps": 5}, "warmup is 5, it must be below the 5 steps"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**settings)


def test_muon_makes_the_step_of_a_matrix_orthogonal_and_leaves_vectors_to_adam():
    """After one step every singular value of the update is about the learning rate."""
    config = optimizer.OptimizerConfig("muon", learning_rate=0.1, momentum=0.9, weight_decay=0.0)
    descent = optimizer.build(config)
    rng = np.random.default_rng(0)
    params = {"matrix": jnp.zeros((6, 4)), "vector": jnp.zeros(3)}
    gradients = {
        "matrix": jnp.asarray(rng.normal(size=(6, 4)) * [1, 10, 100, 1000], jnp.float32),
        "vector": jnp.asarray([1.0, -2.0, 0.5]),
    }
    updates, _ = descent.update(gradients, descent.init(params), params)
    values = np.linalg.svd(updates["matrix"], compute_uv=False)
    # The published polynomial stops within a third of one, whatever the spectrum was: 1 to 1000.
    assert values.max() / values.min() < 6
    # optax gives vectors Nesterov's Adam: in the first step (1 - b1^2 + b1 (1 - b1)) / (1 - b1^2).
    step = 0.1 * (1 + 0.9 * 0.1 / 0.19)
    np.testing.assert_allclose(updates["vector"], [-step, step, -step], rtol=1e-3)
