import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from truncated_weights.toy import language, linearised, recall, transformer
from truncated_weights.toy.probes import wander
from truncated_weights.toy.probes.outputs import predictions
from truncated_weights.toy.recall_problem import RecallProblem


@pytest.fixture(scope="module")
def watcher():
    # Shapes of tests/experiments/theory/test_plateau.py, so that both compile the same programs.
    task = recall.make_task(language.zipf(5), alpha=0.5, length=8)
    config = transformer.TransformerConfig(task.vocab_size, 8, d_model=4)
    return wander.Watcher(RecallProblem(task, config, 4))


def test_steps_are_heavy_ball_on_the_loss_of_training(watcher):
    state = watcher.start(3)
    data = jax.random.fold_in(jax.random.key(3), 1)
    descent = optax.sgd(0.1, momentum=0.7)
    params, moments = state.params, descent.init(state.params)
    slope = jax.jit(lambda p, frozen, key: jax.grad(watcher.problem.loss)(p, frozen, key, _whole))
    for step in range(3):
        key = jax.random.fold_in(data, step)
        gradient = slope(params, state.frozen, key)
        updates, moments = descent.update(gradient, moments, params)
        params = optax.apply_updates(params, updates)
    numbers = wander.Numbers(0.1, 0.7)
    found = watcher.advance(state, numbers, 3, 3)
    for here, there in zip(jax.tree.leaves(found.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-6)
    # Watching is the same steps, and reads p(noise) as other probes do.
    watched, series = watcher.watch(state, numbers, 3, 48)
    assert series.shape == (48,)
    task = watcher.problem.task
    clean = recall.sample(task, jax.random.key(98), batch_size=wander.CLEAN_SEQUENCES, alpha=0.0)
    logits = linearised.scored_logits(watcher.problem.config, watched.params, watched.frozen, clean)
    last = recall.mean(predictions(task, logits, clean)["p_noise"], clean)
    assert float(series[-1]) == pytest.approx(float(last), rel=1e-4)
    assert watcher.p_noise(watched) == pytest.approx(float(last), rel=1e-4)
    assert watcher.p_noise(watched, "1.fc_out") != pytest.approx(float(last), rel=1e-4)


def test_the_largest_seed_is_a_seed(watcher):
    state, numbers = watcher.start(2**31), wander.Numbers(0.1, 0.7)
    found = watcher.advance(state, numbers, 2**31, 1)
    other = watcher.advance(state, numbers, 0, 1)
    leaves = zip(jax.tree.leaves(found.params), jax.tree.leaves(other.params), strict=True)
    assert any(not np.array_equal(one, two) for one, two in leaves)


def _whole(batch):
    return batch


def test_fair_labels_are_the_mean_of_drawn_ones(watcher):
    state, task = watcher.start(0), watcher.problem.task
    batch = recall.sample(task, jax.random.key(1), batch_size=4)
    rng = np.random.default_rng(0)
    noise = jnp.asarray(rng.random((400, *batch.labels.shape)) < 0.5)
    drawn = jnp.where(noise, task.noise[0], batch.correct)
    one = jax.jit(
        jax.vmap(lambda labels: watcher._loss(
            state.params, state.frozen, batch._replace(labels=labels), 0.0
        ))
    )  # fmt: skip
    losses = np.asarray(one(drawn))
    fair = jax.jit(watcher._loss)(state.params, state.frozen, batch, 1.0)
    error = losses.std() / np.sqrt(len(losses))
    assert float(fair) == pytest.approx(losses.mean(), abs=4 * error)


@pytest.mark.slow
def test_modes_weigh_the_gradient_of_p_noise(watcher):
    state, task = watcher.start(1), watcher.problem.task
    found = watcher.curvature(state)
    clean = recall.sample(task, jax.random.key(98), batch_size=wander.CLEAN_SEQUENCES, alpha=0.0)

    def p_noise(params):
        logits = linearised.scored_logits(watcher.problem.config, params, state.frozen, clean)
        return recall.mean(predictions(task, logits, clean)["p_noise"], clean)

    gradient = jax.tree.leaves(jax.jit(jax.grad(p_noise))(state.params))
    square = sum(float(jnp.sum(g**2)) for g in gradient)
    assert float(jnp.sum(found.modes.weights)) == pytest.approx(square, rel=1e-3)
    assert float(found.modes.curvatures.min()) > -1e-3 * float(found.modes.curvatures.max())
    assert float(found.sharpness) > 0
