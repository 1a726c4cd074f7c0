"""The map of a memory's phases over (N, alpha): predicted, trained at points, and compared."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.phase_diagram import figures
from experiments.phase_diagram.settings import PhaseDiagram
from experiments.run import memory as memory_limit
from experiments.run import stop, table
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.program import Place
from experiments.run.progress import Progress, stage
from theory import memory_spectrum
from toy import memory_descent
from truncation import spectrum

# A point this close to the boundary may fall on either side for its finite step size.
UNDECIDED = 0.03


def main(config: PhaseDiagram, place: Place) -> int:
    """Settings in, run directory out; 1 if a measured point lies on the wrong side."""
    # A memory of N inputs is decomposed whole; the map is a table of small matrices.
    largest = 8.0 * config.max_inputs**2
    cells = 8.0 * 32 * config.resolution * len(config.times)
    memory_limit.require(6 * largest + 4 * cells, "--max_inputs or --resolution")
    directory = open_run(place, config)
    return report(run(config, directory), directory)


def redraw(out: str) -> None:
    """Draw the map of a finished run again, from its arrays alone."""
    directory, _ = open_finished(out, "phase_diagram", PhaseDiagram)
    print(directory.save_figure(figures.draw(directory.read_arrays()), "phase_diagram"))


def run(config: PhaseDiagram, directory: RunDirectory) -> dict[str, float]:
    """Predict the map, train the points, compare, draw."""
    times = np.unique(np.array(config.times))
    sizes = np.unique(np.geomspace(2, config.max_inputs, 32).round().astype(int))
    alphas = np.linspace(0.01, 0.99, config.resolution)
    stage("predicting the map")
    background = memory_spectrum.phase_diagram(sizes, alphas, times)
    stop.check()
    generator = np.random.default_rng(config.seed)
    exponents = generator.uniform(0, 1, config.points)
    drawn = np.round(2 * (config.max_inputs / 2) ** exponents).astype(int)
    rates = 0.01 + 0.97 * generator.uniform(0, 1, config.points) ** 2  # most happens at small alpha

    measured = np.full((config.points, times.size), np.nan)
    predicted = measured.copy()
    # An interrupted run kept each group of memories it had trained.
    progress = Progress(config.points, label="memory")
    directory.rewrite_metrics([])
    done = 0
    for largest, members in groups(drawn).items():
        stop.check()
        kept = directory.kept(f"up_to_{largest}")
        if kept is None:
            here, rates_here = drawn[members], rates[members]
            ratios, reached = train(here, rates_here, times, config.step_size)
            expected = [
                memory_spectrum.phase_diagram(here[[i]], rates_here[[i]], reached).reshape(-1)
                for i in range(len(members))
            ]
            arrays = {"measured": ratios, "predicted": np.array(expected)}
            directory.keep(f"up_to_{largest}", arrays)
        else:
            arrays, _ = kept
        measured[members], predicted[members] = arrays["measured"], arrays["predicted"]
        for i in members:
            done += 1
            line = {"step": done, "num_inputs": int(drawn[i]), "alpha": float(rates[i])}
            line |= {f"log_ratio/t{j}": float(x) for j, x in enumerate(measured[i])}
            directory.append_metrics(line)
        progress.update(done, N=float(largest))
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
    directory.save_figure(figures.draw(arrays), "phase_diagram")
    summary = summarise(arrays)
    directory.finish(summary)
    return summary


def report(summary: dict[str, float], directory: RunDirectory) -> int:
    """Print what was found; 1 if a point lies on the wrong side."""
    number = sum(name.endswith("/time") for name in summary)
    rows = [
        {
            "t": f"{summary[f't{i}/time']:g}",
            "noise on top, % of the map": f"{100 * summary[f't{i}/noise_on_top']:.0f}",
            "largest relative error": f"{summary[f't{i}/largest_error']:.2g}",
        }
        for i in range(number)
    ]
    print(table.text(rows))
    print(
        f"{summary['disagree']:.0f} of {summary['points']:.0f} points disagree "
        f"({summary['undecided']:.0f} within {UNDECIDED} of the boundary, not judged)"
    )
    print(f"figures: {directory.path / 'figures'}")
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
