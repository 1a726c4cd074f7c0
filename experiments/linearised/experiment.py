"""The comparison itself: train every variant, predict the noise, compare, draw."""

import functools
from collections.abc import Mapping

import numpy as np

from experiments.linearised import figures
from experiments.linearised.settings import Linearised
from experiments.run import memory as memory_limit
from experiments.run import stop, table
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.program import Place, RunFailedError, user_errors
from experiments.run.progress import Progress
from theory import lazy
from toy import language, linearised, recall, transformer
from toy.linearised import LinearisedProblem
from toy.recall_problem import RecallProblem
from training import loop, optimizer, seeds
from training.loop import Measurement, NonFiniteError, Trainer

# Two curves have parted where they differ by more than this.
PARTED = 0.1


def main(config: Linearised, place: Place) -> None:
    """Settings in, run directory out."""
    sequences = max(config.batch_size, config.eval_batch)
    width = max(config.widths)
    # Streams, hidden layers and attention of every position, twice over for what is linear.
    activations = 2.0 * sequences * config.length * (16 * width + 2 * config.length)
    weights = 8.0 * (24 * width**2 + 2 * width * (config.num_tokens + config.length))
    memory_limit.require(
        4 * config.num_seeds * (activations + weights) + 16.0 * config.num_tokens**2,
        "--widths, --length, --batch_size, --eval_batch, --num_tokens or --num_seeds",
    )
    with user_errors():
        task = build_task(config)
    directory = open_run(place, config)
    report(config, run(config, task, directory), directory)


def redraw(out: str) -> None:
    """Draw the figures of a finished run again, from its arrays alone."""
    directory, config = open_finished(out, "linearised", Linearised)
    for name, figure in figures.draw(config, directory.read_arrays()):
        print(directory.save_figure(figure, name))


def run(config: Linearised, task: recall.Task, directory: RunDirectory) -> dict[str, float]:
    """Train what an interrupted run has not kept; predict, compare, draw.

    RunFailedError, with everything written but a summary, where no run has a seed left.
    """
    runs = [
        (width, rate, variant)
        for width in config.widths
        for rate in config.learning_rates
        for variant in config.variants
    ]
    arrays: dict[str, np.ndarray] = {}
    progress = Progress(len(runs), label="run")
    directory.rewrite_metrics([])
    for index, (width, rate, variant) in enumerate(runs):
        stop.check()
        name = run_name(width, rate, variant)
        kept = directory.kept(name.replace("/", "_").replace(":", "-"))
        found = kept[0] if kept else train(config, task, width, rate, variant)
        if kept is None:
            directory.keep(name.replace("/", "_").replace(":", "-"), found)
        arrays |= {f"{name}/{key}": value for key, value in found.items()}
        last = {key: float(seeds.mean(found[key][-1])) for key in ("p_noise", "p_correct")}
        if gone := int(seeds.lost(found).sum()):
            last["seeds_lost"] = gone
        directory.append_metrics({"step": index + 1, **{f"{name}/{k}": v for k, v in last.items()}})
        progress.update(index + 1, **last)
    progress.close()
    for width in config.widths:
        for rate in config.learning_rates:
            curves = predict(config, task, width, rate)
            arrays[f"{run_name(width, rate, 'predicted')}/p_noise"] = curves.noise
            arrays[f"{run_name(width, rate, 'predicted')}/p_correct"] = curves.correct
    directory.write_arrays(arrays)
    for name, figure in figures.draw(config, arrays):
        directory.save_figure(figure, name)
    summary = summarise(config, arrays)
    if not any(summary[f"{run_name(*one)}/seeds"] for one in runs):
        raise RunFailedError(
            f"all seeds of all {len(runs)} runs left the finite numbers; lower --learning_rates"
        )
    directory.finish(summary)
    return summary


def build_task(config: Linearised) -> recall.Task:
    """Noisy recall over a Zipf language, one trigger."""
    return recall.make_task(
        language.zipf(config.num_tokens), alpha=config.alpha, length=config.length
    )


