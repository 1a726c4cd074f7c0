"""The map of a memory's phases over (N, alpha): predicted, trained at points, and drawn."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from experiments.run import style
from experiments.run.directory import RunDirectory
from experiments.run.program import UserError
from experiments.run.progress import Progress
from theory import memory_spectrum
from toy import memory, memory_descent

# A point this close to the boundary may fall on either side for its finite step size.
UNDECIDED = 0.03


@dataclasses.dataclass(frozen=True)
class PhaseConfig:
    """Every flag of experiments/phase_diagram/__main__.py, under the same name."""

    times: tuple[str, ...]
    max_inputs: int
    resolution: int
    points: int
    step_size: float
    seed: int


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

    # An interrupted run left the points it had trained; the rest are not a number.
    points = directory.read_arrays()
    missing = np.full((config.points, times.size), np.nan)
    measured = points.get("points/measured", missing.copy())
    predicted = points.get("points/predicted", missing.copy())
    done = int(np.sum(np.isfinite(measured[:, 0])))
    progress = Progress(config.points, start=done, label="point")
    for i in range(done, config.points):
        measured[i], reached = train(int(drawn[i]), float(rates[i]), times, config.step_size)
        predicted[i] = memory_spectrum.phase_diagram(drawn[i : i + 1], rates[i : i + 1], reached)
        directory.write_arrays({"points/measured": measured, "points/predicted": predicted})
        directory.rewrite_metrics(_lines(drawn, rates, measured[: i + 1]))
        progress.update(i + 1, N=float(drawn[i]), alpha=float(rates[i]))
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
