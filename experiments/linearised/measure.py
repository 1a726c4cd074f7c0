"""The comparison itself: train every variant, predict the noise, compare, tell."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from truncated_weights.experiments.linearised import figures
from truncated_weights.experiments.linearised.figures import comparable, run_name
from truncated_weights.experiments.linearised.settings import Linearised
from truncated_weights.experiments.run import stop, table
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.parts import Part, measured, on_grid
from truncated_weights.experiments.run.program import RunFailedError
from truncated_weights.experiments.run.study import Memory, Study
from truncated_weights.theory import lazy
from truncated_weights.toy import language, linearised, recall, transformer
from truncated_weights.toy.linearised import LinearisedProblem
from truncated_weights.toy.recall_problem import RecallProblem
from truncated_weights.training import loop, optimizer, reductions
from truncated_weights.training.loop import Measurement, NonFiniteError, Trainer
from truncated_weights.training.records import FIRST_BAD, Recorder, Records, of_how_many, told

# Two curves have parted where they differ by more than this.
PARTED = 0.1
METRICS = ("p_noise", "p_correct")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The settings, and the task that every network learns."""

    config: Linearised
    task: recall.Task


def prepare(config: Linearised) -> Plan:
    """Noisy recall over a Zipf language, one trigger; ValueError where it does not fit."""
    law = language.zipf(config.num_tokens)
    return Plan(config, recall.make_task(law, alpha=config.alpha, length=config.length))


def measure(plan: Plan, directory: RunDirectory) -> Records:
    """Train what an interrupted run has not kept; predict.

    models: p_noise, p_correct, accuracy and loss [width, rate, variant, step, seed] on clean
    sequences, first_bad [width, rate, variant, seed]. predicted: p_noise and p_correct
    [width, rate, step] at every step.
    """
    config, found = plan.config, []
    parts = [
        Part(run_name(*run), functools.partial(train, plan, *run))
        for run in itertools.product(config.widths, config.learning_rates, config.variants)
    ]
    directory.rewrite_metrics([])
    for part, records in measured(directory, parts, label="run", show=shown):
        found.append(records.models)
        line = {f"{part.name}/{key}": value for key, value in shown(records).items()}
        directory.append_metrics({"step": len(found), **line})
    points = {"width": config.widths, "rate": config.learning_rates}
    curves = [predict(plan, w, r) for w in config.widths for r in config.learning_rates]
    models = on_grid(found, {**points, "variant": config.variants})
    return Records({"models": models, "predicted": on_grid(curves, points)})


def shown(records: Records) -> dict[str, float]:
    """What the progress line tells of a training."""
    last = records.models.isel(step=-1)
    found = {metric: float(reductions.mean(last[metric]).value) for metric in METRICS}
    gone = int((last[FIRST_BAD] >= 0).sum())
    return found | ({"seeds_lost": gone} if gone else {})


def linear_matrices(model: transformer.TransformerConfig, variant: str) -> tuple[str, ...]:
    """LAYER.MATRIX of what a variant makes linear."""
    known = linearised.matrices(model)
    kind, _, part = variant.partition(":")
    if kind in ("full", "linearised"):
        return known if kind == "linearised" else ()
    inside = linearised.PARTS[part]
    return tuple(name for name in known if (name in inside) == (kind == "linear"))


