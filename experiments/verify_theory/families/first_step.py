"""Gradients of the simplified model by automatic differentiation, against their predictions."""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from truncated_weights.experiments.verify_theory.effort import Effort, Outcome, at
from truncated_weights.experiments.verify_theory.families import sampling, simplified
from truncated_weights.experiments.verify_theory.table import (
    Row,
    deviation_and_error,
    mean_and_error,
    worst,
)
from truncated_weights.theory import finite_samples, first_step
from truncated_weights.toy import language, recall
from truncated_weights.training import records
from truncated_weights.training.records import Records

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
# Axes of the step of each matrix.
DIMS = dict.fromkeys(BLOCKS, ("class", "feature")) | {"query_key": ("feature", "key")}
# Sequences whose features are checked one by one.
FEW = 64


def simulate(effort: Effort, seed: int) -> Records:
    """Steps at zero: their means, the margins they give, and how they vary."""
    means, margins = {}, {}
    for label, (law, length) in CASES.items():
        problem = sampling.task(law, alpha=ALPHA, length=length, trigger=TRIGGER)
        found = sampling.group_means(
            problem,
            steps,
            simplified.zeros(problem.vocab_size),
            sequences=effort.sequences,
            seed=seed,
        )
        for matrix, dims in DIMS.items():
            here = records.name(matrix, *dims, language=label)
            means[here] = np.stack(mean_and_error(found[matrix]))
    for size in effort.margin_sizes:
        problem = sampling.task(language.uniform(size), alpha=ALPHA, length=_length(size))
        found = sampling.group_means(
            problem,
            _step_and_test,
            simplified.zeros(problem.vocab_size),
            sequences=effort.margin_sequences,
            seed=seed + size,
        )
        best = _best_other_margins(problem, found, seed + size)
        for block, seen, other in zip(BLOCKS, ("final", "attended"), best, strict=True):
            margin = _bilinear(found[block], found[seen], found[f"correct_{seen}"])
            margins[records.name("over_correct", "group", size=size, matrix=block)] = margin
            margins[records.name("over_best_other", size=size, matrix=block)] = np.array(other)
    return Records(
        {
            "first": records.labelled(means, {"of": ["mean", "error"]}),
            "first_margins": records.labelled(margins, {}),
            **_deviations(effort, seed),
        }
    )


def judge(effort: Effort, found: Records) -> Outcome:
    """Rows, and the tables that the figure draws."""
    rows: list[Row] = []
    for label, (law, length) in CASES.items():
        rows += _gradient_rows(label, law, length, found)
    margin_rows, margins = _margin_rows(effort.margin_sizes, found)
    deviation_rows, deviations = _deviation_rows(effort, found)
    rows += margin_rows + deviation_rows + _single_rows(found)
    return Outcome(rows, {"first_by_size": margins, "first_by_samples": deviations})


def _length(size: int) -> int:
    return 32 if size == 8 else max(64, 2 * size)


def steps(batch: recall.Batch, weights: simplified.Weights) -> simplified.Weights:
    """Minus the gradients at weights, which are simplified.zeros."""
    gradient = jax.grad(simplified.loss)(weights, batch.tokens, batch.labels[:, 0])
    return jax.tree.map(jnp.negative, gradient)


def _gradient_rows(label: str, law: language.Language, length: int, found: Records) -> list[Row]:
    """Every entry of both population steps."""
    predicted = first_step.population_gradients(
        law.unigram, law.bigram, trigger=TRIGGER, alpha=ALPHA, length=length
    )
    setting = f"{label} N={law.num_tokens}, T={length}, alpha={ALPHA}"
    tokens = law.num_tokens + 1
    here = at(found["first"], language=label).isel(
        {"class": slice(tokens), "feature": slice(2 * tokens), "key": slice(2 * tokens)}
    )
    rows = [
        worst(FAMILY, f"step of {letter}", setting, value, *measured.values)
        for letter, value, measured in (
            ("F", predicted.feed_forward, here.feed_forward),
            ("V", predicted.value, here.value),
        )
    ]
    largest = float(np.max(np.abs(here.query_key.values)))
    return [*rows, Row(FAMILY, "step of W", setting, 0.0, largest, note="the largest entry")]


def _margin_rows(sizes: tuple[int, ...], found: Records) -> tuple[list[Row], xr.Dataset]:
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
        here = at(found.first_margins, size=size).sel(matrix=list(BLOCKS))
        (fed, value), best = here.over_correct.values, here.over_best_other.values
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
                (fed.mean(), errors[0], exact.feed_forward_over_correct),
                (value.mean(), errors[1], exact.value_over_correct),
                (size * ratio, size * ratio_error, expected),
            ]
        )
        margins.append((fed.mean(), errors[0], size * ratio, size * ratio_error))
    if len(sizes) > 1:
        rows += _limits(sizes[-2:], np.array(margins[-2:]))
    of = ["measured", "error", "predicted"]
    shown = {
        quantity: (("size", "of"), [line[place] for line in table])
        for place, quantity in enumerate((*BLOCKS, "ratio"))
    }
    return rows, xr.Dataset(shown, {"size": list(sizes), "of": of})


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


