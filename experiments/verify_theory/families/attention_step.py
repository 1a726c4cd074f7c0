"""The first attention step: gradient of the query-key weight by automatic differentiation.

The feed-forward weight is set to what it learns (tau with probability alpha, outputs alike,
nothing else) and the value weight to a faint copy, whose strength divides out. Labels enter
through their law given the correct output, which leaves only the sequences to sample.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from truncated_weights.experiments.verify_theory.effort import Effort, Outcome, at
from truncated_weights.experiments.verify_theory.families import sampling, simplified
from truncated_weights.experiments.verify_theory.table import Row, mean_and_error, worst
from truncated_weights.theory import attention_step
from truncated_weights.toy import language, recall
from truncated_weights.training import records
from truncated_weights.training.records import Records

FAMILY = "attention"
ALPHA = 0.3
# Faint enough that copying does not move the probabilities: they change by this over N.
COPY = 1e-3
IMPOSSIBLE = -30.0
CASES = {
    "uniform": (language.uniform(16), 64),
    "Zipf": (language.zipf(**sampling.ZIPF), 24),  # type: ignore[arg-type]
}
# Positions per token where the scores are extrapolated to large N.
PER_TOKEN = 8
# What the next order leaves of those limits, .49 and .147.
TOLERANCES = {1: 0.015, 2: 0.005}


def simulate(effort: Effort, seed: int) -> Records:
    """Steps of the scores, [groups, features], of two languages and of growing uniform ones."""
    languages = {
        records.name("step", "group", "feature", language=label): _sampled(
            law, length, effort.sequences // 2, seed
        )
        for label, (law, length) in CASES.items()
    }
    sizes = {
        records.name("step", "group", "feature", size=size): _sampled(
            language.uniform(size), PER_TOKEN * size, effort.sequences // 4, seed + size
        )
        for size in effort.score_sizes
    }
    return Records(
        {
            "attention": records.labelled(languages, {}),
            "attention_sizes": records.labelled(sizes, {}),
        }
    )


def judge(effort: Effort, found: Records) -> Outcome:
    """Rows, and prediction, mean and error of every score, which the figure draws."""
    rows: list[Row] = []
    scores = {}
    for label, (law, length) in CASES.items():
        samples = at(found.attention, language=label).step.values[:, : 2 * (law.num_tokens + 1)]
        more, scores[records.name("score", "feature", language=label)] = _rows(
            label, law, length, samples
        )
        rows += more
    if len(effort.score_sizes) == 2:
        rows += _asymptotic_rows(effort.score_sizes, found)
    of = {"of": ["predicted", "mean", "error"]}
    return Outcome(rows, {"attention_scores": records.labelled(scores, of)})


def _sampled(law: language.Language, length: int, sequences: int, seed: int) -> np.ndarray:
    problem = sampling.task(law, alpha=ALPHA, length=length)
    return sampling.group_means(
        problem,
        functools.partial(_step, problem),
        _weights(problem),
        sequences=sequences,
        seed=seed,
    )


def _asymptotic_rows(sizes: tuple[int, ...], found: Records) -> list[Row]:
    """N g at etilde(q) and N^2 g at e(tau), the term of order 1/N removed by two sizes."""
    rows = []
    limits = [attention_step.asymptotic_scores(size, ALPHA) for size in sizes]
    for name, place, power, law in (
        ("N g at etilde(q) as N grows", lambda n: n + 1, 1, [x.after_trigger for x in limits]),
        ("N^2 g at e(tau) as N grows", lambda n: n, 2, [x.noise for x in limits]),
    ):
        means, errors = [], []
        for size in sizes:
            steps = at(found.attention_sizes, size=size).step.values
            mean, error = mean_and_error(steps[:, place(size)])
            means.append(size**power * mean)
            errors.append(size**power * error)
        low, high = sizes
        share = high / (high - low)
        rows.append(
            Row(FAMILY, name, f"extrapolated from N={low}, {high}, T={PER_TOKEN} N",
                float(sizes[-1] ** power * law[-1]),
                float(share * means[1] - (share - 1) * means[0]),
                error=float(np.hypot(share * errors[1], (share - 1) * errors[0])),
                tolerance=TOLERANCES[power], note="next order 1 / N^2, N / T")
        )  # fmt: skip
    return rows


def _rows(
    label: str, law: language.Language, length: int, samples: np.ndarray
) -> tuple[list[Row], np.ndarray]:
    predicted = attention_step.population_gradient(
        law.unigram, law.bigram, trigger=0, alpha=ALPHA, length=length
    )
    mean, error = mean_and_error(samples)
    size = law.num_tokens
    setting = f"{label} N={size}, T={length}, alpha={ALPHA}"
    tau, after_trigger = size, size + 1
    gaps = samples[:, 1:size].mean(axis=1) - samples[:, tau]
    gap = attention_step.correct_minus_noise(predicted, 0).mean()
    rows = [worst(FAMILY, "g at every key feature", setting, predicted, mean, error)]
    for name, value, drawn in (
        ("g at etilde(q)", predicted[after_trigger], samples[:, after_trigger]),
        ("g at e(tau)", predicted[tau], samples[:, tau]),
        ("mean g at e(k)", predicted[1:size].mean(), samples[:, 1:size].mean(axis=1)),
        ("correct minus noise key", gap, gaps),
    ):
        centre, spread = mean_and_error(drawn)
        rows.append(Row(FAMILY, name, setting, float(value), float(centre), error=float(spread)))
    in_order = (
        mean[after_trigger] == mean.max() and mean[after_trigger] > mean[1:size].mean() > mean[tau]
    )
    rows.append(
        Row(
            FAMILY,
            "order: after q, ordinary, noise",
            setting,
            1.0,
            float(in_order and mean[tau] < 0),
            note="one where the order and the signs hold",
        )
    )
    return rows, np.stack([predicted, mean, error])


def _weights(problem: recall.Task) -> simplified.Weights:
    """After q the feed-forward says the label's law, and values copy what is attended, faintly."""
    size = problem.vocab_size
    logits = jnp.full(size, IMPOSSIBLE)
    logits = logits.at[problem.outputs].set(math.log((1 - ALPHA) / len(problem.outputs)))
    logits = logits.at[problem.noise[0]].set(math.log(ALPHA))
    params = simplified.zeros(size)
    params["feed_forward"] = params["feed_forward"].at[:, problem.triggers[0]].set(logits)
    params["value"] = params["value"].at[:, :size].set(COPY * jnp.eye(size))
    return params


def _step(problem: recall.Task, batch: recall.Batch, weights: simplified.Weights) -> jax.Array:
    """Minus the gradient of the row of W that e(q) queries, per unit of copying."""
    trigger, noise = problem.triggers[0], problem.noise[0]

    def loss(query_key: jax.Array) -> jax.Array:
        found = simplified.trace({**weights, "query_key": query_key}, batch.tokens).logits
        log_p = jax.nn.log_softmax(found, axis=-1)
        correct = jnp.take_along_axis(log_p, batch.correct, axis=1)[:, 0]
        return -jnp.mean((1 - ALPHA) * correct + ALPHA * log_p[:, noise])

    return -jax.grad(loss)(weights["query_key"])[trigger] / COPY
