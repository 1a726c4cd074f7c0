"""Averages over sampled sequences, with standard errors from independent groups of them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from truncated_weights.toy import language, recall

GROUPS = 256

# For programs that run once and for a moment: optimising machine code takes longer than it saves.
BRIEFLY = {"xla_backend_optimization_level": 0}
# Sequences up to which sampling them is such a moment.
FEW = 2**16

# A language with structure beside the uniform one: Zipf unigrams, random rows.
ZIPF = {"num_tokens": 12, "exponent": 0.7, "concentration": 20.0, "seed": 1}


def task(law: language.Language, *, alpha: float, length: int, trigger: int = 0) -> recall.Task:
    """The task of the theory: one trigger, a noise token of its own, `final` scoring."""
    return recall.make_task(law, alpha=alpha, length=length, triggers=(trigger,), scoring="final")


def group_means(
    problem: recall.Task,
    statistic: Callable[..., Any],
    *given: Any,
    sequences: int,
    seed: int,
) -> Any:
    """statistic(batch, *given) of GROUPS batches that share `sequences` sequences, in float64.

    given: arrays, or trees of them. Weights have to come this way and not out of a closure, where
    the compiler sees what they are: see simplified.zeros.
    """
    size = max(1, sequences // GROUPS)
    options = BRIEFLY if sequences <= FEW else None

    @functools.partial(jax.jit, compiler_options=options)
    def draw(keys: jax.Array, *given: Any) -> Any:
        def one(key: jax.Array) -> Any:
            return statistic(recall.sample(problem, key, batch_size=size), *given)

        return jax.lax.map(one, keys)

    found = draw(jax.random.split(jax.random.key(seed), GROUPS), *given)
    return jax.tree.map(lambda x: np.asarray(x, dtype=np.float64), found)


def replicates(
    problem: recall.Task,
    statistic: Callable[..., jax.Array],
    *given: Any,
    samples: Sequence[int],
    count: int,
    seed: int,
    at_once: int = 4096,
) -> dict[int, np.ndarray]:
    """statistic(batch, *given), a mean over sequences, of `count` independent sets of each size.

    Larger sets are the means of parts as large as the smallest, so that one compiled program, of
    at_once sequences a call, draws them all. samples: the sizes. given: as for group_means.
    """
    size = min(samples)
    if any(each % size for each in samples):
        raise ValueError(f"samples are {samples}: all must be multiples of the smallest")
    together = max(1, at_once // size)

    options = BRIEFLY if count * max(samples) <= 4 * FEW else None

    @functools.partial(jax.jit, compiler_options=options)
    def draw(key: jax.Array, call: int | jax.Array, *given: Any) -> jax.Array:
        keys = jax.random.split(jax.random.fold_in(key, call), together)
        return jax.vmap(lambda k: statistic(recall.sample(problem, k, batch_size=size), *given))(
            keys
        )

    found = {}
    for each in samples:
        parts, key = each // size, jax.random.key(seed + each)
        calls = [draw(key, call, *given) for call in range(-(-count * parts // together))]
        stacked = np.concatenate([np.asarray(x, dtype=np.float64) for x in calls])
        whole = stacked[: count * parts].reshape(count, parts, *stacked.shape[1:])
        found[each] = whole.mean(axis=1)
    return found


def jackknife_ratio(top: np.ndarray, bottom: np.ndarray) -> tuple[float, float]:
    """Ratio of two means over groups and its standard error."""
    groups = len(top)
    ratio = top.sum() / bottom.sum()
    left_out = (top.sum() - top) / (bottom.sum() - bottom)
    return float(ratio), float(jnp.sqrt((groups - 1) * np.mean((left_out - left_out.mean()) ** 2)))
