"""The kernel of the two-layer Transformer at its start, the noise it learns with it, its plateau.

Predictions neglect attention and finite width, so that rows have a tolerance beside the standard
error over seeds, which the note gives.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.verify_theory.effort import Effort, Outcome
from experiments.verify_theory.table import Row, mean_and_error
from theory import lazy, plateau
from toy import language, linearised, recall, sharpness, transformer
from toy.probes.outputs import predictions
from toy.recall_problem import RecallProblem
from training.loop import Trainer

FAMILY = "lazy"
WIDTH, LENGTH, TOKENS, ALPHA = 64, 64, 32, 0.5
SEQUENCES = 16
LEARNING_RATE, MOMENTUM, BATCH = 0.03, 0.9, 64
STEPS = 4
# The plateau is measured on a smaller network, after recall has come.
SMALL_WIDTH, SMALL_LENGTH, SMALL_TOKENS, SMALL_BATCH = 32, 32, 16, 32
SETTLING, WATCHED, RINGING_SEEDS = 300, 300, 2


def verify(effort: Effort, seed: int) -> Outcome:
    """Rows and arrays of the family."""
    task = recall.make_task(language.zipf(TOKENS), alpha=ALPHA, length=LENGTH)
    config = transformer.TransformerConfig(task.vocab_size, LENGTH, d_model=WIDTH)
    seeds = tuple(range(seed, seed + effort.lazy_seeds))
    kernels = _kernels(task, config, seeds)
    predicted = lazy.part_kernels(WIDTH, 4 * WIDTH, 1.0)
    setting = f"d={WIDTH}, T={LENGTH}, {len(seeds)} seeds"
    rows = []
    for name in lazy.PARTS:
        mean, error = mean_and_error(kernels[name])
        rows.append(
            Row(
                FAMILY,
                f"kernel of {name}, two triggers",
                setting,
                predicted[name],
                float(mean),
                tolerance=0.25,
                note=f"standard error {error:.2g}; attention neglected",
            )
        )
    total = np.sum(list(kernels.values()), axis=0)
    rest = 1.0 - sum(kernels[name] for name in lazy.PARTS) / total
    mean, error = mean_and_error(1.0 + rest)
    rows.append(
        Row(
            FAMILY,
            "one plus share of attention in the kernel",
            setting,
            1.0,
            float(mean),
            tolerance=0.25,
            note=f"standard error {error:.2g}; small in the limit of long contexts",
        )
    )
    noise = _training(task, config, seeds)
    curves = lazy.trigger_curves(
        width=WIDTH,
        hidden=4 * WIDTH,
        num_outputs=task.outputs.size,
        num_classes=task.vocab_size,
        alpha=ALPHA,
        learning_rate=LEARNING_RATE,
        momentum=MOMENTUM,
        steps=STEPS,
    )
    for step in range(1, STEPS + 1):
        mean, error = mean_and_error(noise[step - 1])
        rows.append(
            Row(
                FAMILY,
                f"one plus p(noise), step {step}",
                setting,
                1.0 + float(curves.noise[step]),
                1.0 + float(mean),
                tolerance=0.1,
                note=f"full training, standard error {error:.2g}",
            )
        )
    if effort.plateau_rates:
        rows += _plateau_rows(effort.plateau_rates, seed)
    return Outcome(rows, {"lazy/p_noise": noise})


def _kernels(
    task: recall.Task, config: transformer.TransformerConfig, seeds: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Mean kernel over pairs of triggers at different positions, one entry per seed."""

    @jax.jit
    def one(key: jax.Array) -> dict[str, jax.Array]:
        start, data, signs = jax.random.split(key, 3)
        params, frozen = transformer.init(config, start)
        batch = recall.sample(task, data, batch_size=SEQUENCES)
        found = linearised.part_kernels(task, config, params, frozen, batch, signs, draws=4)
        where = jnp.max(batch.positions * batch.weights.astype(int), axis=1)
        apart = where[:, None] != where[None]
        return {k: jnp.sum(v * apart) / jnp.sum(apart) for k, v in found.items()}

    found = [jax.device_get(one(jax.random.key(seed))) for seed in seeds]
    return {name: np.array([f[name] for f in found], np.float64) for name in found[0]}


