"""The trained associative memory against its exact gradient flow.

Runs are plain gradient descent on toy.memory in float64, by automatic differentiation, from
W = 0 to flow time 1e5: five decades. Singular values and truncations are measured with
truncation/, which knows nothing of the theory.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from experiments.verify_theory.effort import Effort, Outcome
from experiments.verify_theory.table import Row, mean_and_error
from theory import memory_corrections, memory_flow, memory_spectrum
from toy import memory, memory_descent
from truncation import spectrum

FAMILY = "memory"
ALPHA = 0.3
SIZES = (2, 3, 4, 8, 64)
DECADES = 10.0 ** np.arange(6)
# (N, alpha) on both sides of the threshold alpha = 1 / sqrt(N + 1), and where none can be.
CROSSINGS = ((4, 0.3), (8, 0.1), (64, 0.05))
NO_CROSSINGS = ((2, 0.3), (3, 0.3), (8, 0.4), (64, 0.3))
EMBEDDING_SIZE, EMBEDDING_TIME = 4, 16.0
# At a step of 0.5 finite steps alone add 2.5 % to the squared deviation.
EMBEDDING_STEP = 0.125
D_MODELS = (64, 128, 256)


def verify(effort: Effort, seed: int) -> Outcome:
    """Rows and arrays of the family."""
    rows: list[Row] = []
    arrays: dict[str, np.ndarray] = {}
    for size in SIZES:
        times = np.unique(np.concatenate([DECADES, np.geomspace(2, 1e5, 31).round()]))
        # Rates are of order 1/N, so equal accuracy allows steps of order N.
        step = effort.memory_step * size / 16
        found = _descend(size, ALPHA, step, times)
        rows += _spectrum_rows(size, step, found)
        arrays |= {f"memory/{size}/{name}": value for name, value in found.items()}
        if size == 2:
            rows += _power_law_rows(found)
        if size in (2, 8):
            rows += _truncation_rows(size, step, found)
    for size, alpha in (*CROSSINGS, *NO_CROSSINGS):
        rows.append(_crossing_row(size, alpha))
    embedding_rows, arrays["memory/embedding"] = _embedding_rows(effort.embedding_draws, seed)
    return Outcome(rows + embedding_rows, arrays)


def _descend(size: int, alpha: float, step: float, times: np.ndarray) -> dict[str, np.ndarray]:
    """Gradient descent, measured where flow time first reaches each of `times`."""
    steps = np.unique(np.maximum(1, np.ceil(times / step - 1e-9))).astype(int)
    measured = memory_descent.descend(
        memory.Memory(size, alpha), step_size=step, stops=steps, measure=_measure
    )
    table = {name: np.array([m[name] for m in measured]) for name in measured[0]}
    return {"times": steps * step, **table}


def _measure(weights: memory.Weights) -> dict[str, jax.Array]:
    """Signal and noise singular values, and outputs full and without each of the two parts."""
    found = memory.measure_logits(weights)
    values, share = found["singular_values"], found["noise_share"]
    is_noise = jnp.arange(values.size) == jnp.argmax(share)
    signal = jnp.where(is_noise, jnp.nan, values)
    result = {
        "noise": values[jnp.argmax(share)],
        "signal": jnp.nanmean(signal),
        "spread": jnp.nanmax(signal) - jnp.nanmin(signal),
    }
    matrix = weights["fc_in"]
    decomposition = spectrum.decompose(matrix)
    for name, keep in (("full", is_noise | True), ("signal", ~is_noise), ("noise", is_noise)):
        cut = spectrum.reconstruct(matrix, decomposition, keep.astype(matrix.dtype))
        outputs = memory.measure_outputs({**weights, "fc_in": cut})
        result[f"{name}/p_noise"] = outputs["p_noise"]
        result[f"{name}/p_correct"] = outputs["p_correct"]
    return result


def _spectrum_rows(size: int, step: float, found: dict[str, np.ndarray]) -> list[Row]:
    """Singular values over five decades, and the error of finite steps itself."""
    times = found["times"]
    exact = memory_spectrum.singular_values(size, ALPHA, times)
    slope = memory_corrections.discretisation_slopes(size, ALPHA, times)
    stated = {
        "signal": step * (slope.correct - slope.other),
        "noise": step * math.sqrt(size + 1) * slope.noise,
    }
    setting = f"N={size}, alpha={ALPHA}, t=1..1e5, step {step:g}"
    rows = []
    for name, predicted in (("signal", exact.signal), ("noise", exact.noise)):
        beyond = np.abs(found[name] - predicted) / (1.5 * np.abs(stated[name]) + 1e-9 * predicted)
        index = int(np.argmax(beyond))
        allowed = 1.5 * abs(stated[name][index]) / predicted[index] + 1e-9
        rows.append(
            Row(
                FAMILY,
                f"{name} singular value",
                setting,
                float(predicted[index]),
                float(found[name][index]),
                tolerance=float(allowed),
                note=f"worst of {times.size} times, t={times[index]:g}; allowed 1.5 x step error",
            )
        )
    rows.append(
        Row(
            FAMILY,
            "signal value is (N-1)-fold",
            setting,
            1.0,
            float(1.0 + np.max(found["spread"] / found["signal"])),
            tolerance=1e-9,
            note="one plus relative spread",
        )
    )
    # At t = 1e3 second order is negligible, so the first-order coefficient shows.
    index = int(np.argmin(np.abs(times - 1e3)))
    rows.append(
        Row(
            FAMILY,
            "error of finite steps in s",
            f"N={size}, alpha={ALPHA}, t={times[index]:g}",
            float(stated["signal"][index]),
            float(found["signal"][index] - exact.signal[index]),
            tolerance=0.02,
            note="first order in the step",
        )
    )
    return rows


def _power_law_rows(found: dict[str, np.ndarray]) -> list[Row]:
    """Rank-one truncation at N = 2: exponent of p(noise) over t = 1e3 to 1e5."""
    late = found["times"] >= 999.0
    x, y = np.log(found["times"][late]), np.log(found["signal/p_noise"][late])
    fit, covariance = np.polyfit(x, y, 1, cov=True)
    kept = memory_spectrum.truncated_probabilities(2, ALPHA, found["times"][late], keep="signal")
    predicted = np.polyfit(x, np.log(kept.noise), 1)[0]
    setting, spread = "N=2, rank one, t=1e3..1e5", math.sqrt(covariance[0, 0])
    return [
        Row(
            FAMILY,
            "exponent of p(noise) in t",
            setting,
            -0.5,
            float(fit[0]),
            tolerance=0.02,
            note=f"limit; fitted +- {spread:.1g}, corrections of order t^-1/2",
        ),
        Row(
            FAMILY,
            "same, predicted on this range",
            setting,
            float(predicted),
            float(fit[0]),
            tolerance=1e-3,
            note="exact curve fitted the same way",
        ),
    ]


def _truncation_rows(size: int, step: float, found: dict[str, np.ndarray]) -> list[Row]:
    index = int(np.argmin(np.abs(found["times"] - 1e3)))
    time = found["times"][index : index + 1]
    rows = []
    for keep in ("full", "signal", "noise"):
        predicted = memory_spectrum.truncated_probabilities(size, ALPHA, time, keep=keep)  # type: ignore[arg-type]
        for name, value in (("p_noise", predicted.noise), ("p_correct", predicted.correct)):
            rows.append(
                Row(
                    FAMILY,
                    f"{name}, {keep} kept" if keep != "full" else f"{name}, full",
                    f"N={size}, alpha={ALPHA}, t={time[0]:g}",
                    float(value[0]),
                    float(found[f"{keep}/{name}"][index]),
                    tolerance=5e-3 * step,
                    note="finite steps",
                )
            )
    return rows


def _crossing_row(size: int, alpha: float) -> Row:
    """Where, if anywhere, the order of the two singular values changes in a run."""
    predicted = memory_spectrum.crossing(size, alpha, until=3e3).times
    step = size / 32
    centre = predicted[0] if predicted.size else 100.0
    near = centre * np.linspace(0.95, 1.05, 5)
    times = np.unique(np.concatenate([near, np.geomspace(2, 3e3, 16)]))
    found = _descend(size, alpha, step, times)
    gap = np.log(found["noise"] / found["signal"])
    changes = np.flatnonzero(gap[:-1] * gap[1:] < 0)
    setting = f"N={size}, alpha={alpha}"
    if not predicted.size:
        return Row(
            FAMILY,
            "no crossing up to t=3e3",
            setting,
            1.0,
            1.0 + changes.size,
            tolerance=0.0,
            note="one plus changes of order",
        )
    if changes.size != 1:
        return Row(FAMILY, "crossing time", setting, predicted[0], math.nan, tolerance=0.01)
    i = changes[0]
    logs = np.log(found["times"][i : i + 2])
    time = math.exp(logs[0] - gap[i] * (logs[1] - logs[0]) / (gap[i + 1] - gap[i]))
    return Row(
        FAMILY,
        "crossing time t*",
        setting,
        float(predicted[0]),
        time,
        tolerance=0.01,
        note=f"only change of order; long-time formula {_formula(size, alpha):.4g}",
    )


def _formula(size: int, alpha: float) -> float:
    return memory_spectrum.crossing(size, alpha).asymptotic_time


def _embedding_rows(draws: int, seed: int) -> tuple[list[Row], np.ndarray]:
    """Random embeddings: d E||Z_d - Z||^2 against C(t), and the rate in d."""
    coefficient = memory_corrections.random_embedding_coefficient(
        EMBEDDING_SIZE, ALPHA, np.array([EMBEDDING_TIME])
    )[0]
    table = []
    for d_model in D_MODELS:
        squares = _embedding_squares(d_model, draws, seed)
        mean, error = mean_and_error(squares)
        table.append([d_model, float(mean), float(error)])
    found = np.array(table)
    setting = f"N={EMBEDDING_SIZE}, alpha={ALPHA}, t={EMBEDDING_TIME:g}, {draws} draws"
    scaled, error = found[:, 0] * found[:, 1], found[:, 0] * found[:, 2]
    # What remains at finite d is of order 1/d: extrapolate it away.
    design = np.stack([np.ones(len(found)), 1 / found[:, 0]], axis=1) / error[:, None]
    covariance = np.linalg.inv(design.T @ design)
    limit = covariance @ design.T @ (scaled / error)
    fit, fit_covariance = np.polyfit(
        np.log(found[:, 0]),
        np.log(found[:, 1]) / 2,
        1,
        w=2 * found[:, 1] / found[:, 2],
        cov="unscaled",
    )
    rows = [
        Row(
            FAMILY,
            "d E||Z_d - Z||^2 as d grows",
            setting,
            float(coefficient),
            float(limit[0]),
            error=float(math.sqrt(covariance[0, 0])),
            note="extrapolated in 1/d from d=" + ", ".join(map(str, D_MODELS)),
        ),
        Row(
            FAMILY,
            "exponent of rms deviation in d",
            setting,
            -0.5,
            float(fit[0]),
            tolerance=0.1,
            note=f"fitted +- {math.sqrt(fit_covariance[0, 0]):.1g}; corrections of order 1/d",
        ),
    ]
    return rows, np.column_stack([found, np.full(len(found), coefficient)])


def _embedding_squares(d_model: int, draws: int, seed: int) -> np.ndarray:
    """Squared Frobenius distance of the logits from the orthonormal run, one per draw."""
    steps = round(EMBEDDING_TIME / EMBEDDING_STEP)

    def train(problem: memory.Memory, key: jax.Array) -> jax.Array:
        params, frozen = problem.init(key)

        def one(_: int, params: memory.Weights) -> memory.Weights:
            gradient = jax.grad(problem.loss)(params, frozen, key, lambda x: x)
            return jax.tree.map(lambda p, g: p - EMBEDDING_STEP * g, params, gradient)

        params = jax.lax.fori_loop(0, steps, one, params)
        return memory.logits({**frozen, **params})

    draw = functools.partial(train, memory.Memory(EMBEDDING_SIZE, ALPHA, d_model=d_model))

    @jax.jit
    def squares(seed: int | jax.Array) -> jax.Array:
        centre = train(memory.Memory(EMBEDDING_SIZE, ALPHA), jax.random.key(0))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), d_model), draws)
        return jax.lax.map(lambda key: jnp.sum((draw(key) - centre) ** 2), keys)

    return np.asarray(squares(seed), dtype=np.float64)


def curves(size: int, times: np.ndarray) -> dict[str, np.ndarray]:
    """The predictions that the figure draws."""
    values = memory_spectrum.singular_values(size, ALPHA, times)
    result = {"signal": values.signal, "noise": values.noise}
    for keep in ("full", "signal", "noise"):
        found = memory_spectrum.truncated_probabilities(size, ALPHA, times, keep=keep)  # type: ignore[arg-type]
        result[f"{keep}/p_noise"] = found.noise
    result["logits"] = np.stack(memory_flow.logits(size, ALPHA, times))
    return result