def _deviations(effort: Effort, seed: int) -> dict[str, xr.Dataset]:
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
    by_samples = {
        records.name("entry", "replicate", samples=m): value for m, value in entries.items()
    }

    def both(batch: recall.Batch, weights: simplified.Weights) -> jax.Array:
        found = steps(batch, weights)
        return jnp.stack([found["feed_forward"], found["value"]])

    singles = sampling.replicates(
        problem, both, zeros, samples=(1,), count=effort.singles, seed=seed + 11
    )[1]
    x = singles.reshape(len(singles), 2, -1)
    # Noise logit, and its margin over one class, at the mean features of the same sequences: the
    # probe is a mean of half of them, the deviations are of the other half.
    deviations = np.stack(deviation_and_error(x)).reshape(2, *singles.shape[1:])
    features = sampling.group_means(
        problem, _mean_features, sequences=effort.singles, seed=seed + 2
    )
    probe = np.stack([features["final"].mean(axis=0), features["attended"].mean(axis=0)])
    read = np.einsum("skcf,kf->skc", singles, probe)
    margins = np.stack([read[..., -1], read[..., -1] - read[..., AGAINST]], axis=2)
    probe_error = [mean_and_error(features[seen])[1] for seen in ("final", "attended")]
    drawn = recall.sample(problem, jax.random.key(seed), batch_size=FEW)
    few = simplified.features(drawn.tokens, problem.vocab_size)
    last = np.asarray(few[:, -1])
    weights = np.random.default_rng(seed).normal(size=(problem.vocab_size, few.shape[2]))
    logits = np.einsum("bf,kf->bk", last, weights)
    ordered = np.sort(logits[:, :-1], axis=1)
    return {
        "first_entry": records.labelled(by_samples, {}),
        "first_single": xr.Dataset(
            {
                "deviation": (("of", "matrix", "class", "feature"), deviations),
                "probe": (("of", "matrix", "feature"), np.stack([probe, probe_error])),
                "margin_mean": (
                    ("of", "matrix", "over"), np.stack(mean_and_error(margins))
                ),
                "margin_deviation": (
                    ("of", "matrix", "over"), np.stack(deviation_and_error(margins))
                ),
            },
            {"of": ["value", "error"], "matrix": list(BLOCKS), "over": ["nothing", "class"]},
        ),
        "first_few": xr.Dataset(
            {
                "token": (("sequence", "position"), np.asarray(drawn.tokens, np.int64)),
                "attended": (("sequence", "feature"), np.asarray(few.mean(axis=1))),
                "final": (("sequence", "feature"), last),
                "weight": (("class", "feature"), weights),
                "margin": ("sequence", logits[:, -1] - ordered[:, -1]),
            }
        ),
    }  # fmt: skip


def _mean_features(batch: recall.Batch) -> dict[str, jax.Array]:
    x = simplified.features(batch.tokens, 5)
    return {"final": jnp.mean(x[:, -1], axis=0), "attended": jnp.mean(x, axis=(0, 1))}


def _deviation_rows(effort: Effort, found: Records) -> tuple[list[Row], xr.Dataset]:
    """The (tau, e(q)) entry of F from m samples: deviation over decades of m."""
    exact = _exact()
    alone = float(finite_samples.entry_deviations(exact, "feed_forward")[-1, 0])
    rows, table = [], []
    for samples in effort.sample_sizes:
        deviation, error = deviation_and_error(at(found.first_entry, samples=samples).entry.values)
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
    shown = {"deviation": ("samples", line[:, 1]), "error": ("samples", line[:, 2])}
    return rows, xr.Dataset(shown, {"samples": list(effort.sample_sizes)})


def _exact() -> finite_samples.SampledStep:
    law = language.uniform(4)
    return finite_samples.sampled_step(
        law.unigram, law.bigram, trigger=0, alpha=ALPHA, length=SMALL_LENGTH
    )


def _single_rows(found: Records) -> list[Row]:
    """Laws of the step of one sequence: every entry, and margins at the mean test features."""
    exact = _exact()
    setting = f"uniform N=4, T={SMALL_LENGTH}, m=1"
    rows = []
    single, few = found.first_single, found.first_few
    mean, error = single.deviation.values
    for index, block in enumerate(BLOCKS):
        rows.append(
            worst(FAMILY, f"deviation of every entry, {block}", setting,
                  finite_samples.entry_deviations(exact, block), mean[index], error[index])
        )  # fmt: skip
    probe = finite_samples.mean_probe(exact)
    rows.append(worst(FAMILY, "mean test features", setting, np.stack(probe), *single.probe.values))
    means, mean_errors = single.margin_mean.values
    deviations, errors = single.margin_deviation.values
    # Margins were read at the measured features, whose own errors are then no matter.
    read = (single.probe.values[0, 0], single.probe.values[0, 1])
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
    averages, last = first_step.sequence_features(few.token.values, 5)
    rows += [
        worst(FAMILY, "features of given sequences", setting, np.stack([averages, last]),
              np.stack([few.attended, few.final]), tolerance=1e-6),
        worst(FAMILY, "margins of given sequences", setting,
              first_step.margins(few.weight.values, last), few.margin.values,
              tolerance=1e-5),
    ]  # fmt: skip
    return rows
