"""Sampled sequences against the exact moments of the chain."""

import functools

import jax
import jax.numpy as jnp

from experiments.verify_theory.effort import Effort, Outcome
from experiments.verify_theory.families import sampling, simplified
from experiments.verify_theory.table import Row, mean_and_error, worst
from theory import recall_chain
from toy import language, recall

FAMILY = "chain"
ALPHA, LENGTH = 0.4, 24


def verify(effort: Effort, seed: int) -> Outcome:
    """Rows of the family: means, second moments, last token and pairs, averaged over ybar."""
    rows: list[Row] = []
    for label, law in (("uniform", language.uniform(8)), ("Zipf", language.zipf(**sampling.ZIPF))):  # type: ignore[arg-type]
        trigger = 2
        problem = sampling.task(law, alpha=ALPHA, length=LENGTH, trigger=trigger)
        exact = recall_chain.moments(
            recall_chain.chain(law.unigram, law.bigram, trigger=trigger, alpha=ALPHA, length=LENGTH)
        )
        sampled = sampling.group_means(
            problem,
            functools.partial(_statistics, problem.vocab_size),
            sequences=effort.sequences,
            seed=seed,
        )
        predicted = {
            "E[xbar]": exact.attended.mean(axis=0),
            "E[x_T]": exact.final.mean(axis=0),
            "E[xbar xbar^T]": exact.attended_second.mean(axis=0),
            "pair frequencies": exact.pairs.mean(axis=0),
        }
        setting = f"{label} N={law.num_tokens}, T={LENGTH}, alpha={ALPHA}"
        for name, value in predicted.items():
            rows.append(worst(FAMILY, name, setting, value, *mean_and_error(sampled[name])))
    return Outcome(rows, {})


def _statistics(num_tokens: int, batch: recall.Batch) -> dict[str, jax.Array]:
    exact = jax.lax.Precision.HIGHEST
    x = simplified.features(batch.tokens, num_tokens)
    mean = jnp.mean(x, axis=1)
    current, previous = x[..., :num_tokens], x[..., num_tokens:]
    count, length = batch.tokens.shape
    return {
        "E[xbar]": jnp.mean(mean, axis=0),
        "E[x_T]": jnp.mean(x[:, -1], axis=0),
        "E[xbar xbar^T]": jnp.einsum("bf,bg->fg", mean, mean, precision=exact) / count,
        "pair frequencies": jnp.einsum("btj,btk->jk", previous, current, precision=exact)
        / (count * length),
    }
