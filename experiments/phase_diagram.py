"""Which end of the spectrum of an associative memory holds the noise, over (N, alpha) and time.

    python -m experiments.phase_diagram
    python -m experiments.phase_diagram --max_inputs=100 --times=1,10,1e3,1e6

The first takes about a minute on two CPU cores and should end with "0 of 96 points disagree":
the map is predicted by theory/, the points are memories trained by gradient descent. Where the
map is positive the noise is the largest component and truncation must drop the top to remove it.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from experiments import memory_descent, program, style
from experiments.program import UserError
from experiments.progress import Progress
from experiments.run_directory import RunDirectory, open_run
from theory import memory_spectrum
from toy import memory

flags.DEFINE_list("times", ["10", "100", "10000"], "Flow times, one panel each.")
flags.DEFINE_integer("max_inputs", 64, "Largest N; the smallest is 2.", lower_bound=3)
flags.DEFINE_integer("resolution", 40, "Values of alpha in the map.", lower_bound=2)
flags.DEFINE_integer("points", 32, "Trained memories.", lower_bound=1, upper_bound=10_000)
flags.DEFINE_float(
    "step_size", 0.125, "Learning rate over N, so that all N are as accurate.", lower_bound=1e-6
)
flags.DEFINE_integer("seed", 0, "Seed of where the points lie.", lower_bound=0, upper_bound=2**31)
program.define_output_flags("phase_diagram")

# A point this close to the boundary may fall on either side for its finite step size.
UNDECIDED = 0.03


@dataclasses.dataclass(frozen=True)
class PhaseConfig:
    """Every flag of this program, under the same name."""

    times: tuple[str, ...]
    max_inputs: int
    resolution: int
    points: int
    step_size: float
    seed: int


def main() -> int:
    """Flags in, run directory out; 1 if a measured point lies on the wrong side."""
    config = program.config_from_flags(PhaseConfig)
    times = parse_times(config.times)
    if config.step_size > 1.0:
        raise UserError(f"--step_size={config.step_size} must be at most 1 to stay near the flow")
    directory = open_run(flags.FLAGS.out, config, overwrite=flags.FLAGS.overwrite)
    summary = run(config, times, directory)
    for i, time in enumerate(times):
        print(
            f"t = {time:g}: noise on top at {100 * summary[f't{i}/noise_on_top']:.0f} % of the "
            f"map; largest |measured - predicted log ratio| {summary[f't{i}/largest_error']:.2g}"
        )
    print(
        f"{summary['disagree']:.0f} of {summary['points']:.0f} points disagree "
        f"({summary['undecided']:.0f} within {UNDECIDED} of the boundary, not judged)"
    )
    print(f"figures: {directory.path / 'figures'}")
    return 1 if summary["disagree"] else 0


def parse_times(texts: tuple[str, ...]) -> np.ndarray:
    """Positive finite times in increasing order; UserError otherwise."""
    try:
        times = np.array([float(text) for text in texts])
    except ValueError as error:
        raise UserError(f"--times={','.join(texts)} must be numbers") from error
    if not times.size or np.any(times <= 0) or not np.all(np.isfinite(times)):
        raise UserError(f"--times={','.join(texts)} must be positive and finite")
    if times.max() > 1e7:
        raise UserError("--times beyond 1e7 would take hours to train; the map alone needs theory/")
    return np.unique(times)


def run(config: PhaseConfig, times: np.ndarray, directory: RunDirectory) -> dict[str, float]:
    """Predict the map, train the points, compare, draw."""
    sizes = np.unique(np.geomspace(2, config.max_inputs, 32).round().astype(int))
    alphas = np.linspace(0.01, 0.99, config.resolution)
    background = memory_spectrum.phase_diagram(sizes, alphas, times)
    generator = np.random.default_rng(config.seed)
    exponents = generator.uniform(0, 1, config.points)
    drawn = np.round(2 * (config.max_inputs / 2) ** exponents).astype(int)
    rates = 0.01 + 0.97 * generator.uniform(0, 1, config.points) ** 2  # most happens at small alpha

    progress = Progress(config.points, label="point")
    measured, predicted = np.empty((2, config.points, times.size))
    for i, (size, alpha) in enumerate(zip(drawn, rates, strict=True)):
        measured[i], reached = train(int(size), float(alpha), times, config.step_size)
        predicted[i] = memory_spectrum.phase_diagram(np.array([size]), np.array([alpha]), reached)[
            0, 0
        ]
        directory.append_metrics(
            {"step": i + 1, "num_inputs": int(size), "alpha": float(alpha)}
            | {f"log_ratio/t{j}": float(x) for j, x in enumerate(measured[i])}
        )
        progress.update(i + 1, N=float(size), alpha=float(alpha))
    progress.close()
    arrays = {
        "times": times,
        "map/num_inputs": sizes,
        "map/alpha": alphas,
        "map/log_ratio": background,
        "points/num_inputs": drawn,
        "points/alpha": rates,
        "points/measured": measured,
        "points/predicted": predicted,
    }
    directory.write_arrays(arrays)
    directory.save_figure(draw(arrays), "phase_diagram")
    summary = summarise(arrays)
    directory.finish(summary)
    return summary


def _lines(drawn: np.ndarray, rates: np.ndarray, measured: np.ndarray) -> list[dict[str, float]]:
    return [
        {"step": i + 1, "num_inputs": int(drawn[i]), "alpha": float(rates[i])}
        | {f"log_ratio/t{j}": float(x) for j, x in enumerate(row)}
        for i, row in enumerate(measured)
    ]


def train(
    size: int, alpha: float, times: np.ndarray, step_size: float
) -> tuple[np.ndarray, np.ndarray]:
    """Log of noise over signal singular value of a trained memory, and the times reached."""
    step = step_size * size
    stops = np.maximum(1, np.round(times / step)).astype(int)
    ratios = memory_descent.descend(
        memory.Memory(size, alpha), step_size=step, stops=stops, measure=_log_ratio
    )
    return np.array(ratios), stops * step


def _log_ratio(weights: memory.Weights) -> jax.Array:
    """The component with the largest share of the noise class against the largest other one."""
    found = memory.measure_logits(weights)
    values, share = found["singular_values"], found["noise_share"]
    noise = jnp.argmax(share)
    others = jnp.where(jnp.arange(values.size) == noise, 0.0, values)
    return jnp.log(values[noise]) - jnp.log(jnp.max(others))


def summarise(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """Points on the wrong side of the boundary, and how far measurements are from predictions."""
    measured, predicted = arrays["points/measured"], arrays["points/predicted"]
    undecided = np.abs(predicted) < UNDECIDED
    wrong = (np.sign(measured) != np.sign(predicted)) & ~undecided
    summary = {
        "points": float(measured.size),
        "disagree": float(np.sum(wrong)),
        "undecided": float(np.sum(undecided)),
    }
    for i, time in enumerate(arrays["times"]):
        # Where the noise value passes through zero its logarithm has no scale.
        error = np.abs(np.exp(measured[:, i]) - np.exp(predicted[:, i]))
        error = error / np.maximum(np.exp(predicted[:, i]), 0.1)
        summary |= {
            f"t{i}/time": float(time),
            f"t{i}/noise_on_top": float(np.mean(arrays["map/log_ratio"][:, :, i] > 0)),
            f"t{i}/largest_error": float(np.max(error)),
        }
    return summary


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """One panel per time: predicted map, its boundary, measured points."""
    times, sizes = arrays["times"], arrays["map/num_inputs"]
    canvas, axes = style.figure(1, times.size, width=2.4 * times.size + 0.8, height=2.7)
    alphas, table = arrays["map/alpha"], arrays["map/log_ratio"] / math.log(10)
    limit = 1.0
    image: Any = None
    for i, time in enumerate(times):
        panel = axes[0, i]
        image = panel.pcolormesh(
            alphas,
            sizes,
            np.clip(table[:, :, i], -limit, limit),
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            shading="nearest",
            rasterized=True,
        )
        if table[:, :, i].min() < 0 < table[:, :, i].max():
            panel.contour(alphas, sizes, table[:, :, i], [0.0], colors="black", linewidths=1.2)
        measured = np.clip(arrays["points/measured"][:, i] / math.log(10), -limit, limit)
        panel.scatter(
            arrays["points/alpha"],
            arrays["points/num_inputs"],
            c=measured,
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            s=22,
            edgecolors="black",
            linewidths=0.8,
        )
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.set_yticks([n for n in (2, 4, 8, 16, 32, 64, 128, 256, 512) if n <= sizes[-1]])
        panel.set_xlim(0, 1)
        panel.set_xlabel("noise probability alpha")
        style.panel(panel, "abcdefghij"[i % 10], f"t = {time:g}")
    axes[0, 0].set_ylabel("inputs N")
    bar = canvas.colorbar(image, ax=axes, shrink=0.9)
    bar.set_label("log10(noise / signal singular value)")
    return canvas


if __name__ == "__main__":
    program.run(main)
