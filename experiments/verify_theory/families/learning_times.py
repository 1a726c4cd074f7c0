"""Training of the simplified model against the reduced flow: half times and attribution.

The reduced flow is a heuristic of leading order in 1/N, so these rows allow 2.5 / N of what is
measured (finite steps and a finite number of sequences are well within it).
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

from truncated_weights.experiments.verify_theory.effort import Effort, Outcome, at
from truncated_weights.experiments.verify_theory.families import sampling, simplified
from truncated_weights.experiments.verify_theory.table import Row
from truncated_weights.theory import learning_times
from truncated_weights.toy import language
from truncated_weights.training import loop as training
from truncated_weights.training import records
from truncated_weights.training.loop import Measurement, Trainer
from truncated_weights.training.records import Name, Recorder, Records

FAMILY = "learning"
ALPHA = 0.3
LENGTH_PER_TOKEN = 8
EVALUATION = 512
NUM_SEEDS = 2
# Runs end after this much time over N^(3/2), somewhat beyond the half time of attention; the
# first part of it, over N, is recorded at every step.
REACH, EARLY = 4.9, 1.5
# Noise that is learned by itself: alpha, and ordinary classes.
ALONE, MANY = (0.2, 0.5), 10_000


def simulate(effort: Effort, seed: int) -> Records:
    """p(noise), attention and margins of trained networks over time.

    Every size has times of its own: what lies behind its last record is NaN.
    """
    trained = {
        key.within(size=size): value
        for size in effort.training_sizes
        for key, value in _train(size, effort, seed).items()
    }
    alone = ("alpha", [_noise_alone(alpha) for alpha in ALONE])
    return Records(
        {
            "learning": records.labelled(trained, {}),
            "learning_alone": xr.Dataset({"half_time": alone}, {"alpha": list(ALONE)}),
        }
    )


def recorded(block: xr.Dataset, size: int) -> xr.Dataset:
    """The networks of one size, [record, seed], up to their last record."""
    return at(block, size=size).dropna("record", subset=["time"])


def judge(effort: Effort, found: Records) -> Outcome:
    """Rows, and the half times that the figure draws."""
    rows: list[Row] = []
    measured, predicted = [], []
    for size in effort.training_sizes:
        curves = recorded(found.learning, size)
        half, times = learning_times.half_times(size, ALPHA), curves.time.values
        noise, noise_error = _first(times, curves.p_noise.values, ALPHA / 2)
        attention, attention_error = _first(times, curves.attention_correct.values, 0.5)
        measured.append((noise, attention, attention / noise))
        predicted.append(tuple(half))
        setting = f"uniform N={size}, T={LENGTH_PER_TOKEN * size}, alpha={ALPHA}"
        allowed = 2.5 / size
        for name, value, seen, note in (
            ("time to half of p(noise)", half.noise, noise, f"seeds +- {noise_error:.2g}"),
            (
                "time to half attention",
                half.attention,
                attention,
                f"seeds +- {attention_error:.2g}",
            ),
            ("ratio of the two times", half.ratio, attention / noise, ""),
        ):
            rows.append(
                Row(FAMILY, name, setting, value, seen, tolerance=allowed * seen, note=note)
            )
        rows += _attribution_rows(size, curves, setting, allowed)
    both = np.array([predicted, measured])
    half_times = {
        quantity: (("of", "size"), both[:, :, place])
        for place, quantity in enumerate(("noise", "attention", "ratio"))
    }
    coords = {"of": ["predicted", "measured"], "size": list(effort.training_sizes)}
    shown = {"learning_half_times": xr.Dataset(half_times, coords)}
    sizes = np.array(effort.training_sizes, dtype=np.float64)
    if sizes.size < 2:
        return Outcome(rows, shown)
    for index, name in ((1, "attention time"), (2, "ratio of times")):
        slopes = [
            np.polyfit(np.log(sizes), np.log([row[index] for row in table]), 1)[0]
            for table in (predicted, measured)
        ]
        rows.append(
            Row(
                FAMILY,
                f"exponent of {name} in N",
                f"N={sizes[0]:g}..{sizes[-1]:g}",
                float(slopes[0]),
                float(slopes[1]),
                # A relative error of 2.5/N at the smallest N, as a part of this exponent.
                tolerance=float(2.5 / sizes[0] / np.log(sizes[-1] / sizes[0])) / 2,
                note="N^(3/2), over log N for the ratio, as N grows",
            )
        )
    for alpha, time in zip(ALONE, found.learning_alone.half_time.values, strict=True):
        rows.append(
            Row(FAMILY, "time to half of a noise that learns alone", f"N={MANY}, alpha={alpha:g}",
                learning_times.asymptotic_half_times(MANY, alpha).noise, float(time),
                tolerance=2e-3 * float(time), note="scaling law; finite steps, 1 / N")
        )  # fmt: skip
    low, high = sizes[:2]
    law = [learning_times.asymptotic_half_times(int(n), ALPHA) for n in (low, high)]
    times = [row[1] / n**1.5 for row, n in zip(measured, (low, high), strict=False)]
    rows.append(
        Row(FAMILY, "time to half attention over N^(3/2) as N grows",
            f"extrapolated from N={low:g}, {high:g}", law[1].attention / high**1.5,
            (high * times[1] - low * times[0]) / (high - low), tolerance=0.15,
            note="scaling law; the next order is 1/N^2 and N/T")
    )  # fmt: skip
    return Outcome(rows, shown)


def _noise_alone(alpha: float) -> float:
    """Time at which a noise logit that learns by itself among MANY classes has p = alpha / 2."""
    step = 0.01
    with jax.enable_x64(True):
        gradient = jax.grad(lambda z: jnp.log(MANY + jnp.exp(z)) - alpha * z)

        @jax.jit
        def path(z: jax.Array) -> jax.Array:
            def one(z: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
                return z - step * gradient(z), z

            return jax.lax.scan(one, z, length=round(3 * np.log(MANY) / alpha / step))[1]

        z = np.asarray(path(jnp.zeros(())))
    p = np.exp(z) / (MANY + np.exp(z))
    return float(np.interp(alpha / 2, p, step * np.arange(p.size)))


def _train(size: int, effort: Effort, seed: int) -> dict[Name, np.ndarray]:
    step = effort.training_step
    num_steps = round(REACH * size**1.5 / step)
    early = range(0, min(num_steps, round(EARLY * size / step)) + 1)
    late = range(0, num_steps + 1, max(1, num_steps // 80))
    problem = sampling.task(language.uniform(size), alpha=ALPHA, length=LENGTH_PER_TOKEN * size)
    trainer = Trainer(
        simplified.Simplified(problem, effort.training_batch),
        optax.sgd(step),
        tuple(range(seed, seed + NUM_SEEDS)),
        num_steps=num_steps,
    )
    measurement = Measurement(
        "model", simplified.measure(problem, EVALUATION), frozenset({*early, *late, num_steps})
    )
    recorder = Recorder(trainer.seeds)
    training.run(trainer, [measurement], report=recorder.add)
    found = recorder.records()["model"]
    return {
        records.name("time", "record"): found.step.values * step,
        **{
            records.name(str(variable), "record", "seed"): values.values
            for variable, values in found.items()
        },
    }


def _first(times: np.ndarray, values: np.ndarray, level: float) -> tuple[float, float]:
    """First time each seed reaches a level, interpolated: mean and half the range over seeds."""
    reached = []
    for curve in values.T:
        index = int(np.argmax(curve >= level))
        if curve[index] < level:
            return float("nan"), float("nan")
        if index == 0:
            reached.append(times[0])
            continue
        share = (level - curve[index - 1]) / (curve[index] - curve[index - 1])
        reached.append(times[index - 1] + share * (times[index] - times[index - 1]))
    return float(np.mean(reached)), float(np.ptp(reached) / 2)


def _attribution_rows(
    size: int,
    curves: xr.Dataset,
    setting: str,
    allowed: float,
) -> list[Row]:
    """Who writes the noise margin: early, while attention is uniform, and at the end."""
    times = curves.time.values
    predicted = learning_times.curves(size, ALPHA, times)
    attended, fed = (
        margin.values.mean(axis=1)
        for margin in (curves.attention_margin, curves.feed_forward_margin)
    )
    early = (times > 0.25 * size) & (times < EARLY * size)
    late = times > 0.9 * times[-1]
    return [
        Row(
            FAMILY,
            "attention's share of the early margin",
            setting,
            float(np.mean(predicted.attention_margin[early]) / np.mean(_total(predicted)[early])),
            float(np.mean(attended[early]) / np.mean((attended + fed)[early])),
            tolerance=allowed * float(np.mean(attended[early]) / np.mean((attended + fed)[early])),
            note="2/N to leading order",
        ),
        Row(
            FAMILY,
            "late margin written by F",
            setting,
            float(np.mean(predicted.feed_forward_margin[late])),
            float(np.mean(fed[late])),
            tolerance=allowed * abs(float(np.mean(fed[late]))),
        ),
        Row(
            FAMILY,
            "late margin written by attention",
            setting,
            float(np.mean(predicted.attention_margin[late])),
            float(np.mean(attended[late])),
            tolerance=allowed * abs(float(np.mean(attended[late]))),
            note="copying of the correct token",
        ),
    ]


def _total(curves: learning_times.Curves) -> np.ndarray:
    return curves.attention_margin + curves.feed_forward_margin
