"""The memory with frequencies and a shared feature: its flow, and the window a cut corrects.

Runs are gradient descent in float64 on the exact population loss, Zipf frequencies of exponent 1,
with steps h and 2 h (see descent.py). The truncated memory is measured with truncation/.
"""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from truncated_weights.experiments.verify_theory.effort import Effort, Outcome, at
from truncated_weights.experiments.verify_theory.families import descent
from truncated_weights.experiments.verify_theory.table import Row, worst
from truncated_weights.theory import frequent_memory, frequent_window
from truncated_weights.toy import memory, memory_descent
from truncated_weights.training import records
from truncated_weights.training.records import Records
from truncated_weights.truncation import spectrum

FAMILY = "frequent"
SIZE = 64
TIMES = (100.0, 300.0, 1000.0)
STEP = 0.5
# The two further memories: independent rows, and two noise tokens.
SMALL, NOISES = 12, (0.2, 0.1)
SMALL_TIMES = (2.0, 20.0, 200.0)
# The boundary at the start, the first moment, and the time of the noise.
START = 2e-3
MANY, MANY_ALPHA, MANY_SHARED, FRACTIONS = 256, 0.3, 0.5, (0.5, 0.9)
SAME = 1e-3


def simulate(effort: Effort, seed: int) -> Records:
    """W at TIMES of every memory and its margins with and without the top component."""
    del seed
    flows, starts = {}, {}
    pairs = {(r, a) for r in effort.overlaps for a in effort.window_alphas} | {(0.5, 0.3)}
    for shared, alpha in sorted(pairs):
        here = {"shared": shared, "alpha": alpha}
        matrices = _descend(alpha, shared)
        flows[records.name("w", "input", "class", **here)] = matrices
        features = descent.with_shared(SIZE, shared)
        for model, drop in (("full", 0), ("cut", 1)):
            logits = features @ _without_top(matrices, drop)
            flows[records.name("margin", "fact", model=model, **here)] = _margins(logits)
        (start,) = features @ descent.descend(
            features, descent.zipf(SIZE), descent.own_answers(SIZE, (alpha,)), (START,), step=START
        )
        starts[records.name("logit", "fact", "class", **here)] = start
    blocks = {
        "frequent": records.labelled(flows, {"time": list(TIMES)}),
        "frequent_start": records.labelled(starts, {}),
    }
    for block, shared, noise in (
        ("frequent_independent", 0.0, (0.3,)), ("frequent_two_noises", 0.4, NOISES),
    ):  # fmt: skip
        features = descent.with_shared(SMALL, shared)
        logits = features @ descent.flow(
            features, descent.zipf(SMALL), descent.own_answers(SMALL, noise), SMALL_TIMES, step=0.1
        )
        found = {"logit": (("time", "fact", "class"), logits)}
        blocks[block] = xr.Dataset(found, {"time": list(SMALL_TIMES)})
    features = descent.with_shared(MANY, MANY_SHARED)
    grid = tuple(np.arange(0.0, 60.1, 2.0).tolist())
    w = descent.flow(
        features, np.full(MANY, 1 / MANY), descent.own_answers(MANY, (MANY_ALPHA,)), grid, step=0.5
    )
    one = np.exp(features[0] @ w)
    noise_curve = ("time", one[:, -1] / one.sum(axis=1))
    blocks["frequent_noise"] = xr.Dataset({"p_noise": noise_curve}, {"time": list(grid)})
    return Records(blocks)


