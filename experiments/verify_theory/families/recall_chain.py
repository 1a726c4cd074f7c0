"""Sampled sequences against the exact moments of the chain."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from truncated_weights.experiments.verify_theory.effort import Effort, Outcome, at
from truncated_weights.experiments.verify_theory.families import sampling, simplified
from truncated_weights.experiments.verify_theory.table import Row, mean_and_error, worst
from truncated_weights.theory import recall_chain
from truncated_weights.toy import language, recall
from truncated_weights.training import records
from truncated_weights.training.records import Name, Records

FAMILY = "chain"
ALPHA, LENGTH, TRIGGER = 0.4, 24, 2
LANGUAGES = {"uniform": language.uniform(8), "Zipf": language.zipf(**sampling.ZIPF)}  # type: ignore[arg-type]


def simulate(effort: Effort, seed: int) -> Records:
    """Means of groups of sequences, averaged over ybar."""
    found = {}
    for label, law in LANGUAGES.items():
        problem = sampling.task(law, alpha=ALPHA, length=LENGTH, trigger=TRIGGER)
        sampled = sampling.group_means(
            problem,
            functools.partial(_statistics, problem.vocab_size),
            sequences=effort.sequences,
            seed=seed,
        )
        for key, value in sampled.items():
            found[key.within(language=label)] = np.stack(mean_and_error(value))
    return Records({"chain": records.labelled(found, {"of": ["mean", "error"]})})


def judge(effort: Effort, found: Records) -> Outcome:
    """Rows of the family: means, second moments, last token and pairs."""
    del effort
    rows: list[Row] = []
    for label, law in LANGUAGES.items():
        chain = recall_chain.chain(
            law.unigram, law.bigram, trigger=TRIGGER, alpha=ALPHA, length=LENGTH
        )
        exact, means = recall_chain.moments(chain), recall_chain.means(chain)
        setting = f"{label} N={law.num_tokens}, T={LENGTH}, alpha={ALPHA}"
        tokens = law.num_tokens + 1
        here = at(found.chain, language=label).isel(
            feature=slice(2 * tokens), other=slice(2 * tokens),
            token=slice(tokens), after=slice(tokens),
        )  # fmt: skip
        for told, value, measured in (
            ("E[xbar]", means.attended, here.attended),
            ("E[x_T]", means.final, here.final),
            ("E[xbar xbar^T]", exact.attended_second, here.attended_second),
            ("E[x_T x_T^T]", exact.final_second, here.final_second),
            ("pair frequencies", exact.pairs, here.pairs),
        ):
            rows.append(worst(FAMILY, told, setting, value.mean(axis=0), *measured.values))
        rows.append(
            worst(FAMILY, "means from the code of second moments", setting,
                  exact.attended, means.attended, tolerance=1e-12, note="theory against itself")
        )  # fmt: skip
    return Outcome(rows)


def _statistics(num_tokens: int, batch: recall.Batch) -> dict[Name, jax.Array]:
    exact = jax.lax.Precision.HIGHEST
    x = simplified.features(batch.tokens, num_tokens)
    mean, last = jnp.mean(x, axis=1), x[:, -1]
    current, previous = x[..., :num_tokens], x[..., num_tokens:]
    count, length = batch.tokens.shape
    pairs = jnp.einsum("btj,btk->jk", previous, current, precision=exact) / (count * length)
    square = jnp.einsum("bf,bg->fg", mean, mean, precision=exact) / count
    final = jnp.einsum("bf,bg->fg", last, last, precision=exact) / count
    return {
        records.name("attended", "feature"): jnp.mean(mean, axis=0),
        records.name("final", "feature"): jnp.mean(last, axis=0),
        records.name("attended_second", "feature", "other"): square,
        records.name("final_second", "feature", "other"): final,
        records.name("pairs", "token", "after"): pairs,
    }
