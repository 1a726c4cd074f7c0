"""The map of a memory's phases over (N, alpha): predicted, trained at points, and compared."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from truncated_weights.experiments.phase_diagram import figures
from truncated_weights.experiments.phase_diagram.settings import PhaseDiagram
from truncated_weights.experiments.run import table
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.parts import Part, measured
from truncated_weights.experiments.run.progress import stage
from truncated_weights.experiments.run.study import Memory, Study
from truncated_weights.theory import memory_spectrum
from truncated_weights.toy import memory_descent
from truncated_weights.training.records import Records
from truncated_weights.truncation import spectrum

# A point this close to the boundary may fall on either side for its finite step size.
UNDECIDED = 0.03


@dataclasses.dataclass(frozen=True)
class Plan:
    """The map's axes, and which memories are trained to check it."""

    config: PhaseDiagram
    times: np.ndarray
    sizes: np.ndarray
    alphas: np.ndarray
    drawn: np.ndarray
    rates: np.ndarray


def prepare(config: PhaseDiagram) -> Plan:
    """The map on a grid, the memories anywhere on it."""
    generator = np.random.default_rng(config.seed)
    exponents = generator.uniform(0, 1, config.points)
    return Plan(
        config,
        times=np.unique(np.array(config.times)),
        sizes=np.unique(np.geomspace(2, config.max_inputs, 32).round().astype(int)),
        alphas=np.linspace(0.01, 0.99, config.resolution),
        drawn=np.round(2 * (config.max_inputs / 2) ** exponents).astype(int),
        # Most happens at small alpha.
        rates=0.01 + 0.97 * generator.uniform(0, 1, config.points) ** 2,
    )


def measure(plan: Plan, directory: RunDirectory) -> Records:
    """Predict the map, train the points.

    map: log_ratio [num_inputs, alpha, time]. points: measured and predicted [point, time], and
    num_inputs and alpha of each. Ratios are natural logarithms of noise over signal.
    """
    stage("predicting the map")
    background = memory_spectrum.phase_diagram(plan.sizes, plan.alphas, plan.times)
    parts = {f"up_to_{largest}": members for largest, members in groups(plan.drawn).items()}
    directory.rewrite_metrics([])
    found, done = [], 0
    for _, records in measured(
        directory,
        [Part(k, functools.partial(train_group, plan, m), len(m)) for k, m in parts.items()],
        label="memory",
    ):
        here = records.points
        for point in here.transpose("point", ...).point.values:
            done += 1
            row = here.sel(point=point)
            line = {"step": done, "num_inputs": int(row.num_inputs), "alpha": float(row.alpha)}
            line |= {f"log_ratio/t{j}": float(x) for j, x in enumerate(row.measured)}
            directory.append_metrics(line)
        found.append(here)
    axes = {"num_inputs": plan.sizes, "alpha": plan.alphas, "time": plan.times}
    return Records(
        {
            "map": xr.Dataset({"log_ratio": (tuple(axes), background)}, axes),
            "points": xr.concat(found, "point").sortby("point"),
        }
    )


def train_group(plan: Plan, members: np.ndarray) -> Records:
    """Memories that one program trains, measured and predicted."""
    sizes, rates = plan.drawn[members], plan.rates[members]
    ratios, reached = train(sizes, rates, plan.times, plan.config.step_size)
    expected = [
        memory_spectrum.phase_diagram(sizes[[i]], rates[[i]], reached).reshape(-1)
        for i in range(len(members))
    ]
    points = xr.Dataset(
        {
            "measured": (("point", "time"), ratios),
            "predicted": (("point", "time"), np.array(expected)),
            "num_inputs": ("point", sizes),
            "alpha": ("point", rates),
        },
        {"point": members, "time": plan.times},
    )
    return Records({"points": points})


