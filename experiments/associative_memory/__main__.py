"""A linear associative memory with noise: what it learns, and what truncation does, over time.

    python -m experiments.associative_memory --num_inputs=2
    python -m experiments.associative_memory --num_inputs=4 --time=10000

The first (the default, 15 s on two CPU cores) ends with p(noise) = alpha = 0.3 in the full
memory and 0.04 in its rank-one truncation at t = 1,000. The second shows the spectral crossing
at t = 233, after which the noise is the largest component and truncation must drop the top.
"""

import dataclasses
import math
from collections.abc import Mapping

import jax
import numpy as np
from absl import flags
from matplotlib.figure import Figure

from experiments.run import program, style
from experiments.run.directory import RunDirectory, open_run
from experiments.run.program import RunFailedError, UserError, user_errors
from experiments.run.progress import Progress
from experiments.run.style import COLOURS, CYCLE
from experiments.run.trajectory import Trajectory
from theory import memory_flow
from toy import memory
from training import loop as training
from training import optimizer
from training.checkpoint import CheckpointError, Store
from training.loop import Measure, Measurement, NonFiniteError, Trainer
from truncation import intervention
from truncation.intervention import Intervention


def define_flags() -> None:
    """Typed flags with bounds and one-line help."""
    flags.DEFINE_integer("num_inputs", 2, "N, inputs to remember.", lower_bound=2, upper_bound=4096)
    flags.DEFINE_float("alpha", 0.3, "Probability of noise.", lower_bound=0.0, upper_bound=1.0)
    flags.DEFINE_integer("d_model", 0, "Width of random embeddings; 0 means orthonormal.")
    flags.DEFINE_integer("batch_size", 0, "Samples per step; 0 means the exact population loss.")
    flags.DEFINE_float("time", 1000.0, "Gradient-flow time at the end.", lower_bound=1e-6)
    flags.DEFINE_float("step_size", 0.05, "Learning rate: flow time per step.", lower_bound=1e-6)
    flags.DEFINE_integer("seed", 0, "First seed.", lower_bound=0, upper_bound=2**31)
    flags.DEFINE_integer("num_seeds", 1, "Seeds trained side by side.", lower_bound=1)
    flags.DEFINE_list(
        "interventions",
        [],
        "Cuts of 0.fc_in; empty means its top N - 1 values, and all but the top.",
    )
    program.define_output_flags("associative_memory")


@dataclasses.dataclass(frozen=True)
class MemoryConfig:
    """Every flag of this program, under the same name."""

    num_inputs: int
    alpha: float
    d_model: int
    batch_size: int
    time: float
    step_size: float
    seed: int
    num_seeds: int
    interventions: tuple[str, ...]


def main() -> None:
    """Flags in, run directory out."""
    config = program.config_from_flags(MemoryConfig)
    with user_errors():
        problem = memory.Memory(
            config.num_inputs, config.alpha, d_model=config.d_model, batch_size=config.batch_size
        )
        texts = config.interventions or default_interventions(config.num_inputs)
        cuts = tuple(intervention.parse(text) for text in texts)
        for cut in cuts:
            intervention.resolve(cut, memory.MATRICES)
    directory = open_run(flags.FLAGS.out, config, overwrite=flags.FLAGS.overwrite)
    summary = run(config, problem, cuts, directory)
    for name in ("full", *map(str, cuts)):
        print(
            f"{name:18s} p(correct) {summary[f'{name}/p_correct']:.4f}  "
            f"p(noise) {summary[f'{name}/p_noise']:.4f}"
        )
    if problem.embeddings == "orthonormal":
        print(f"largest |measured - predicted logit|: {summary['largest_logit_error']:.4f}")
    print(f"figures: {directory.path / 'figures'}")


def run(
    config: MemoryConfig,
    problem: memory.Memory,
    cuts: tuple[Intervention, ...],
    directory: RunDirectory,
) -> dict[str, float]:
    """Train, measure, compare with the exact solution, draw."""
    num_steps = max(1, round(config.time / config.step_size))
    store = Store(directory.checkpoints)
    done = store.steps()[-1] if store.steps() else 0
    trajectory = Trajectory(directory.read_arrays() if store.steps() else None)
    trajectory.cut(done)
    directory.rewrite_metrics(trajectory.lines())
    seeds = range(config.seed, config.seed + config.num_seeds)
    descent = optimizer.OptimizerConfig(
        learning_rate=config.step_size, momentum=0.0, weight_decay=0.0
    )
    trainer = Trainer(problem, optimizer.build(descent), tuple(seeds))
    measurement = Measurement("memory", measure(cuts), twelve_per_decade(num_steps))
    saves = training.log_spaced(num_steps, every=num_steps, first=1024)
    progress = Progress(num_steps, start=done)
    try:
        for record in training.run(
            trainer, [measurement], num_steps=num_steps, checkpoint_steps=saves, store=store
        ):
            trajectory.add(record)
            directory.append_metrics(trajectory.line(record.step))
            directory.write_arrays(trajectory.arrays())
            if found := record.measured.get("memory"):
                progress.update(record.step, p_noise=float(np.mean(found["full/p_noise"])))
    except NonFiniteError as error:
        raise RunFailedError(f"{error}; a smaller --step_size may help") from error
    except CheckpointError as error:
        raise UserError(f"--out={directory.path}: {error}; --overwrite begins again") from error
    finally:
        progress.close()
        store.wait()
    arrays = trajectory.arrays()
    summary = summarise(config, problem, arrays)
    directory.save_figure(draw(config, cuts, arrays), "memory")
    directory.finish(summary)
    return summary


