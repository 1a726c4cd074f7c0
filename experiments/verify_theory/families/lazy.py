"""The kernel of the two-layer Transformer at its start, and the noise it learns with it.

Predictions neglect attention and finite width, so that rows have a tolerance beside the standard
error over seeds.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.verify_theory.effort import Effort, Outcome
from experiments.verify_theory.families import early, sampling
from experiments.verify_theory.families.early import LENGTH, WIDTH
from experiments.verify_theory.table import Row, mean_and_error
from theory import lazy
from toy import language, linearised, recall, transformer

FAMILY = "lazy"
TOKENS, ALPHA = 32, 0.5
SEQUENCES = 16
STEPS = 4


def verify(effort: Effort, seed: int) -> Outcome:
    """Rows and arrays of the family."""
    task = recall.make_task(language.zipf(TOKENS), alpha=ALPHA, length=LENGTH)
    config = early.model(task)
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
                error=float(error),
                tolerance=0.25,
                note="attention neglected",
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
            error=float(error),
            tolerance=0.25,
            note="small in the limit of long contexts",
        )
    )
    # Both, so that where they agree says that the noise is learned lazily.
    noise = {
        "full": early.trained(task, seeds, STEPS),
        "linearised": early.trained(task, seeds, STEPS, linear=True),
    }
    curves = early.foretold(task, ALPHA, STEPS)
    for step in range(1, STEPS + 1):
        mean, error = mean_and_error(noise["full"][step])
        linear = float(noise["linearised"][step].mean())
        _, paired = mean_and_error(noise["full"][step] - noise["linearised"][step])
        for name, foretold, sem, note in (
            ("no network", float(curves.noise[step]), error, "attention neglected"),
            ("linearised network", linear, paired, "the same seeds, error of the difference"),
        ):
            rows.append(
                Row(
                    FAMILY,
                    f"one plus p(noise), step {step}, by {name}",
                    setting,
                    1.0 + foretold,
                    1.0 + float(mean),
                    error=float(sem),
                    tolerance=0.1,
                    note=note,
                )
            )
    return Outcome(rows, {f"lazy/{variant}/p_noise": found for variant, found in noise.items()})


def _kernels(
    task: recall.Task, config: transformer.TransformerConfig, seeds: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Mean kernel over pairs of triggers at different positions, one entry per seed."""

    @functools.partial(jax.jit, compiler_options=sampling.BRIEFLY)
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