def train(plan: Plan, width: int, rate: float, variant: str) -> Records:
    """Block `models` [step, seed] of one training.

    NaN where a seed had left the finite numbers; first_bad [seed] says at which step.
    """
    config, task = plan.config, plan.task
    model = transformer.TransformerConfig(task.vocab_size, config.length, d_model=width)
    problem = LinearisedProblem(
        RecallProblem(task, model, config.batch_size), linear_matrices(model, variant)
    )
    # Weight decay of zero leaves the optimiser; the rate is traced, so that all rates of a width
    # and variant are one program.
    descent = optimizer.OptimizerConfig(momentum=config.momentum, weight_decay=0.0)
    trainer = Trainer(
        problem,
        functools.partial(optimizer.build, descent),
        tuple(range(config.seed, config.seed + config.num_seeds)),
        num_steps=config.steps,
        values={"learning_rate": np.full(config.num_seeds, rate, np.float32)},
    )
    steps = loop.log_spaced(config.steps, every=config.eval_every)
    steps |= frozenset(range(min(config.every_step_until, config.steps) + 1))
    measurement = Measurement(
        "models", linearised.measure(problem, batch_size=config.eval_batch), steps
    )
    recorder = Recorder(trainer.seeds)
    try:
        end = loop.run(trainer, [measurement], report=recorder.add, should_stop=stop.asked)
        first_bad = np.asarray(end.state.first_bad)
        if end.stopped:
            stop.check()
    except NonFiniteError as error:
        # Nothing is measured after the last seed is lost; the records are there all the same.
        first_bad = error.first_bad
    found = recorder.records()["models"].reindex(step=sorted(steps))
    return Records({"models": found.assign({FIRST_BAD: ("seed", first_bad)})})


def predict(plan: Plan, width: int, rate: float) -> xr.Dataset:
    """The noise that the kernel at the start learns [step], in the limit of wide networks."""
    config = plan.config
    curves = lazy.trigger_curves(
        width=width,
        hidden=4 * width,
        num_outputs=plan.task.outputs.size,
        num_classes=plan.task.vocab_size,
        alpha=config.alpha,
        learning_rate=rate,
        momentum=config.momentum,
        steps=config.steps,
    )
    found = {"p_noise": ("step", curves.noise), "p_correct": ("step", curves.correct)}
    return xr.Dataset(found, {"step": np.arange(config.steps + 1)})


def summarise(plan: Plan, records: Records) -> dict[str, float]:
    """Final figures with standard errors, and where each variant parts from full training.

    RUN/seeds, RUN/seeds_lost: of how many seeds its figures are, and how many were lost; seeds,
    seeds_lost: in all runs together.
    KEY/parted: first record at which a seed's curve is more than PARTED off the full one of the
    same seed, mean over the seeds that part, -1 where none does; KEY/parting: how many do.
    RunFailedError where no run has a seed left.
    """
    config, models = plan.config, comparable(records)
    summary: dict[str, float] = {}
    kept = lost = 0
    for width, rate in itertools.product(config.widths, config.learning_rates):
        here = models.sel(width=width, rate=rate)
        for variant in config.variants:
            run, one = run_name(width, rate, variant), here.sel(variant=variant)
            alive = _alive(one)
            summary[f"{run}/seeds"] = int(alive.sum())
            summary[f"{run}/seeds_lost"] = int((~alive).sum())
            kept, lost = kept + int(alive.sum()), lost + int((~alive).sum())
            for metric in METRICS:
                summary |= told(f"{run}/{metric}", one[metric].isel(step=-1))
                if "full" in config.variants and variant != "full":
                    full = here.sel(variant="full")
                    summary |= _parting(f"{run}/{metric}", one[metric], full[metric])
        exact = records.predicted.p_noise.sel(width=width, rate=rate)
        summary |= _rise(config, here, exact, run_name(width, rate))
        first = here.p_noise.sel(variant=config.variants[0])
        early = reductions.mean(first.sel(step=first.step <= 4)).value
        gap = np.max(np.abs((early - exact.sel(step=early.step)).values))
        run = run_name(width, rate, config.variants[0])
        summary[f"{run}/largest_prediction_error_to_step_4"] = float(gap)
    if not kept:
        raise RunFailedError(
            f"all seeds of all {lost // config.num_seeds} runs left the finite numbers; lower "
            "--learning_rates"
        )
    return summary | {"seeds": kept, "seeds_lost": lost}


def _alive(models: xr.Dataset) -> xr.DataArray:
    """Whether each seed was not lost [seed]."""
    return models.p_noise.isel(step=-1).notnull()