def measure(cuts: tuple[Intervention, ...]) -> Measure:
    """Outputs of the full memory and of every cut, the logits, and the spectrum."""

    def of(params: memory.Weights, frozen: memory.Weights, _: jax.Array) -> Mapping[str, jax.Array]:
        weights = {**frozen, **params}
        found = {f"full/{k}": v for k, v in memory.measure_outputs(weights).items()}
        for cut in cuts:
            edited = intervention.apply(weights, cut, memory.MATRICES)
            found |= {f"{cut}/{k}": v for k, v in memory.measure_outputs(edited).items()}
        return found | {f"logits/{k}": v for k, v in memory.measure_logits(weights).items()}

    return of


def default_interventions(num_inputs: int) -> tuple[str, ...]:
    """Keep the N - 1 largest of N singular values; drop the largest one.

    Both cut at the edge of the (N - 1)-fold signal value: the first keeps the signal while
    the noise is smaller, the second once the noise is larger.
    """
    upward = [math.ceil(k / num_inputs * 1e5) / 1e5 for k in (num_inputs - 1, 1)]
    return (f"0.fc_in@{upward[0]:g}", f"0.fc_in@-{upward[1]:g}")


def twelve_per_decade(num_steps: int) -> frozenset[int]:
    """Steps evenly spaced in log time, and step 0."""
    points = 10 ** (np.arange(0, 12 * math.log10(num_steps) + 1) / 12)
    return frozenset({0, num_steps, *(round(p) for p in points if round(p) <= num_steps)})


def summarise(
    config: MemoryConfig, problem: memory.Memory, arrays: dict[str, np.ndarray]
) -> dict[str, float]:
    """Final figures, and the largest distance from the exact solution."""
    summary = {
        name.removeprefix("memory/"): float(np.mean(values[-1]))
        for name, values in arrays.items()
        if name.startswith("memory/") and values.ndim == 2
    }
    summary["time"] = float(arrays["memory/steps"][-1] * config.step_size)
    if problem.embeddings == "orthonormal":
        predicted = predict(config, arrays["memory/steps"])
        summary["largest_logit_error"] = max(
            float(np.max(np.abs(arrays[f"memory/logits/{name}"].mean(axis=1) - values)))
            for name, values in predicted._asdict().items()
        )
    return summary


def predict(config: MemoryConfig, steps: np.ndarray) -> memory_flow.Logits:
    """The exact logits of the flow at these steps."""
    return memory_flow.logits(config.num_inputs, config.alpha, steps * config.step_size)


def draw(
    config: MemoryConfig, cuts: tuple[Intervention, ...], arrays: dict[str, np.ndarray]
) -> Figure:
    """Logits, singular values and p(noise) against time: points measured, lines predicted."""
    canvas, ((left, middle, right),) = style.figure(1, 3, height=2.9)
    later = arrays["memory/steps"] > 0
    steps = arrays["memory/steps"][later]
    times = steps * config.step_size
    predicted = predict(config, steps)
    names = {"correct": CYCLE[0], "other": CYCLE[2], "noise": CYCLE[1]}
    for name, colour in names.items():
        measured = arrays[f"memory/logits/{name}"][later].mean(axis=1)
        left.plot(times, measured, "o", ms=3, color=colour, label=name)
        line = "predicted" if name == "noise" else None
        left.plot(times, getattr(predicted, name), color=COLOURS["theory"], lw=0.7, label=line)
    left.set_ylabel("logit")
    style.panel(left, "a", "logits")

    values = arrays["memory/logits/singular_values"][later].mean(axis=1)
    share = arrays["memory/logits/noise_share"][later].mean(axis=1)
    for index in range(values.shape[1]):
        label = "measured" if index == 0 else None
        middle.plot(times, values[:, index], "o", ms=2, color="0.6", label=label)
    top = np.argmax(share, axis=1)
    at_noise = np.take_along_axis(values, top[:, None], axis=1)
    middle.plot(times, at_noise, "o", ms=3, color=COLOURS["noise"], label="most of the noise class")
    signal = predicted.correct - predicted.other
    noise = np.sqrt(config.num_inputs + 1) * np.abs(predicted.noise)
    middle.plot(times, signal, color=COLOURS["theory"], lw=0.7, label="signal, predicted")
    middle.plot(times, noise, color=COLOURS["theory"], lw=0.7, ls="--", label="noise, predicted")
    middle.set_ylabel("singular value")
    style.panel(middle, "b", "spectrum")

    for colour, name in zip(CYCLE, ("full", *map(str, cuts)), strict=False):
        style.band(right, times, arrays[f"memory/{name}/p_noise"][later], label=name, color=colour)
    right.axhline(config.alpha, color="0.7", lw=0.8, zorder=0)
    right.set_ylabel("p(noise)")
    right.set_yscale("log")
    style.panel(right, "c", "truncated")
    for axes in (left, middle, right):
        axes.set_xscale("log")
        axes.set_xlabel("time (step size x steps)")
        style.legend_below(axes, 2 if axes is left else 1)
    return canvas


if __name__ == "__main__":
    define_flags()
    program.run_flags(main)
