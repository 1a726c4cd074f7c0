"""Gradients of the simplified model by automatic differentiation, against their predictions."""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from truncated_weights.experiments.verify_theory.effort import Arrays, Effort, Outcome
from truncated_weights.experiments.verify_theory.families import sampling, simplified
from truncated_weights.experiments.verify_theory.table import (
    Row,
    deviation_and_error,
    mean_and_error,
    worst,
)
from truncated_weights.theory import finite_samples, first_step
from truncated_weights.toy import language, recall

FAMILY = "first step"
ALPHA = 0.3
CASES = {
    "uniform": (language.uniform(16), 64),
    "Zipf": (language.zipf(**sampling.ZIPF), 24),  # type: ignore[arg-type]
}
TRIGGER = 3
# Deviations are exact at any N and T, so those of every entry are taken of short sequences.
SMALL_LENGTH = 4
AGAINST = 2
BLOCKS: tuple[Literal["feed_forward", "value"], ...] = ("feed_forward", "value")
# Sequences whose features are checked one by one.
FEW = 64


def simulate(effort: Effort, seed: int) -> Arrays:
    """Steps at zero: their means, the margins they give, and how they vary."""
    arrays: Arrays = {}
    for label, (law, length) in CASES.items():
        problem = sampling.task(law, alpha=ALPHA, length=length, trigger=TRIGGER)
        found = sampling.group_means(
            problem,
            steps,
            simplified.zeros(problem.vocab_size),
            sequences=effort.sequences,
            seed=seed,
        )
        for name, value in found.items():
            arrays[f"first/{label}/{name}"] = np.stack(mean_and_error(value))
    for size in effort.margin_sizes:
        problem = sampling.task(language.uniform(size), alpha=ALPHA, length=_length(size))
        found = sampling.group_means(
            problem,
            _step_and_test,
            simplified.zeros(problem.vocab_size),
            sequences=effort.margin_sequences,
            seed=seed + size,
        )
        fed = _bilinear(found["feed_forward"], found["final"], found["correct_final"])
        value = _bilinear(found["value"], found["attended"], found["correct_attended"])
        arrays[f"first/margins/{size}"] = np.stack([fed, value])
        arrays[f"first/best/{size}"] = np.array(_best_other_margins(problem, found, seed + size))
    return arrays | _deviations(effort, seed)


def judge(effort: Effort, found: Arrays) -> Outcome:
    """Rows, and the tables that the figure draws."""
    rows: list[Row] = []
    for label, (law, length) in CASES.items():
        rows += _gradient_rows(label, law, length, found)
    margin_rows, margins = _margin_rows(effort.margin_sizes, found)
    deviation_rows, deviations = _deviation_rows(effort, found)
    rows += margin_rows + deviation_rows + _single_rows(found)
    return Outcome(rows, {"first/margins": margins, "first/deviations": deviations})


def _length(size: int) -> int:
    return 32 if size == 8 else max(64, 2 * size)


def steps(batch: recall.Batch, weights: simplified.Weights) -> simplified.Weights:
    """Minus the gradients at weights, which are simplified.zeros."""
    gradient = jax.grad(simplified.loss)(weights, batch.tokens, batch.labels[:, 0])
    return jax.tree.map(jnp.negative, gradient)


def _gradient_rows(label: str, law: language.Language, length: int, found: Arrays) -> list[Row]:
    """Every entry of both population steps."""
    predicted = first_step.population_gradients(
        law.unigram, law.bigram, trigger=TRIGGER, alpha=ALPHA, length=length
    )
    setting = f"{label} N={law.num_tokens}, T={length}, alpha={ALPHA}"
    rows = [
        worst(FAMILY, f"step of {name}", setting, value, *found[f"first/{label}/{key}"])
        for name, key, value in (
            ("F", "feed_forward", predicted.feed_forward),
            ("V", "value", predicted.value),
        )
    ]
    largest = float(np.max(np.abs(found[f"first/{label}/query_key"])))
    return [*rows, Row(FAMILY, "step of W", setting, 0.0, largest, note="the largest entry")]