def _parting(key: str, values: xr.DataArray, full: xr.DataArray) -> dict[str, float]:
    """Where curves [step, seed] part from the full ones."""
    first, error, count = reductions.mean(
        values.step.where(np.abs(values - full) > PARTED).min("step")
    )
    compared = bool((values - full).isel(step=-1).notnull().any())
    never = -1.0 if compared else float("nan")
    found = {f"{key}/parting": float(count), f"{key}/parted": float(first) if count else never}
    return found | ({f"{key}/parted/sem": float(error)} if count > 1 else {})


def _rise(
    config: Linearised, here: xr.Dataset, predicted: xr.DataArray, name: str
) -> dict[str, float]:
    """Largest gap to the full p(noise), means over seeds, until that first passes alpha.

    rise/step: the step at which it does; rise/linearised, rise/predicted: the gaps after step 0.
    """
    if "full" not in config.variants:
        return {}
    means = reductions.mean(here.p_noise).value
    full = means.sel(variant="full")
    above = full.step[full >= config.alpha]
    last = int(above[0] if above.size else full.step[-1])
    found = {f"{name}/rise/step": float(last)}
    rise = full.sel(step=slice(1, last))
    curves = {"predicted": predicted.sel(step=rise.step)}
    if "linearised" in config.variants:
        curves["linearised"] = means.sel(variant="linearised", step=rise.step)
    for variant, curve in curves.items():
        gap = np.max(np.abs((curve - rise).values), initial=0.0)
        found[f"{name}/rise/{variant}"] = float(gap)
    return found


def tell(plan: Plan, records: Records, summary: Mapping[str, Any]) -> None:
    """Print what every run ended with, and when it left full training."""
    config, last = plan.config, comparable(records).isel(step=-1)
    rows = []
    for run in itertools.product(config.widths, config.learning_rates, config.variants):
        name = run_name(*run)
        here = last.sel(dict(zip(("width", "rate", "variant"), run, strict=True)))
        rows.append(
            {
                "run": name,
                "seeds": of_how_many(summary, f"{name}/"),
                "p(noise)": table.measured(reductions.mean(here.p_noise)),
                "p(correct)": table.measured(reductions.mean(here.p_correct)),
                "noise parts at": _step(summary.get(f"{name}/p_noise/parted")),
                "recall parts at": _step(summary.get(f"{name}/p_correct/parted")),
            }
        )
    print(table.text(rows))
    for point in itertools.product(config.widths, config.learning_rates):
        name = run_name(*point)
        if f"{name}/rise/step" in summary:
            linear = summary.get(f"{name}/rise/linearised")
            by = "" if linear is None else f"by the linear network to {linear:.3f}, "
            print(
                f"{name}: p(noise) foretold {by}with no network to "
                f"{summary[f'{name}/rise/predicted']:.3f} until it passes alpha at step "
                f"{summary[f'{name}/rise/step']:.0f}"
            )


def _step(parted: float | None) -> str:
    if parted is None or not np.isfinite(parted):
        return ""
    return "never" if parted < 0 else f"{parted:.3g}"


def needs(config: Linearised) -> Memory:
    """Activations and weights of the widest network, twice over for what is linear."""
    sequences = max(config.batch_size, config.eval_batch)
    width = max(config.widths)
    # Streams, hidden layers and attention of every position.
    activations = 2.0 * sequences * config.length * (16 * width + 2 * config.length)
    weights = 8.0 * (24 * width**2 + 2 * width * (config.num_tokens + config.length))
    return Memory(
        4 * config.num_seeds * (activations + weights) + 16.0 * config.num_tokens**2,
        "--widths, --length, --batch_size, --eval_batch, --num_tokens or --num_seeds",
    )


STUDY = Study(
    name="linearised",
    settings=Linearised,
    prepare=prepare,
    measure=measure,
    figures=figures.figures,
    summarise=summarise,
    tell=tell,
    memory=needs,
)
