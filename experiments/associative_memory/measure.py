"""The associative memory: train, compare with the exact solution, tell."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from truncated_weights.experiments.associative_memory import figures
from truncated_weights.experiments.associative_memory.settings import Memory
from truncated_weights.experiments.run import study, table
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.follow import follow
from truncated_weights.experiments.run.program import RunFailedError
from truncated_weights.experiments.run.study import Study
from truncated_weights.theory import frequent_memory, frequent_window
from truncated_weights.toy import memory
from truncated_weights.training import loop, optimizer, reductions
from truncated_weights.training.loop import Measure, Measurement, Trainer
from truncated_weights.training.records import Name, Records, name, summary
from truncated_weights.truncation import editing, notation
from truncated_weights.truncation.notation import Intervention

MOST_STEPS = 10**9


@dataclasses.dataclass(frozen=True)
class Plan:
    """The training problem, its optimiser and its cuts, checked."""

    config: Memory
    problem: memory.Memory
    descent: optimizer.OptimizerConfig
    cuts: tuple[Intervention, ...]


def prepare(config: Memory) -> Plan:
    """What the settings stand for; ValueError where they do not go together."""
    problem = build(config)
    cuts = tuple(notation.parse(text) for text in cut_names(config))
    for cut in cuts:
        editing.resolve(cut, memory.MATRICES)
    if num_steps(config) > MOST_STEPS:
        raise ValueError(
            f"--time={config.time:g} at --step_size={config.step_size:g} is "
            f"{config.time / config.step_size:.3g} steps; at most {MOST_STEPS:g} can be made"
        )
    descent = optimizer.OptimizerConfig(
        learning_rate=config.step_size, momentum=0.0, weight_decay=0.0
    )
    return Plan(config, problem, descent, cuts)


def measure(plan: Plan, directory: RunDirectory) -> Records:
    """Blocks `memory`, outputs by model; `logits`, mean logits and spectrum; `facts`, by input.

    facts, where inputs differ or overlap: p_correct, p_noise and margin [step, seed, model, fact]
    of the full memory and of the one without its top component (`cut`), with the frequencies.
    """
    config, steps = plan.config, num_steps(plan.config)
    stops = twelve_per_decade(steps)
    measures = {"memory": outputs(plan.cuts), "logits": logits}
    if by_fact(plan.problem):
        measures["facts"] = facts
    records, _ = follow(
        Trainer(
            plan.problem,
            optimizer.build(plan.descent),
            tuple(range(config.seed, config.seed + config.num_seeds)),
            num_steps=steps,
        ),
        [Measurement(block, one, stops) for block, one in measures.items()],
        directory,
        checkpoint_steps=loop.log_spaced(steps, every=steps, first=1024),
        show=shown,
    )
    if by_fact(plan.problem):
        law = ("fact", np.asarray(plan.problem.law(), np.float64))
        records = records.with_block("facts", records.facts.assign_coords(frequency=law))
    return records


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
    return (
        {"p_noise": float(reductions.finite_mean(found[name("p_noise", model="full")]))}
        if found
        else {}
    )


def tell(plan: Plan, records: Records, found: Mapping[str, Any]) -> int:
    """Print what was found; 1 where the descent has left the flow that it is to follow."""
    config, last = plan.config, records.memory.isel(step=-1)
    models = ("full", *map(str, plan.cuts))
    means = {
        model: {
            metric: reductions.mean(last[metric].sel(model=model))
            for metric in ("p_correct", "p_noise")
        }
        for model in models
    }
    rows = [
        {
            "weights": model,
            "p(correct)": table.measured(means[model]["p_correct"]),
            "p(noise)": table.measured(means[model]["p_noise"]),
        }
        for model in models
    ]
    print(table.text(rows))
    noise = {model: float(means[model]["p_noise"].value) for model in models}
    best = min(models[1:], key=lambda model: noise[model])
    print(
        f"At t = {found['time']:g} the memory answers with noise {noise['full']:.3f} of the time "
        f"(alpha = {config.alpha:g}); cut to {best}, {noise[best]:.3f}."
    )
    if plan.problem.embeddings == "orthonormal":
        what = "margin" if by_fact(plan.problem) else "logit"
        error = found["largest_margin_error/full" if what == "margin" else "largest_logit_error"]
        print(f"largest |measured - predicted {what}|: {error:.4f}")
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


def outputs(cuts: tuple[Intervention, ...]) -> Measure:
    """Mean outputs of the full memory and of every cut."""

    def of(
        _problem: memory.Memory, params: memory.Weights, frozen: memory.Weights, _key: jax.Array
    ) -> Mapping[Name, jax.Array]:
        weights = {**frozen, **params}
        models = {"full": weights} | {
            str(cut): editing.apply(weights, cut, memory.MATRICES) for cut in cuts
        }
        return {
            name(metric, model=model): value
            for model, edited in models.items()
            for metric, value in memory.measure_outputs(edited).items()
        }

    return of


def logits(
    _problem: memory.Memory, params: memory.Weights, frozen: memory.Weights, _key: jax.Array
) -> Mapping[Name, jax.Array]:
    """The logits of the theory, and the spectrum of the logit matrix with the noise's share."""
    found = memory.measure_logits({**frozen, **params})
    return {name(k, *("rank",) * value.ndim): value for k, value in found.items()}