def linear_matrices(model: transformer.TransformerConfig, variant: str) -> tuple[str, ...]:
    """LAYER.MATRIX of what a variant makes linear."""
    known = linearised.matrices(model)
    kind, _, part = variant.partition(":")
    if kind in ("full", "linearised"):
        return known if kind == "linearised" else ()
    inside = linearised.PARTS[part]
    return tuple(name for name in known if (name in inside) == (kind == "linear"))


def train(
    config: Linearised, task: recall.Task, width: int, rate: float, variant: str
) -> dict[str, np.ndarray]:
    """Steps, and p_noise, p_correct, accuracy and loss [records, seeds] on clean sequences.

    NaN where a seed had left the finite numbers; first_bad says at which step.
    """
    model = transformer.TransformerConfig(task.vocab_size, config.length, d_model=width)
    problem = LinearisedProblem(
        RecallProblem(task, model, config.batch_size), linear_matrices(model, variant)
    )
    # Weight decay of zero leaves the optimiser; the rate is traced, so that all rates of a width
    # and variant are one program.
    descent = optimizer.OptimizerConfig(momentum=config.momentum, weight_decay=0.0)
    numbers = tuple(range(config.seed, config.seed + config.num_seeds))
    values = {"learning_rate": np.full(len(numbers), rate, np.float32)}
    steps = loop.log_spaced(config.steps, every=config.eval_every)
    steps |= frozenset(range(min(config.every_step_until, config.steps) + 1))
    measurement = Measurement(
        "model", linearised.measure(problem, batch_size=config.eval_batch), steps
    )
    found: dict[str, list[np.ndarray]] = {"steps": []}

    def report(record: loop.Record) -> None:
        found["steps"].append(np.asarray(record.step))
        for key, value in record.measured["model"].items():
            found.setdefault(key, []).append(np.asarray(value))

    trainer = Trainer(
        problem,
        functools.partial(optimizer.build, descent),
        numbers,
        num_steps=config.steps,
        values=values,
    )
    try:
        end = loop.run(trainer, [measurement], report=report, should_stop=stop.asked)
        first_bad = np.asarray(end.state.first_bad)
        if end.stopped:
            stop.check()
    except NonFiniteError as error:
        # Nothing is measured after the last seed is lost; the records are there all the same.
        first_bad = error.first_bad
        for step in sorted(steps - set(map(int, found["steps"]))):
            for key, rows in found.items():
                rows.append(np.asarray(step) if key == "steps" else np.full_like(rows[0], np.nan))
    arrays = {key: np.array(rows) for key, rows in found.items()}
    return arrays | {seeds.FIRST_BAD: first_bad}


def predict(config: Linearised, task: recall.Task, width: int, rate: float) -> lazy.Curves:
    """The noise that the kernel at the start learns, in the limit of wide networks."""
    return lazy.trigger_curves(
        width=width,
        hidden=4 * width,
        num_outputs=task.outputs.size,
        num_classes=task.vocab_size,
        alpha=config.alpha,
        learning_rate=rate,
        momentum=config.momentum,
        steps=config.steps,
    )


def run_name(width: int, rate: float, variant: str) -> str:
    """How a run is called in arrays and summary."""
    return f"d{width}/rate{rate:g}/{variant}"


