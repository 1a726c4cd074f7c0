"""Sampled sequences against the exact moments of the chain."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from truncated_weights.experiments.verify_theory.effort import Arrays, Effort, Outcome
from truncated_weights.experiments.verify_theory.families import sampling, simplified
from truncated_weights.experiments.verify_theory.table import Row, mean_and_error, worst
from truncated_weights.theory import recall_chain
from truncated_weights.toy import language, recall

FAMILY = "chain"
ALPHA, LENGTH, TRIGGER = 0.4, 24, 2
LANGUAGES = {"uniform": language.uniform(8), "Zipf": language.zipf(**sampling.ZIPF)}  # type: ignore[arg-type]
NAMES = ("E[xbar]", "E[x_T]", "E[xbar xbar^T]", "E[x_T x_T^T]", "pair frequencies")


def simulate(effort: Effort, seed: int) -> Arrays:
    """Means of groups of sequences, averaged over ybar."""
    arrays = {}
    for label, law in LANGUAGES.items():
        problem = sampling.task(law, alpha=ALPHA, length=LENGTH, trigger=TRIGGER)
        sampled = sampling.group_means(
            problem,
            functools.partial(_statistics, problem.vocab_size),
            sequences=effort.sequences,
            seed=seed,
        )
        for name, value in sampled.items():
            mean, error = mean_and_error(value)
            arrays[f"chain/{label}/{name}"] = np.stack([mean, error])
    return arrays


def judge(effort: Effort, found: Arrays) -> Outcome:
    """Rows of the family: means, second moments, last token and pairs."""
    del effort
    rows: list[Row] = []
    for label, law in LANGUAGES.items():
        chain = recall_chain.chain(
            law.unigram, law.bigram, trigger=TRIGGER, alpha=ALPHA, length=LENGTH
        )
        exact, means = recall_chain.moments(chain), recall_chain.means(chain)
        setting = f"{label} N={law.num_tokens}, T={LENGTH}, alpha={ALPHA}"
        for name, value in (
            ("E[xbar]", means.attended),
            ("E[x_T]", means.final),
            ("E[xbar xbar^T]", exact.attended_second),
            ("E[x_T x_T^T]", exact.final_second),
            ("pair frequencies", exact.pairs),
        ):
            rows.append(
                worst(FAMILY, name, setting, value.mean(axis=0), *found[f"chain/{label}/{name}"])
            )
        rows.append(
            worst(FAMILY, "means from the code of second moments", setting,
                  exact.attended, means.attended, tolerance=1e-12, note="theory against itself")
        )  # fmt: skip
    return Outcome(rows, found)


def _statistics(num_tokens: int, batch: recall.Batch) -> dict[str, jax.Array]:
    exact = jax.lax.Precision.HIGHEST
    x = simplified.features(batch.tokens, num_tokens)
    mean, last = jnp.mean(x, axis=1), x[:, -1]
    current, previous = x[..., :num_tokens], x[..., num_tokens:]
    count, length = batch.tokens.shape
    pairs = jnp.einsum("btj,btk->jk", previous, current, precision=exact) / (count * length)
    square = jnp.einsum("bf,bg->fg", mean, mean, precision=exact) / count
    final = jnp.einsum("bf,bg->fg", last, last, precision=exact) / count
    return dict(
        zip(NAMES, (jnp.mean(mean, axis=0), jnp.mean(last, axis=0), square, final, pairs),
            strict=True)
    )  # fmt: skip