def tell(plan: Plan, records: Records, summary: Mapping[str, Any]) -> int:
    """Print what was found; 1 if a point lies on the wrong side."""
    rows = [
        {
            "t": f"{summary[f't{i}/time']:g}",
            "noise on top, % of the map": f"{100 * summary[f't{i}/noise_on_top']:.0f}",
            "largest relative error": f"{summary[f't{i}/largest_error']:.2g}",
        }
        for i in range(len(plan.times))
    ]
    print(table.text(rows))
    print(
        f"{summary['disagree']:.0f} of {summary['points']:.0f} points disagree "
        f"({summary['undecided']:.0f} within {UNDECIDED} of the boundary, not judged)"
    )
    return 1 if summary["disagree"] else 0


def groups(sizes: np.ndarray) -> dict[int, np.ndarray]:
    """Places of the memories that one program trains at once, by the largest size it has room for.

    Sizes within a factor of two share a program: room that a memory does not need costs time,
    and so does every further compilation. Measured, defaults: 32 memories, 5 programs.
    """
    room = 2 ** np.ceil(np.log2(sizes)).astype(int)
    return {int(largest): np.flatnonzero(room == largest) for largest in np.unique(room)}


def train(
    sizes: np.ndarray, alphas: np.ndarray, times: np.ndarray, step_size: float
) -> tuple[np.ndarray, np.ndarray]:
    """Log of noise over signal singular value [memories, times], and the times reached.

    All take the step of the smallest, so that larger ones are more accurate than asked.
    """
    step = step_size * float(sizes.min())
    stops = np.maximum(1, np.round(times / step)).astype(int)
    ratios = memory_descent.descend_together(
        sizes.tolist(), alphas.tolist(), step_size=step, stops=stops, measure=_log_ratio
    )
    return np.array(ratios).T, stops * step


def _log_ratio(logits: jax.Array) -> jax.Array:
    """The component with the largest share of the noise class against the largest other one."""
    decomposition = spectrum.decompose(logits)
    values = decomposition.s
    noise_class = jnp.zeros(logits.shape[1]).at[-1].set(1.0)
    noise = jnp.argmax(spectrum.direction_share(decomposition, noise_class))
    others = jnp.where(jnp.arange(values.size) == noise, 0.0, values)
    return jnp.log(values[noise]) - jnp.log(jnp.max(others))


def summarise(plan: Plan, records: Records) -> dict[str, float]:
    """Points on the wrong side of the boundary, and how far measurements are from predictions."""
    points = records.points.transpose("point", "time")
    measured, predicted = points.measured.values, points.predicted.values
    undecided = np.abs(predicted) < UNDECIDED
    wrong = (np.sign(measured) != np.sign(predicted)) & ~undecided
    # Where the noise value passes through zero its logarithm has no scale.
    error = np.abs(np.exp(measured) - np.exp(predicted)) / np.maximum(np.exp(predicted), 0.1)
    on_top = (records.map.log_ratio > 0).mean(("num_inputs", "alpha"))
    summary = {
        "points": float(measured.size),
        "disagree": float(np.sum(wrong)),
        "undecided": float(np.sum(undecided)),
    }
    for i, time in enumerate(points.time.values):
        summary |= {
            f"t{i}/time": float(time),
            f"t{i}/noise_on_top": float(on_top.sel(time=time)),
            f"t{i}/largest_error": float(np.max(error[:, i])),
        }
    return summary


def needs(config: PhaseDiagram) -> Memory:
    """A memory of N inputs is decomposed whole; the map is a table of small matrices."""
    largest = 8.0 * config.max_inputs**2
    cells = 8.0 * 32 * config.resolution * len(config.times)
    return Memory(6 * largest + 4 * cells, "--max_inputs or --resolution")


STUDY = Study(
    name="phase_diagram",
    settings=PhaseDiagram,
    prepare=prepare,
    measure=measure,
    figures=figures.figures,
    summarise=summarise,
    tell=tell,
    memory=needs,
)