def _training(
    task: recall.Task, config: transformer.TransformerConfig, seeds: tuple[int, ...]
) -> np.ndarray:
    """p(noise) on clean sequences after each of the first steps, [steps, seeds]."""
    problem = linearised.LinearisedProblem(RecallProblem(task, config, BATCH), ())
    descent = optax.sgd(LEARNING_RATE, momentum=MOMENTUM)
    trainer = Trainer(problem, descent, seeds, num_steps=STEPS)
    measure = trainer.measure(linearised.measure(problem, batch_size=BATCH))
    state, found = trainer.init(), []
    for _ in range(STEPS):
        state = trainer.advance(state, 1)
        found.append(np.asarray(measure(state)["p_noise"], np.float64))
    return np.array(found)


def _plateau_rows(rates: tuple[float, ...], seed: int) -> list[Row]:
    """Deviation and half period of the wander of p(noise), with the sharpness beside it."""
    task = recall.make_task(language.zipf(SMALL_TOKENS), alpha=ALPHA, length=SMALL_LENGTH)
    config = transformer.TransformerConfig(task.vocab_size, SMALL_LENGTH, d_model=SMALL_WIDTH)
    many = recall.sample(task, jax.random.key(seed), batch_size=16 * SMALL_BATCH)
    labels = float(jnp.sum(many.weights)) / 16
    ring = jax.jit(jax.vmap(_ringing(task, config), in_axes=(0, None)))
    rows = []
    for rate in rates:
        noise, bend = map(np.asarray, ring(seed + jnp.arange(RINGING_SEEDS), rate))
        expected = plateau.wander(
            sharpness=float(bend.mean()),
            learning_rate=rate,
            momentum=MOMENTUM,
            alpha=ALPHA,
            labels=labels,
        )
        away = noise - noise.mean(axis=1, keepdims=True)
        correlation = [np.mean(away[:, k:] * away[:, : WATCHED - k]) for k in range(1, 16)]
        setting = f"d={SMALL_WIDTH}, T={SMALL_LENGTH}, rate {rate:g}, momentum {MOMENTUM}"
        edge = plateau.edge_of_stability(rate, MOMENTUM)
        note = f"sharpness {bend.mean():.3g}, edge of stability {edge:.3g}"
        for name, predicted, measured in (
            ("deviation of p(noise)", expected.deviation, float(np.sqrt(np.mean(away**2)))),
            (
                "lag of the lowest correlation",
                1.0 + int(np.argmin(expected.correlation[1:16])),
                1.0 + int(np.argmin(correlation)),
            ),
        ):
            rows.append(Row(FAMILY, name, setting, predicted, measured, tolerance=0.35, note=note))
    return rows


def _ringing(
    task: recall.Task, config: transformer.TransformerConfig
) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """(seed, rate) -> p(noise) at each watched step on clean sequences, and the sharpness then."""
    problem = RecallProblem(task, config, SMALL_BATCH)
    clean = recall.sample(task, jax.random.key(98), batch_size=128, alpha=0.0)
    noisy = recall.sample(task, jax.random.key(99), batch_size=256)

    def run(seed: jax.Array, rate: jax.Array) -> tuple[jax.Array, jax.Array]:
        start, data = jax.random.split(jax.random.key(seed))
        params, frozen = problem.init(start)
        descent = optax.sgd(rate, momentum=MOMENTUM)

        def step(carry: tuple, index: jax.Array) -> tuple[tuple, jax.Array]:
            params, state = carry
            key = jax.random.fold_in(data, index)
            gradient = jax.grad(problem.loss)(params, frozen, key, lambda batch: batch)
            updates, state = descent.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            logits = linearised.scored_logits(config, params, frozen, clean)
            found = predictions(task, logits, clean)["p_noise"]
            return (params, state), recall.mean(found, clean)

        carry = (params, descent.init(params))
        (params, _), noise = jax.lax.scan(step, carry, jnp.arange(SETTLING + WATCHED))

        def loss(params: transformer.Weights) -> jax.Array:
            logits = linearised.scored_logits(config, params, frozen, noisy)
            log_p = jax.nn.log_softmax(logits, axis=-1)
            picked = jnp.take_along_axis(log_p, noisy.labels[:, :, None], axis=-1)[:, :, 0]
            return -recall.mean(picked, noisy)

        return noise[SETTLING:], sharpness.sharpest(loss, params, jax.random.key(0)).value

    return run
