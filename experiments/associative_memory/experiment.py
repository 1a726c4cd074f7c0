"""The associative memory itself: train, compare with the exact solution, draw, print."""

import math
from collections.abc import Mapping

import jax
import numpy as np

from experiments.associative_memory import figures
from experiments.associative_memory.settings import Memory
from experiments.run import memory as memory_limit
from experiments.run import table
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.follow import follow
from experiments.run.program import Place, RunFailedError, UserError, user_errors
from theory import frequent_memory, frequent_window
from toy import memory
from training import loop, optimizer, seeds
from training.loop import Measure, Measurement, Trainer
from truncation import editing, notation
from truncation.notation import Intervention

MOST_STEPS = 10**9


def main(config: Memory, place: Place) -> int:
    """Settings in, run directory out; 1 if the step size was too large to follow the flow."""
    with user_errors():
        problem = build(config)
        cuts = tuple(notation.parse(text) for text in cut_names(config))
        for cut in cuts:
            editing.resolve(cut, memory.MATRICES)
    if num_steps(config) > MOST_STEPS:
        raise UserError(
            f"--time={config.time:g} at --step_size={config.step_size:g} is "
            f"{config.time / config.step_size:.3g} steps; at most {MOST_STEPS:g} can be made"
        )
    width = config.d_model or config.num_inputs
    weights = 3.0 * config.num_inputs * (2 * width + config.num_inputs)
    memory_limit.require(
        4 * config.num_seeds * (weights + config.batch_size * config.num_inputs),
        "--num_inputs, --d_model, --batch_size or --num_seeds",
    )
    directory = open_run(place, config)
    summary = run(config, problem, cuts, directory)
    return report(config, problem, summary, directory)


def redraw(out: str) -> None:
    """Draw the figures of a finished run again, from its arrays alone."""
    directory, settings = open_finished(out, "associative_memory", Memory)
    for name, figure in figures.draw(settings, cut_names(settings), directory.read_arrays()):
        print(directory.save_figure(figure, name))


def run(
    config: Memory,
    problem: memory.Memory,
    cuts: tuple[Intervention, ...],
    directory: RunDirectory,
) -> dict[str, float]:
    """Train, measure, compare with the exact solution, draw."""
    numbers = range(config.seed, config.seed + config.num_seeds)
    steps = num_steps(config)
    with user_errors():
        descent = optimizer.OptimizerConfig(
            learning_rate=config.step_size, momentum=0.0, weight_decay=0.0
        )
    arrays, _ = follow(
        Trainer(problem, optimizer.build(descent), tuple(numbers), num_steps=steps),
        [Measurement("memory", measure(cuts, by_fact=by_fact(problem)), twelve_per_decade(steps))],
        directory,
        checkpoint_steps=loop.log_spaced(steps, every=steps, first=1024),
        show=shown,
    )
    if by_fact(problem):
        arrays["facts/frequencies"] = np.asarray(problem.law(), np.float64)
    directory.write_arrays(arrays)
    summary = summarise(config, problem, arrays)
    for name, figure in figures.draw(config, tuple(map(str, cuts)), arrays):
        directory.save_figure(figure, name)
    directory.finish(summary)
    return summary


def build(config: Memory) -> memory.Memory:
    """The training problem; ValueError where the settings do not go together."""
    if (config.frequencies == "text") != bool(config.text):
        raise ValueError("--frequencies=text and --text=FILE go together")
    law = memory.frequencies(
        config.frequencies,  # type: ignore[arg-type]
        config.num_inputs,
        exponent=config.exponent,
        text=config.text,
    )
    return memory.Memory(
        config.num_inputs,
        config.alpha,
        d_model=config.d_model,
        batch_size=config.batch_size,
        frequencies=law,
        shared=config.shared,
    )


def num_steps(config: Memory) -> int:
    """Steps of descent to the end of the time."""
    return max(1, round(config.time / config.step_size))


def shown(record: loop.Record) -> dict[str, float]:
    """What the progress line tells of a record."""
    found = record.measured.get("memory")
    return {"p_noise": float(seeds.mean(found["full/p_noise"]))} if found else {}