def _margin_rows(sizes: tuple[int, ...], found: Arrays) -> tuple[list[Row], np.ndarray]:
    """Margins of both blocks on fresh test sequences, and their ratio times N.

    Each group of sequences gives a sampled step and each a test set; the margin over the
    correct class is bilinear in the two, so means of groups pair without bias when step and
    test come from different groups.
    """
    rows, table, margins = [], [], []
    for size in sizes:
        law, length = language.uniform(size), _length(size)
        exact = first_step.mean_margins(
            law.unigram, law.bigram, trigger=0, alpha=ALPHA, length=length
        )
        fed, value = found[f"first/margins/{size}"]
        best = found[f"first/best/{size}"]
        setting = f"uniform N={size}, T={length}, alpha={ALPHA}"
        middle = (exact.value_lower + exact.value_upper) / 2
        errors = []
        for name, predicted, samples, over, other in (
            ("F", exact.feed_forward_over_correct, fed, exact.feed_forward, best[0]),
            ("V", exact.value_over_correct, value, middle, best[1]),
        ):
            mean, error = mean_and_error(samples)
            errors.append(float(error))
            rows += [
                Row(FAMILY, f"{name} margin over correct", setting, predicted, float(mean),
                    error=float(error)),
                # Most of the fluctuation is that of the noise label, which both margins share.
                Row(FAMILY, f"{name} margin over best other", setting, over, float(other),
                    error=float(error), tolerance=0.02 * float(other),
                    note="sampled step, whose maximum is biased by m^-1/2"),
            ]  # fmt: skip
        expected = size * exact.value_over_correct / exact.feed_forward_over_correct
        ratio, ratio_error = sampling.jackknife_ratio(value, fed)
        rows.append(
            Row(FAMILY, "N x ratio of margins", setting, expected, size * ratio,
                error=size * ratio_error)
        )  # fmt: skip
        table.append(
            [
                size,
                *(fed.mean(), errors[0], exact.feed_forward_over_correct),
                *(value.mean(), errors[1], exact.value_over_correct),
                *(size * ratio, size * ratio_error, expected),
            ]
        )
        margins.append((fed.mean(), errors[0], size * ratio, size * ratio_error))
    if len(sizes) > 1:
        rows += _limits(sizes[-2:], np.array(margins[-2:]))
    return rows, np.array(table)


def _limits(sizes: tuple[int, ...], margins: np.ndarray) -> list[Row]:
    """Large-N margins, the term of order 1/N removed from F and from N times the ratio."""
    low, high = sizes
    share = high / (high - low)
    law = [first_step.asymptotic_margins(size, ALPHA) for size in sizes]
    # Far out, where F's own 1/N has gone: the limit that the ratio is said to have.
    far = first_step.asymptotic_margins(10**6, ALPHA)
    setting = f"extrapolated from N={low}, {high}"

    def limit(values: np.ndarray) -> float:
        return float(share * values[1] - (share - 1) * values[0])

    def error(values: np.ndarray) -> float:
        return float(np.hypot(share * values[1], (share - 1) * values[0]))

    return [
        Row(FAMILY, "N x ratio as N grows", setting, 1e6 * far.value / far.feed_forward,
            limit(margins[:, 2]), error=error(margins[:, 3]), tolerance=0.04,
            note="the next order is 1/N^2 and N/T"),
        Row(FAMILY, "F margin as N grows", setting, limit(np.array([x.feed_forward for x in law])),
            limit(margins[:, 0]), error=error(margins[:, 1]), tolerance=0.007,
            note="both sides extrapolated; the next order is 1/N^2"),
    ]  # fmt: skip


def _step_and_test(batch: recall.Batch, weights: simplified.Weights) -> dict[str, jax.Array]:
    """Sampled steps, mean test features, and mean test features by correct class."""
    num_tokens = len(weights["value"])
    x = simplified.features(batch.tokens, num_tokens)
    correct = jax.nn.one_hot(batch.correct[:, 0], num_tokens)
    count = len(batch.tokens)
    found = steps(batch, weights)
    result = {name: found[name] for name in ("feed_forward", "value")}
    for name, features in (("final", x[:, -1]), ("attended", jnp.mean(x, axis=1))):
        result[name] = jnp.mean(features, axis=0)
        result[f"correct_{name}"] = (
            jnp.matmul(correct.T, features, precision=jax.lax.Precision.HIGHEST) / count
        )
    return result