def judge(effort: Effort, found: Records) -> Outcome:
    """Rows of the family."""
    rows: list[Row] = []
    for shared in effort.overlaps:
        for alpha in effort.window_alphas:
            facts = frequent_memory.facts(frequent_memory.zipf(SIZE), alpha, shared)
            exact = frequent_memory.logits(facts, np.array(TIMES), num_nodes=32)
            here = at(found.frequent, shared=shared, alpha=alpha)
            rows += _flow_rows(facts, exact, here.w.values)
            rows += _edge_rows(facts, exact, here.margin)
            start = at(found.frequent_start, shared=shared, alpha=alpha)
            rows.append(_start_row(alpha, shared, start.logit.values))
    last = at(found.frequent, shared=0.5, alpha=0.3, model="full").margin[-1]
    rows.append(_overtaking_row(0.3, 0.5, last.values))
    law = frequent_memory.zipf(SMALL)
    alone = frequent_memory.independent_logits(
        frequent_memory.facts(law, 0.3), np.array(SMALL_TIMES)
    )
    table = found.frequent_independent.logit.values
    own = np.arange(SMALL)
    for name, predicted, measured in (
        ("correct", alone[:, :, 0], table[:, own, own]),
        ("other", alone[:, :, 1], table[:, own, (own + 1) % SMALL]),
        ("noise", alone[:, :, 2], table[:, :, -1]),
    ):
        rows.append(
            worst(FAMILY, f"{name} logits without a shared feature", f"N={SMALL}, Zipf, r=0",
                  predicted, measured, tolerance=SAME + SAME * np.abs(measured),
                  note="finite steps, second order")
        )  # fmt: skip
    both = frequent_memory.facts(law, np.array(NOISES), 0.4)
    rows.append(
        worst(FAMILY, "logits with two noise tokens", f"N={SMALL}, Zipf, r=0.4, alpha=.2, .1",
              frequent_memory.logits(both, np.array(SMALL_TIMES)),
              found.frequent_two_noises.logit.values,
              tolerance=2 * SAME, note="finite steps, second order")
    )  # fmt: skip
    curve = found.frequent_noise.p_noise
    return Outcome(rows + _noise_time_rows(curve.time.values, curve.values))


def _descend(alpha: float, shared: float) -> np.ndarray:
    """W [times, N + 1, N + 1] of toy.memory, the first order of the step taken away."""
    problem = memory.Memory(
        SIZE, alpha, frequencies=memory.frequencies("zipf", SIZE), shared=shared
    )

    def run(step: float) -> dict[str, np.ndarray]:
        stops = [round(time / step) for time in TIMES]
        measured = memory_descent.descend(problem, step_size=step, stops=stops, measure=_matrix)
        return {"w": np.array(measured)}

    return descent.gradual(run, STEP)["w"]


def _matrix(weights: memory.Weights) -> jax.Array:
    return weights["fc_in"]


def _without_top(matrices: np.ndarray, count: int) -> np.ndarray:
    """The matrices without their largest components, by truncation/."""
    with jax.enable_x64(True):

        def cut(matrix: jax.Array) -> jax.Array:
            decomposition = spectrum.decompose(matrix)
            keep = jnp.arange(decomposition.s.size) >= count
            return spectrum.reconstruct(matrix, decomposition, keep.astype(matrix.dtype))

        return np.array([np.asarray(jax.jit(cut)(jnp.asarray(m))) for m in matrices])


def _margins(logits: np.ndarray) -> np.ndarray:
    """Correct logit less the largest other, [times, facts]."""
    own = np.eye(logits.shape[1], logits.shape[2], dtype=bool)
    return np.sum(logits * own, axis=2) - np.where(own, -np.inf, logits).max(axis=2)


def _flow_rows(facts: frequent_memory.Facts, exact: np.ndarray, found: np.ndarray) -> list[Row]:
    """Logits, the matrix, and which component the noise is."""
    setting = f"N={SIZE}, r={facts.shared:g}, alpha={facts.alpha:g}, t=100..1000"
    logits = descent.with_shared(SIZE, facts.shared) @ found
    shares = []
    for matrix in found:
        read, _, write = np.linalg.svd(matrix)
        shares.append([read[0, :3] ** 2, write[:3, -1] ** 2])
    predicted = [
        frequent_window.spectrum(facts, frequent_memory.weights(facts, values)) for values in exact
    ]
    measured = np.array(shares)
    note = "finite steps, second order"
    return [
        worst(FAMILY, "logit", setting, exact, logits, tolerance=2 * SAME, note=note),
        worst(FAMILY, "matrix", setting,
              np.array([frequent_memory.weights(facts, values) for values in exact]), found,
              tolerance=2 * SAME, note=note),
        worst(FAMILY, "share of e_0 in the first three components", setting,
              np.array([p.shared[:3] for p in predicted]), measured[:, 0], tolerance=0.01,
              note=note),
        worst(FAMILY, "share of the noise in the first three components", setting,
              np.array([p.noise[:3] for p in predicted]), measured[:, 1], tolerance=0.01,
              note=note),
    ]  # fmt: skip


