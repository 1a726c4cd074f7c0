"""Averages over sampled sequences, with standard errors from independent groups of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from toy import language, recall

GROUPS = 256

# A language with structure beside the uniform one: Zipf unigrams, random rows.
ZIPF = {"num_tokens": 12, "exponent": 0.7, "concentration": 20.0, "seed": 1}


def task(law: language.Language, *, alpha: float, length: int, trigger: int = 0) -> recall.Task:
    """The task of the theory: one trigger, a noise token of its own, `final` scoring."""
    return recall.make_task(law, alpha=alpha, length=length, triggers=(trigger,), scoring="final")


def group_means(
    problem: recall.Task, statistic: Callable[[recall.Batch], Any], *, sequences: int, seed: int
) -> Any:
    """statistic(batch) of GROUPS batches that share `sequences` sequences, stacked in float64."""
    size = max(1, sequences // GROUPS)

    def one(key: jax.Array) -> Any:
        return statistic(recall.sample(problem, key, batch_size=size))

    keys = jax.random.split(jax.random.key(seed), GROUPS)
    found = jax.jit(lambda keys: jax.lax.map(one, keys))(keys)
    return jax.tree.map(lambda x: np.asarray(x, dtype=np.float64), found)


def replicates(
    problem: recall.Task,
    statistic: Callable[[recall.Batch], jax.Array],
    *,
    samples: int,
    count: int,
    seed: int,
    at_once: int = 4096,
) -> np.ndarray:
    """statistic, a mean over sequences, of `count` independent sets of `samples` sequences.

    Large sets are the means of equal parts, small ones are drawn many at a time.
    """
    parts = max(1, samples // at_once)
    size = samples // parts
    if size * parts != samples:
        raise ValueError(f"samples is {samples}, beyond {at_once} it must be a multiple of that")

    def one(key: jax.Array) -> jax.Array:
        return statistic(recall.sample(problem, key, batch_size=size))

    keys = jax.random.split(jax.random.key(seed), count * parts)
    together = max(1, min(count * parts, at_once // size))
    found = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=together))(keys)
    stacked = np.asarray(found, dtype=np.float64)
    return stacked.reshape(count, parts, *stacked.shape[1:]).mean(axis=1)


def jackknife_ratio(top: np.ndarray, bottom: np.ndarray) -> tuple[float, float]:
    """Ratio of two means over groups and its standard error."""
    groups = len(top)
    ratio = top.sum() / bottom.sum()
    left_out = (top.sum() - top) / (bottom.sum() - bottom)
    return float(ratio), float(jnp.sqrt((groups - 1) * np.mean((left_out - left_out.mean()) ** 2)))
