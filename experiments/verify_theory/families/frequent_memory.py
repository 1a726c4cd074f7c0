"""The memory with frequencies and a shared feature: its flow, and the window a cut corrects.

Runs are gradient descent on toy.memory in float64 with steps of 1 on the exact population loss,
Zipf frequencies of exponent 1. The truncated memory is measured with truncation/.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.verify_theory.effort import Effort, Outcome
from experiments.verify_theory.table import Row
from theory import frequent_memory, frequent_window
from toy import memory, memory_descent
from truncation import spectrum

FAMILY = "frequent"
SIZE = 64
TIMES = (100, 300, 1000)
STEP = 1.0
# Boundaries may be off by this much of their logarithm.
ALLOWED = 0.05


def verify(effort: Effort, seed: int) -> Outcome:
    """Rows and arrays of the family; nothing here is random."""
    del seed
    rows: list[Row] = []
    arrays: dict[str, np.ndarray] = {}
    runs = {}
    for shared in effort.overlaps:
        for alpha in effort.window_alphas:
            found = runs[alpha, shared] = _descend(alpha, shared)
            facts = frequent_memory.facts(frequent_memory.zipf(SIZE), alpha, shared)
            exact = frequent_memory.logits(facts, np.array(TIMES) * STEP, num_nodes=32)
            rows.append(_logit_row(alpha, shared, exact, found["logits"]))
            rows += _edge_rows(facts, exact, found)
            name = f"frequent/{shared:g}/{alpha:g}"
            arrays[f"{name}/full"], arrays[f"{name}/cut"] = found["full"], found["cut"]
    known = (0.3, 0.5)
    rows.append(_overtaking_row(*known, runs.get(known) or _descend(*known)))
    return Outcome(rows, arrays)


def _descend(alpha: float, shared: float) -> dict[str, np.ndarray]:
    problem = memory.Memory(
        SIZE, alpha, frequencies=memory.frequencies("zipf", SIZE), shared=shared
    )
    measured = memory_descent.descend(problem, step_size=STEP, stops=TIMES, measure=_measure)
    return {name: np.array([m[name] for m in measured]) for name in measured[0]}


def _measure(weights: memory.Weights) -> dict[str, jax.Array]:
    """Logits, and the margins of the full memory and of the one without its top component."""
    matrix = weights["fc_in"]
    decomposition = spectrum.decompose(matrix)
    keep = jnp.arange(decomposition.s.size) > 0
    cut = spectrum.reconstruct(matrix, decomposition, keep.astype(matrix.dtype))
    return {
        "logits": memory.logits(weights),
        "full": memory.measure_facts(weights)["margin"],
        "cut": memory.measure_facts({**weights, "fc_in": cut})["margin"],
    }


def _logit_row(alpha: float, shared: float, exact: np.ndarray, found: np.ndarray) -> Row:
    where = np.unravel_index(np.argmax(np.abs(found - exact)), exact.shape)
    return Row(
        FAMILY,
        "logit",
        f"N={SIZE}, r={shared:g}, alpha={alpha:g}",
        float(exact[where]),
        float(found[where]),
        tolerance=0.02,
        note=f"worst of {exact.size}; finite steps",
    )


def _edge_rows(
    facts: frequent_memory.Facts, exact: np.ndarray, found: dict[str, np.ndarray]
) -> list[Row]:
    rows = []
    for time, values, full, cut in zip(TIMES, exact, found["full"], found["cut"], strict=True):
        truncated = frequent_window.truncated_logits(facts, values)
        for name, predicted, margin in (("full", values, full), ("cut", truncated, cut)):
            edge = frequent_window.edge(facts.frequencies, frequent_window.margins(predicted))
            setting = f"N={SIZE}, r={facts.shared:g}, alpha={facts.alpha:g}, t={time}"
            known = int(np.sum(margin > 0))
            if edge in (0.0, np.inf):
                rows.append(
                    Row(
                        FAMILY,
                        f"facts known, {name}",
                        setting,
                        float(SIZE if edge == 0.0 else 0),
                        float(known),
                        tolerance=0.0,
                        note="all or none: no boundary",
                    )
                )
                continue
            rows.append(
                Row(
                    FAMILY,
                    f"log frequency of the boundary, {name}",
                    setting,
                    float(np.log(edge)),
                    _boundary(facts.frequencies, margin),
                    tolerance=ALLOWED,
                    note=f"{known} of {SIZE} facts known",
                )
            )
    return rows


def _boundary(frequencies: np.ndarray, margin: np.ndarray) -> float:
    """Log frequency at which the margin last turns negative, frequencies falling."""
    known = np.flatnonzero(margin > 0)
    if known.size == 0 or known[-1] == margin.size - 1:
        return float("nan")
    last = slice(known[-1], known[-1] + 2)
    return float(np.interp(0.0, margin[last][::-1], np.log(frequencies[last])[::-1]))


def _overtaking_row(alpha: float, shared: float, found: dict[str, np.ndarray]) -> Row:
    """The leading-logarithm formula against descent."""
    measured = _boundary(frequent_memory.zipf(SIZE), found["full"][-1])
    grid = np.geomspace(1e-4, 0.5, 4000)
    times = frequent_window.overtaking_time(grid, alpha, shared)
    predicted = float(np.log(grid[np.argmin(np.abs(times - TIMES[-1] * STEP))]))
    return Row(
        FAMILY,
        "log frequency of the boundary, formula",
        f"N={SIZE}, r={shared:g}, alpha={alpha:g}, t={TIMES[-1]}",
        predicted,
        measured,
        tolerance=ALLOWED,
        note="leading logarithm, heuristic",
    )