def _edge_rows(facts: frequent_memory.Facts, exact: np.ndarray, found: xr.DataArray) -> list[Row]:
    """found: margin [time, model, fact]."""
    rows = []
    for place, time in enumerate(TIMES):
        setting = f"N={SIZE}, r={facts.shared:g}, alpha={facts.alpha:g}, t={time:g}"
        full, cut = (found.sel(time=time, model=model).values for model in ("full", "cut"))
        corrected = frequent_window.corrected(facts, exact[place])
        rows.append(
            Row(FAMILY, "facts corrected by the cut and not foretold, or the reverse", setting,
                0.0, float(np.sum(((full <= 0) & (cut > 0)) ^ corrected)),
                note=f"of {SIZE}, {corrected.sum()} corrected")
        )  # fmt: skip
        truncated = frequent_window.truncated_logits(facts, exact[place])
        for kind, predicted, margin in (("full", exact[place], full), ("cut", truncated, cut)):
            margins = frequent_window.margins(predicted)
            edge = frequent_window.edge(facts.frequencies, margins)
            known = int(np.sum(margin > 0))
            rows.append(
                worst(FAMILY, f"margins, {kind}", setting, margins, margin,
                      tolerance=4 * SAME, note="finite steps, second order")
            )  # fmt: skip
            if edge in (0.0, np.inf):
                rows.append(
                    Row(FAMILY, f"facts known, {kind}", setting,
                        float(SIZE if edge == 0.0 else 0), float(known),
                        note="all or none: no boundary")
                )  # fmt: skip
                continue
            rows.append(
                Row(FAMILY, f"log frequency of the boundary, {kind}", setting,
                    float(np.log(edge)), _boundary(descent.zipf(SIZE), margin),
                    tolerance=0.01, note=f"{known} of {SIZE} facts known; finite steps")
            )  # fmt: skip
    return rows


def _boundary(frequencies: np.ndarray, margin: np.ndarray) -> float:
    """Log frequency at which the margin last turns negative, frequencies falling."""
    known = np.flatnonzero(margin > 0)
    if known.size == 0 or known[-1] == margin.size - 1:
        return float("nan")
    last = slice(known[-1], known[-1] + 2)
    return float(np.interp(0.0, margin[last][::-1], np.log(frequencies[last])[::-1]))


def _start_row(alpha: float, shared: float, logits: np.ndarray) -> Row:
    """Which facts the noise leads at first: their lead is linear in the frequency."""
    lead = np.diagonal(logits) - logits[:, -1]
    law = descent.zipf(SIZE)
    slope, offset = np.polyfit(law, lead, 1)
    return Row(
        FAMILY,
        "lowest frequency ahead of the noise at the start",
        f"r={shared:g}, alpha={alpha:g}, t={START:g}",
        frequent_window.start_edge(alpha, shared),
        float(-offset / slope),
        tolerance=1e-3 * float(-offset / slope),
        note="t -> 0",
    )


def _overtaking_row(alpha: float, shared: float, margin: np.ndarray) -> Row:
    """The leading-logarithm formula against descent."""
    measured = _boundary(descent.zipf(SIZE), margin)
    grid = np.geomspace(1e-4, 0.5, 4000)
    times = frequent_window.overtaking_time(grid, alpha, shared)
    predicted = float(np.log(grid[np.argmin(np.abs(times - TIMES[-1]))]))
    return Row(
        FAMILY,
        "log frequency of the boundary, formula",
        f"N={SIZE}, r={shared:g}, alpha={alpha:g}, t={TIMES[-1]:g}",
        predicted,
        measured,
        tolerance=0.12,
        note="leading logarithm, heuristic",
    )


def _noise_time_rows(times: np.ndarray, curve: np.ndarray) -> list[Row]:
    """When facts that nothing tells apart have learned a fraction of the noise."""
    rows = []
    for fraction in FRACTIONS:
        level = fraction * MANY_ALPHA
        near = slice(max(int(np.argmax(curve >= level)) - 2, 0), int(np.argmax(curve >= level)) + 2)
        measured = float(np.polyfit(curve[near] - level, times[near], 3)[-1])
        rows.append(
            Row(FAMILY, f"time to {fraction:g} of the noise",
                f"N={MANY}, uniform, r={MANY_SHARED:g}, alpha={MANY_ALPHA:g}",
                frequent_window.noise_time(MANY, MANY_ALPHA, MANY_SHARED, fraction), measured,
                tolerance=0.02 * measured, note="own rows, of order 1 / (r N), neglected")
        )  # fmt: skip
    return rows