def facts(
    _problem: memory.Memory, params: memory.Weights, frozen: memory.Weights, _key: jax.Array
) -> Mapping[Name, jax.Array]:
    """Outputs and margin of every input, in the full memory and without its top component."""
    weights = {**frozen, **params}
    drop = notation.parse(default_interventions(min(weights["fc_in"].shape))[1])
    models = {"full": weights, "cut": editing.apply(weights, drop, memory.MATRICES)}
    return {
        name(metric, "fact", model=model): value
        for model, edited in models.items()
        for metric, value in memory.measure_facts(edited).items()
    }


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


def summarise(plan: Plan, records: Records) -> dict[str, Any]:
    """Final figures, means over seeds, and the largest distance from the exact solution."""
    config, steps = plan.config, records.memory.step.values
    found: dict[str, Any] = {"time": float(steps[-1] * config.step_size)}
    for block in ("memory", "logits"):
        found |= summary(records[block].isel(step=-1), block)
    if plan.problem.embeddings == "orthonormal" and by_fact(plan.problem):
        last = records.facts.margin.isel(step=-1).mean("seed")
        law = frequent_memory.facts(last.frequency.values, config.alpha, config.shared)
        z = frequent_memory.logits(law, np.array([found["time"]]))[0]
        for model, values in (("full", z), ("cut", frequent_window.truncated_logits(law, z))):
            margins = last.sel(model=model).values
            error = np.max(np.abs(margins - frequent_window.margins(values)))
            found[f"largest_margin_error/{model}"] = float(error)
            found[f"accuracy/{model}"] = float(np.mean(margins > 0))
    elif plan.problem.embeddings == "orthonormal":
        measured = records.logits.mean("seed")
        found["largest_logit_error"] = max(
            float(np.max(np.abs(measured[kind].values - values)))
            for kind, values in figures.predict(config, steps)._asdict().items()
        )
    return found


def needs(config: Memory) -> study.Memory:
    """Embeddings, the matrix with its gradient and momentum, and a batch."""
    width = config.d_model or config.num_inputs
    weights = 3.0 * config.num_inputs * (2 * width + config.num_inputs)
    return study.Memory(
        4 * config.num_seeds * (weights + config.batch_size * config.num_inputs),
        "--num_inputs, --d_model, --batch_size or --num_seeds",
    )


STUDY = Study(
    name="associative_memory",
    settings=Memory,
    prepare=prepare,
    measure=measure,
    figures=figures.figures,
    summarise=summarise,
    tell=tell,
    memory=needs,
)