def _bilinear(step: np.ndarray, test: np.ndarray, by_correct: np.ndarray) -> np.ndarray:
    """Noise minus correct logit of each group's step, on the test features of the next group."""
    test, by_correct = np.roll(test, 1, axis=0), np.roll(by_correct, 1, axis=0)
    noise = np.einsum("gf,gf->g", step[:, -1], test)
    return noise - np.einsum("gkf,gkf->g", step, by_correct)


def _best_other_margins(
    problem: recall.Task, found: dict[str, np.ndarray], seed: int
) -> tuple[float, float]:
    """Mean over fresh sequences of noise minus best other, for the mean of all sampled steps."""

    @functools.partial(jax.jit, compiler_options=sampling.BRIEFLY)
    def draw(key: jax.Array) -> jax.Array:
        batch = recall.sample(problem, key, batch_size=4096)
        return simplified.features(batch.tokens, problem.vocab_size)

    x = np.asarray(draw(jax.random.key(10_000 + seed)), dtype=np.float64)
    result = []
    for name, features in (("feed_forward", x[:, -1]), ("value", x.mean(axis=1))):
        logits = features @ found[name].mean(axis=0).T
        result.append(float(np.mean(logits[:, -1] - logits[:, :-1].max(axis=1))))
    return result[0], result[1]


def _deviations(effort: Effort, seed: int) -> Arrays:
    """One entry of F over sets of m sequences; every entry and four margins of single ones."""
    problem = sampling.task(language.uniform(4), alpha=ALPHA, length=SMALL_LENGTH)
    zeros = simplified.zeros(problem.vocab_size)
    entries = sampling.replicates(
        problem,
        lambda batch, weights: steps(batch, weights)["feed_forward"][-1, 0],
        zeros,
        samples=effort.sample_sizes,
        count=effort.replicates,
        seed=seed,
    )
    arrays = {f"first/entry/{m}": value for m, value in entries.items()}

    def both(batch: recall.Batch, weights: simplified.Weights) -> jax.Array:
        found = steps(batch, weights)
        return jnp.stack([found["feed_forward"], found["value"]])

    singles = sampling.replicates(
        problem, both, zeros, samples=(1,), count=effort.singles, seed=seed + 11
    )[1]
    x = singles.reshape(len(singles), 2, -1)
    # Noise logit, and its margin over one class, at the mean features of the same sequences: the
    # probe is a mean of half of them, the deviations are of the other half.
    arrays["first/single/mean"] = np.stack(mean_and_error(x)).reshape(2, *singles.shape[1:])
    arrays["first/single/deviation"] = np.stack(deviation_and_error(x)).reshape(
        2, *singles.shape[1:]
    )
    features = sampling.group_means(
        problem, _mean_features, sequences=effort.singles, seed=seed + 2
    )
    probe = np.stack([features["final"].mean(axis=0), features["attended"].mean(axis=0)])
    read = np.einsum("skcf,kf->skc", singles, probe)
    margins = np.stack([read[..., -1], read[..., -1] - read[..., AGAINST]], axis=2)
    arrays["first/single/margins"] = np.stack(
        [*mean_and_error(margins), *deviation_and_error(margins)]
    )
    arrays["first/single/probe"] = probe
    arrays["first/single/probe_error"] = np.stack(
        [mean_and_error(features[name])[1] for name in ("final", "attended")]
    )
    drawn = recall.sample(problem, jax.random.key(seed), batch_size=FEW)
    arrays["first/few/tokens"] = np.asarray(drawn.tokens, np.int64)
    few = simplified.features(drawn.tokens, problem.vocab_size)
    arrays["first/few/features"] = np.stack([few.mean(axis=1), few[:, -1]])
    weights = np.random.default_rng(seed).normal(size=(problem.vocab_size, few.shape[2]))
    arrays["first/few/step"] = weights
    logits = np.einsum("bf,kf->bk", arrays["first/few/features"][1], weights)
    ordered = np.sort(logits[:, :-1], axis=1)
    arrays["first/few/margins"] = logits[:, -1] - ordered[:, -1]
    return arrays


