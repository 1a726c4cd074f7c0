"""Gradients of the simplified model by automatic differentiation, against their predictions."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from experiments.verify_theory.effort import Effort, Outcome
from experiments.verify_theory.families import sampling, simplified
from experiments.verify_theory.table import Row, deviation_and_error, mean_and_error, worst
from theory import finite_samples, first_step
from toy import language, recall

FAMILY = "first step"
ALPHA = 0.3
# The deviation rows need 1e7 sequences; the law is exact at any N and T, so they are short.
SMALL = {"num_tokens": 4, "length": 4}


def verify(effort: Effort, seed: int) -> Outcome:
    """Rows and arrays of the family."""
    rows: list[Row] = []
    for label, law, length in (
        ("uniform", language.uniform(16), 64),
        ("Zipf", language.zipf(**sampling.ZIPF), 24),  # type: ignore[arg-type]
    ):
        rows += _gradient_rows(label, law, length, effort.sequences, seed)
    margin_rows, margins = _margin_rows(effort, seed)
    deviation_rows, deviations = _deviation_rows(effort, seed)
    rows += margin_rows + deviation_rows + _noise_rows(effort, seed)
    return Outcome(rows, {"first/margins": margins, "first/deviations": deviations})


def steps(batch: recall.Batch, weights: simplified.Weights) -> simplified.Weights:
    """Minus the gradients at weights, which are simplified.zeros."""
    gradient = jax.grad(simplified.loss)(weights, batch.tokens, batch.labels[:, 0])
    return jax.tree.map(jnp.negative, gradient)


def _gradient_rows(
    label: str, law: language.Language, length: int, sequences: int, seed: int
) -> list[Row]:
    """Every entry of both population steps."""
    trigger = 3
    problem = sampling.task(law, alpha=ALPHA, length=length, trigger=trigger)
    predicted = first_step.population_gradients(
        law.unigram, law.bigram, trigger=trigger, alpha=ALPHA, length=length
    )
    found = sampling.group_means(
        problem, steps, simplified.zeros(problem.vocab_size), sequences=sequences, seed=seed
    )
    setting = f"{label} N={law.num_tokens}, T={length}, alpha={ALPHA}"
    rows = [
        worst(FAMILY, f"step of {name}", setting, value, *mean_and_error(found[key]))
        for name, key, value in (
            ("F", "feed_forward", predicted.feed_forward),
            ("V", "value", predicted.value),
        )
    ]
    largest = float(np.max(np.abs(found["query_key"])))
    rows.append(
        Row(
            FAMILY,
            "step of W is zero",
            setting,
            1.0,
            1.0 + largest,
            tolerance=0.0,
            note="one plus the largest entry",
        )
    )
    return rows


def _margin_rows(effort: Effort, seed: int) -> tuple[list[Row], np.ndarray]:
    """Margins of both blocks on fresh test sequences, and their ratio times N.

    Each group of sequences gives a sampled step and each a test set; the margin over the
    correct class is bilinear in the two, so means of groups pair without bias when step and
    test come from different groups.
    """
    rows, table = [], []
    for size in effort.margin_sizes:
        length = 64 if size < 32 else 2 * size
        length = 32 if size == 8 else length
        law = language.uniform(size)
        problem = sampling.task(law, alpha=ALPHA, length=length)
        found = sampling.group_means(
            problem,
            _step_and_test,
            simplified.zeros(problem.vocab_size),
            sequences=max(effort.sequences // 8, 2**14),
            seed=seed + size,
        )
        exact = first_step.mean_margins(
            law.unigram, law.bigram, trigger=0, alpha=ALPHA, length=length
        )
        fed = _bilinear(found["feed_forward"], found["final"], found["correct_final"])
        value = _bilinear(found["value"], found["attended"], found["correct_attended"])
        setting = f"uniform N={size}, T={length}, alpha={ALPHA}"
        for name, predicted, samples in (
            ("F margin over correct", exact.feed_forward_over_correct, fed),
            ("V margin over correct", exact.value_over_correct, value),
        ):
            mean, error = mean_and_error(samples)
            rows.append(Row(FAMILY, name, setting, predicted, float(mean), error=float(error)))
        expected = size * exact.value_over_correct / exact.feed_forward_over_correct
        ratio, ratio_error = sampling.jackknife_ratio(value, fed)
        rows.append(
            Row(
                FAMILY,
                "N x ratio of margins",
                setting,
                expected,
                size * ratio,
                error=size * ratio_error,
            )
        )
        best = _best_other_margins(problem, found, seed + size)
        rows.append(
            Row(
                FAMILY,
                "F margin over best other",
                setting,
                exact.feed_forward,
                best[0],
                tolerance=0.03,
                note="sampled step; its maximum is biased by m^-1/2",
            )
        )
        middle = (exact.value_lower + exact.value_upper) / 2
        rows.append(
            Row(
                FAMILY,
                "V margin over best other",
                setting,
                middle,
                best[1],
                tolerance=0.03 + (exact.value_upper - exact.value_lower) / (2 * middle),
                note=f"predicted bracket [{exact.value_lower:.5g}, {exact.value_upper:.5g}]",
            )
        )
        table.append(
            [
                size,
                *(fed.mean(), mean_and_error(fed)[1], exact.feed_forward_over_correct),
                *(value.mean(), mean_and_error(value)[1], exact.value_over_correct),
                *(size * ratio, size * ratio_error, expected),
            ]
        )
    found_ratio = np.array(table)[:, 7]
    if len(found_ratio) < 2:
        return rows, np.array(table)
    sizes = np.array(effort.margin_sizes, dtype=np.float64)
    limit = (sizes[-1] * found_ratio[-1] - sizes[-2] * found_ratio[-2]) / (sizes[-1] - sizes[-2])
    rows.append(
        Row(
            FAMILY,
            "N x ratio as N grows",
            f"extrapolated from N={sizes[-2]:g}, {sizes[-1]:g}",
            2.0,
            float(limit),
            tolerance=0.03,
            note="removes the 1/N term; the next is 1/N^2 and N/T",
        )
    )
    return rows, np.array(table)


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


def _deviation_rows(effort: Effort, seed: int) -> tuple[list[Row], np.ndarray]:
    """The (tau, e(q)) entry of F from m samples: deviation over three decades of m."""
    law = language.uniform(SMALL["num_tokens"])
    problem = sampling.task(law, alpha=ALPHA, length=SMALL["length"])
    exact = math.sqrt(ALPHA * (1 - ALPHA))
    rows, table = [], []
    entries = sampling.replicates(
        problem,
        lambda batch, weights: steps(batch, weights)["feed_forward"][-1, 0],
        simplified.zeros(problem.vocab_size),
        samples=effort.sample_sizes,
        count=effort.replicates,
        seed=seed,
    )
    for samples in effort.sample_sizes:
        deviation, error = deviation_and_error(entries[samples])
        predicted = exact / math.sqrt(samples)
        setting = f"m={samples}, {effort.replicates} replicates"
        rows.append(
            Row(FAMILY, "deviation of F(tau, e(q))", setting, predicted, deviation, error=error)
        )
        table.append([samples, deviation, error, predicted])
    found = np.array(table)
    fit, covariance = np.polyfit(
        np.log(found[:, 0]), np.log(found[:, 1]), 1, w=found[:, 1] / found[:, 2], cov="unscaled"
    )
    ratio = float(np.max(np.abs(found[:, 1] / found[:, 3] - 1)))
    setting = f"m={found[0, 0]:g}..{found[-1, 0]:g}"
    rows += [
        Row(
            FAMILY,
            "exponent of the deviation in m",
            setting,
            -0.5,
            float(fit[0]),
            error=float(math.sqrt(covariance[0, 0])),
        ),
        Row(
            FAMILY,
            "deviation over sqrt(alpha(1-alpha)/m)",
            setting,
            1.0,
            1.0 + ratio,
            tolerance=0.05 if effort.replicates >= 2000 else 0.15,
            note=f"worst of {len(found)}; {100 / math.sqrt(2 * effort.replicates):.1f} % resolved",
        ),
    ]
    return rows, found


def _noise_rows(effort: Effort, seed: int) -> list[Row]:
    """Deviations of margins and signal to noise of both blocks, at the mean test features."""
    law, length, samples, against = language.uniform(12), 36, 64, 5
    problem = sampling.task(law, alpha=ALPHA, length=length)
    exact = finite_samples.sampled_step(
        law.unigram, law.bigram, trigger=0, alpha=ALPHA, length=length
    )
    probe = finite_samples.mean_probe(exact)

    def logits(batch: recall.Batch, weights: simplified.Weights, *probe: jax.Array) -> jax.Array:
        found, exactly = steps(batch, weights), jax.lax.Precision.HIGHEST
        return jnp.stack(
            [
                jnp.matmul(found[name], x, precision=exactly)
                for name, x in zip(("feed_forward", "value"), probe, strict=True)
            ]
        )

    found = sampling.replicates(
        problem,
        logits,
        simplified.zeros(problem.vocab_size),
        *probe,
        samples=(samples,),
        count=4 * effort.replicates,
        seed=seed + 1,
    )[samples]
    rows = []
    for label, other in (("noise logit", None), (f"margin over class {against}", against)):
        drawn = found[..., -1] - (0.0 if other is None else found[..., against])
        deviations = finite_samples.margin_deviations(exact, probe, against=other)
        means = finite_samples.margin_means(exact, probe, against=other)
        for i, block in enumerate(("F", "V")):
            deviation, error = deviation_and_error(drawn[:, i])
            mean, mean_error = mean_and_error(drawn[:, i])
            setting = f"uniform N=12, T={length}, m={samples}"
            rows += [
                Row(
                    FAMILY,
                    f"{block}: deviation of {label}",
                    setting,
                    deviations[i] / math.sqrt(samples),
                    deviation,
                    error=error,
                ),
                Row(
                    FAMILY,
                    f"{block}: mean of {label}",
                    setting,
                    means[i],
                    float(mean),
                    error=float(mean_error),
                ),
            ]
    predicted = finite_samples.signal_to_noise(exact, against=None)
    drawn = found[..., -1]
    ratios = drawn.mean(axis=0) / drawn.std(axis=0, ddof=1)
    rows.append(
        Row(
            FAMILY,
            "signal-to-noise of V over that of F",
            f"uniform N=12, T={length}",
            predicted.value / predicted.feed_forward,
            float(ratios[1] / ratios[0]),
            tolerance=0.01,
            note="faster, not cleaner; sampling error below 0.3 %",
        )
    )
    return rows