def summarise(config: Linearised, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Final figures with standard errors, and where each variant parts from full training.

    RUN/seeds, RUN/seeds_lost: of how many seeds its figures are, and how many were lost;
    seeds_lost: in all runs together.
    KEY/parted: first record at which a seed's curve is more than PARTED off the full one of the
    same seed, mean over the seeds that part, -1 where none does; KEY/parting: how many do.
    """
    summary: dict[str, float] = {}
    arrays = figures.without_lost(arrays)
    for width in config.widths:
        for rate in config.learning_rates:
            full = run_name(width, rate, "full")
            for variant in config.variants:
                name = run_name(width, rate, variant)
                alive = np.isfinite(arrays[f"{name}/p_noise"][-1])
                summary[f"{name}/seeds"] = int(alive.sum())
                summary[f"{name}/seeds_lost"] = int((~alive).sum())
                for key in ("p_noise", "p_correct"):
                    values = arrays[f"{name}/{key}"]
                    summary |= seeds.told(f"{name}/{key}", values[-1])
                    if "full" in config.variants and variant != "full":
                        gap = np.abs(values - arrays[f"{full}/{key}"]) > PARTED
                        apart = arrays[f"{name}/steps"][np.argmax(gap, axis=0)][gap.any(axis=0)]
                        compared = alive & np.isfinite(arrays[f"{full}/{key}"][-1])
                        never = -1.0 if compared.any() else float("nan")
                        first = float(apart.mean()) if apart.size else never
                        summary[f"{name}/{key}/parting"] = float(apart.size)
                        summary[f"{name}/{key}/parted"] = first
                        if apart.size > 1:
                            error = apart.std(ddof=1) / np.sqrt(apart.size)
                            summary[f"{name}/{key}/parted/sem"] = float(error)
            summary |= _rise(config, arrays, width, rate)
            name = run_name(width, rate, config.variants[0])
            early = arrays[f"{name}/steps"] <= 4
            exact = arrays[f"{run_name(width, rate, 'predicted')}/p_noise"]
            gap = seeds.mean(arrays[f"{name}/p_noise"][early])
            gap = gap - exact[arrays[f"{name}/steps"][early]]
            summary[f"{name}/largest_prediction_error_to_step_4"] = float(np.max(np.abs(gap)))
    lost = [value for name, value in summary.items() if name.endswith("/seeds_lost")]
    return summary | {"seeds_lost": sum(lost)}


def _rise(
    config: Linearised, arrays: Mapping[str, np.ndarray], width: int, rate: float
) -> dict[str, float]:
    """Largest gap to the full p(noise), means over seeds, until that first passes alpha.

    rise/step: the step at which it does; rise/linearised, rise/predicted: the gaps after step 0.
    """
    if "full" not in config.variants:
        return {}
    name = f"d{width}/rate{rate:g}"
    full, steps = seeds.mean(arrays[f"{name}/full/p_noise"]), arrays[f"{name}/full/steps"]
    above = full >= config.alpha
    last = int(np.argmax(above)) + 1 if above.any() else full.size
    found = {f"{name}/rise/step": float(steps[last - 1])}
    curves = {"predicted": arrays[f"{name}/predicted/p_noise"][steps]}
    if "linearised" in config.variants:
        curves["linearised"] = seeds.mean(arrays[f"{name}/linearised/p_noise"])
    for variant, curve in curves.items():
        found[f"{name}/rise/{variant}"] = float(np.max(np.abs(curve - full)[1:last], initial=0.0))
    return found


def report(config: Linearised, summary: Mapping[str, float], directory: RunDirectory) -> None:
    """Print what every run ended with, and when it left full training."""
    rows = []
    for width in config.widths:
        for rate in config.learning_rates:
            for variant in config.variants:
                name = run_name(width, rate, variant)
                rows.append(
                    {
                        "run": name,
                        "seeds": seeds.of_how_many(summary, f"{name}/"),
                        "p(noise)": summary[f"{name}/p_noise"],
                        "p(correct)": summary[f"{name}/p_correct"],
                        "noise parts at": _step(summary.get(f"{name}/p_noise/parted")),
                        "recall parts at": _step(summary.get(f"{name}/p_correct/parted")),
                    }
                )
    print(table.text(rows))
    for width in config.widths:
        for rate in config.learning_rates:
            name = f"d{width}/rate{rate:g}"
            if f"{name}/rise/step" in summary:
                linear = summary.get(f"{name}/rise/linearised")
                told = "" if linear is None else f"by the linear network to {linear:.3f}, "
                print(
                    f"{name}: p(noise) foretold {told}with no network to "
                    f"{summary[f'{name}/rise/predicted']:.3f} until it passes alpha at step "
                    f"{summary[f'{name}/rise/step']:.0f}"
                )
    print(f"figures: {directory.path / 'figures'}")


def _step(parted: float | None) -> str:
    if parted is None or not np.isfinite(parted):
        return ""
    return "never" if parted < 0 else f"{parted:.3g}"