def _mean_features(batch: recall.Batch) -> dict[str, jax.Array]:
    x = simplified.features(batch.tokens, 5)
    return {"final": jnp.mean(x[:, -1], axis=0), "attended": jnp.mean(x, axis=(0, 1))}


def _deviation_rows(effort: Effort, found: Arrays) -> tuple[list[Row], np.ndarray]:
    """The (tau, e(q)) entry of F from m samples: deviation over decades of m."""
    exact = _exact()
    alone = float(finite_samples.entry_deviations(exact, "feed_forward")[-1, 0])
    rows, table = [], []
    for samples in effort.sample_sizes:
        deviation, error = deviation_and_error(found[f"first/entry/{samples}"])
        predicted = alone / math.sqrt(samples)
        setting = f"m={samples}, {effort.replicates} replicates"
        rows.append(
            Row(FAMILY, "deviation of F(tau, e(q))", setting, predicted, deviation, error=error)
        )
        table.append([samples, deviation, error, predicted])
    line = np.array(table)
    fit, covariance = np.polyfit(
        np.log(line[:, 0]), np.log(line[:, 1]), 1, w=line[:, 1] / line[:, 2], cov="unscaled"
    )
    rows.append(
        Row(FAMILY, "exponent of the deviation in m", f"m={line[0, 0]:g}..{line[-1, 0]:g}", -0.5,
            float(fit[0]), error=float(math.sqrt(covariance[0, 0])))
    )  # fmt: skip
    return rows, line


def _exact() -> finite_samples.SampledStep:
    law = language.uniform(4)
    return finite_samples.sampled_step(
        law.unigram, law.bigram, trigger=0, alpha=ALPHA, length=SMALL_LENGTH
    )


def _single_rows(found: Arrays) -> list[Row]:
    """Laws of the step of one sequence: every entry, and margins at the mean test features."""
    exact = _exact()
    setting = f"uniform N=4, T={SMALL_LENGTH}, m=1"
    rows = []
    mean, error = found["first/single/deviation"]
    for index, block in enumerate(BLOCKS):
        rows.append(
            worst(FAMILY, f"deviation of every entry, {block}", setting,
                  finite_samples.entry_deviations(exact, block), mean[index], error[index])
        )  # fmt: skip
    probe = finite_samples.mean_probe(exact)
    rows.append(
        worst(FAMILY, "mean test features", setting, np.stack(probe), found["first/single/probe"],
              found["first/single/probe_error"])
    )  # fmt: skip
    means, mean_errors, deviations, errors = found["first/single/margins"]
    # Margins were read at the measured features, whose own errors are then no matter.
    read = (found["first/single/probe"][0], found["first/single/probe"][1])
    for column, (label, other) in enumerate(
        (("noise logit", None), (f"margin over class {AGAINST}", AGAINST))
    ):
        expected = finite_samples.margin_means(exact, read, against=other)
        spread = finite_samples.margin_deviations(exact, read, against=other)
        ratio = finite_samples.signal_to_noise(exact, against=other)
        for i, letter in enumerate(("F", "V")):
            at = (i, column)
            measured = float(means[at] / deviations[at])
            noise = measured * math.hypot(mean_errors[at] / means[at], errors[at] / deviations[at])
            rows += [
                Row(FAMILY, f"{letter}: deviation of {label}", setting, spread[i],
                    float(deviations[at]), error=float(errors[at])),
                Row(FAMILY, f"{letter}: mean of {label}", setting, expected[i],
                    float(means[at]), error=float(mean_errors[at])),
                Row(FAMILY, f"{letter}: signal to noise of {label}", setting, ratio[i], measured,
                    error=noise),
            ]  # fmt: skip
    tokens, features = found["first/few/tokens"], found["first/few/features"]
    averages, last = first_step.sequence_features(tokens, 5)
    rows += [
        worst(FAMILY, "features of given sequences", setting, np.stack([averages, last]),
              features, tolerance=1e-6),
        worst(FAMILY, "margins of given sequences", setting,
              first_step.margins(found["first/few/step"], last), found["first/few/margins"],
              tolerance=1e-5),
    ]  # fmt: skip
    return rows