def report(
    config: Memory, problem: memory.Memory, summary: dict[str, float], directory: RunDirectory
) -> int:
    """Print what was found; 1 where the descent has left the flow that it is to follow."""
    names = ("full", *cut_names(config))
    rows = [
        {
            "weights": name,
            "p(correct)": summary[f"{name}/p_correct"],
            "p(noise)": summary[f"{name}/p_noise"],
        }
        for name in names
    ]
    print(table.text(rows))
    if told := seeds.sentence(summary):
        print(f"{told}.")
    best = min(names[1:], key=lambda name: summary[f"{name}/p_noise"])
    print(
        f"At t = {summary['time']:g} the memory answers with noise {rows[0]['p(noise)']:.3f} of "
        f"the time (alpha = {config.alpha:g}); cut to {best}, {summary[f'{best}/p_noise']:.3f}."
    )
    print(f"figures: {directory.path / 'figures'}")
    if problem.embeddings == "orthonormal":
        name = "margin" if by_fact(problem) else "logit"
        error = summary["largest_margin_error/full" if by_fact(problem) else "largest_logit_error"]
        print(f"largest |measured - predicted {name}|: {error:.4f}")
        if error > 1.0:
            raise RunFailedError(
                f"--step_size={config.step_size:g} is too large: the memory is {error:.1f} away "
                "from the gradient flow"
            )
    return 0


def cut_names(config: Memory) -> tuple[str, ...]:
    """The interventions asked for, or the usual ones."""
    return config.interventions or default_interventions(config.num_inputs + bool(config.shared))


def by_fact(problem: memory.Memory) -> bool:
    """Whether inputs differ or overlap, so that each one is worth a curve of its own."""
    return bool(problem.frequencies or problem.shared)


def measure(cuts: tuple[Intervention, ...], *, by_fact: bool = False) -> Measure:
    """Outputs of the full memory and of every cut, the logits, and the spectrum.

    by_fact: also of every input, in the full memory and in the one without its top component.
    """

    def of(
        _problem: memory.Memory, params: memory.Weights, frozen: memory.Weights, _key: jax.Array
    ) -> Mapping[str, jax.Array]:
        weights = {**frozen, **params}
        found = {f"full/{k}": v for k, v in memory.measure_outputs(weights).items()}
        for cut in cuts:
            edited = editing.apply(weights, cut, memory.MATRICES)
            found |= {f"{cut}/{k}": v for k, v in memory.measure_outputs(edited).items()}
        if by_fact:
            found |= {f"facts/full/{k}": v for k, v in memory.measure_facts(weights).items()}
            ranks = min(weights["fc_in"].shape)
            drop = notation.parse(default_interventions(ranks)[1])
            edited = editing.apply(weights, drop, memory.MATRICES)
            found |= {f"facts/cut/{k}": v for k, v in memory.measure_facts(edited).items()}
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
    config: Memory, problem: memory.Memory, arrays: dict[str, np.ndarray]
) -> dict[str, float]:
    """Final figures, means over seeds, and the largest distance from the exact solution."""
    summary: dict[str, float] = {**seeds.counted(arrays)}
    arrays = seeds.surviving(arrays)
    for name, values in arrays.items():
        if name.startswith("memory/") and values.ndim == 2:
            summary |= seeds.told(name.removeprefix("memory/"), values[-1])
    summary["time"] = float(arrays["memory/steps"][-1] * config.step_size)
    if problem.embeddings == "orthonormal" and by_fact(problem):
        facts = frequent_memory.facts(arrays["facts/frequencies"], config.alpha, config.shared)
        z = frequent_memory.logits(facts, np.array([summary["time"]]))[0]
        for name, values in (("full", z), ("cut", frequent_window.truncated_logits(facts, z))):
            found = arrays[f"memory/facts/{name}/margin"][-1].mean(axis=0)
            error = np.max(np.abs(found - frequent_window.margins(values)))
            summary[f"largest_margin_error/{name}"] = float(error)
            summary[f"accuracy/{name}"] = float(np.mean(found > 0))
    elif problem.embeddings == "orthonormal":
        predicted = figures.predict(config, arrays["memory/steps"])
        summary["largest_logit_error"] = max(
            float(np.max(np.abs(seeds.mean(arrays[f"memory/logits/{name}"]) - values)))
            for name, values in predicted._asdict().items()
        )
    return summary
