"""The truncation of a run: measure every cut at every checkpoint, look inside, tell."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from truncated_weights.experiments.run import ram as memory
from truncated_weights.experiments.run import table
from truncated_weights.experiments.run.directory import RunDirectory, settings_of
from truncated_weights.experiments.run.inputs import recall_moments, recall_setup
from truncated_weights.experiments.run.inputs.recall_setup import Setup
from truncated_weights.experiments.run.parts import Part, measured
from truncated_weights.experiments.run.program import UserError, user_errors
from truncated_weights.experiments.run.progress import stage
from truncated_weights.experiments.run.study import Input, Memory, Study
from truncated_weights.experiments.truncate import figures, inside
from truncated_weights.experiments.truncate.settings import Truncate
from truncated_weights.toy import transformer
from truncated_weights.toy.probes import records as probes
from truncated_weights.toy.settings import NoisyRecall
from truncated_weights.training import reductions
from truncated_weights.training.checkpoint import Store
from truncated_weights.training.records import (
    FIRST_BAD,
    Records,
    counted,
    labelled,
    name,
    of_rows,
    rows_of,
    summary,
)
from truncated_weights.training.trainer import Measuring
from truncated_weights.truncation import editing, notation
from truncated_weights.truncation.finite import NotFiniteError
from truncated_weights.truncation.notation import Intervention


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the settings ask for, checked against the run."""

    config: Truncate
    setup: Setup
    steps: tuple[int, ...]
    chosen: tuple[Intervention, ...]
    curves: tuple[Intervention, ...]


def prepare(config: Truncate) -> Plan:
    """Checkpoints, interventions and curves asked for; UserError names what cannot be."""
    setup = recall_setup.read_setup(config.run)
    return Plan(config, setup, checkpoints(config), *_interventions(config, setup))


def checkpoints(config: Truncate) -> tuple[int, ...]:
    """The steps asked for, or the last; UserError where the run has no such checkpoint."""
    available = Store(Path(config.run) / "checkpoints").steps()
    if not available:
        raise UserError(f"--run={config.run} has no checkpoint")
    for step in config.steps:
        if step not in available:
            raise UserError(f"--steps: {step}; checkpoints are {' '.join(map(str, available))}")
    return tuple(sorted(set(config.steps))) or (available[-1],)


def _interventions(
    config: Truncate, setup: Setup
) -> tuple[tuple[Intervention, ...], tuple[Intervention, ...]]:
    """Those asked for, and those of the curves; one line says what is wrong with either."""
    matrices = transformer.matrices(setup.model)
    with user_errors():
        chosen = tuple(map(notation.parse, config.interventions)) or setup.interventions
        curves = tuple(
            notation.parse(f"{matrix}@{sign}{rho}")
            for matrix in config.curves
            for sign in ("", "-")
            for rho in config.rhos
        )
        for cut in (*chosen, *curves):
            editing.resolve(cut, matrices)
    return chosen, curves


def measure(plan: Plan, directory: RunDirectory) -> Records:
    """The full model and every intervention at every checkpoint, and what the chosen ones removed.

    models: every metric [step, seed, set, model], alpha as an attribute. train: which seeds were
    lost by then. parts, components, flips, factors, notes: tables, of the last checkpoint.
    """
    config, setup = plan.config, recall_setup.on_one_device(plan.setup)
    trainer = setup.trainer()
    wanted = list(dict.fromkeys((*plan.chosen, *plan.curves)))
    inside_one = [one for one in wanted if one not in recall_moments.measured(wanted)]
    run = trainer.measure(probes.measure_models(inside_one, batch_size=config.num_sequences))
    alone = trainer.measure(probes.measure_models([], batch_size=config.num_sequences))
    parts = [
        Part(f"step{step}", functools.partial(at, plan, step, run, alone, trainer.seeds))
        for step in plan.steps
    ]
    found = [records for _, records in measured(directory, parts, label="checkpoint")]
    models, train = (xr.concat([r[block] for r in found], "step") for block in ("models", "train"))
    models.attrs["alpha"] = setup.config.alpha
    stage("looking inside")
    details = inside.look(
        config.run, plan.setup, plan.steps[-1], plan.chosen, sequences=config.num_sequences
    )
    for about, rows in details.items():
        directory.write_csv(f"{about}.csv", rows)
        directory.write_jsonl(f"{about}.jsonl", rows)
    tables = {about: of_rows(rows) for about, rows in details.items()}
    records = Records({"models": models, "train": train, **tables})
    directory.rewrite_metrics(
        [{"step": step, **counted(records), **means(records, step)} for step in plan.steps]
    )
    return records


def at(plan: Plan, step: int, run: Measuring, alone: Measuring, seeds: Any) -> Records:
    """One checkpoint, as blocks of one step.

    Weights that are cut by what they do to data are measured as full models of their own.
    """
    state = recall_setup.restore(plan.config.run, step)[2]
    leading = {"step": [step], "seed": np.asarray(seeds)}
    values = {key: np.asarray(value)[None] for key, value in jax.device_get(run(state)).items()}
    cuts = recall_moments.measured((*plan.chosen, *plan.curves))
    for cut, edited in recall_moments.edited(
        plan.setup, state, cuts, sequences=plan.config.num_sequences
    ):
        for key, value in jax.device_get(alone(edited)).items():
            if ("model", "full") in key.at:
                at = {**dict(key.at), "model": str(cut)}
                values[name(key.variable, *key.dims, **at)] = np.asarray(value)[None]
    lost = {name(FIRST_BAD): np.asarray(state.first_bad)[None]}
    return Records({"models": labelled(values, leading), "train": labelled(lost, leading)})


def means(records: Records, step: int) -> dict[str, float]:
    """The figures of a checkpoint, flat, of the seeds that were not lost."""
    # Sorted, because records read back have their names in another order.
    return dict(sorted(summary(records.surviving().models.sel(step=step)).items()))


def summarise(plan: Plan, records: Records) -> dict[str, float]:
    """The figures of the last checkpoint."""
    return means(records, plan.steps[-1])


def tell(plan: Plan, records: Records, found: Mapping[str, Any]) -> None:
    """Print the figures that answer the question; NotFiniteError where the full model has none."""
    clean = records.models.sel(set="clean").isel(step=-1)
    said = {
        row["intervention"]: f"{row['top_tokens'][0]} ({row['top_probabilities'][0]:.2f})"
        for row in rows_of(records.parts)
        if row["part"] == "removed" and row["top_tokens"]
    }
    shown = {"p(correct)": "p_correct", "p(noise)": "p_noise", "accuracy": "accuracy"}
    figures_of = {
        model: {
            title: reductions.mean(clean[metric].sel(model=model))
            for title, metric in shown.items()
        }
        for model in ("full", *map(str, plan.chosen))
    }
    rows = [
        {"clean sequences": model}
        | {title: table.measured(mean) for title, mean in means.items()}
        | {"removed part alone says": said.get(model, "")}
        for model, means in figures_of.items()
    ]
    print(table.text(rows))
    gone = [
        model for model, means in figures_of.items() if not all(m.seeds for m in means.values())
    ]
    if "full" in gone:
        raise NotFiniteError("the full model left the finite numbers; no cut can be compared")
    for model in gone:
        print(f"{model} left the finite numbers and has no figures")
    correct, noise = (
        {model: float(means[title].value) for model, means in figures_of.items()}
        for title in ("p(correct)", "p(noise)")
    )
    best = max((model for model in correct if model not in gone), key=correct.__getitem__)
    print(
        f"{best} answers best: p(correct) {correct[best]:.3f} and p(noise) {noise[best]:.3f}, "
        f"where the full model has {correct['full']:.3f} and {noise['full']:.3f}."
    )
    for saved in rows_of(records.factors):
        if saved["factored"]:
            print(
                f"{saved['intervention']} as factors: {saved['parameters_before']} numbers become "
                f"{saved['parameters_after']}, one pass takes {saved['time_ratio']:.2f} of the time"
            )
    for row in rows_of(records.notes):
        print(f"note: {row['note']}")


def inputs(config: Truncate) -> dict[str, Input]:
    """The run, by its settings and the weights that are cut."""
    return {
        "run": Input(config.run, lambda path: recall_setup.digest(path, checkpoints(config))),
    }


def needs(config: Truncate) -> Memory:
    """Memory of one evaluation of a whole model."""
    model, count = settings_of(config.run, "noisy_recall", NoisyRecall), config.num_sequences
    return Memory(memory.recall_evaluation(model, count, at_once=count), "--num_sequences")


STUDY = Study(
    name="truncate",
    settings=Truncate,
    prepare=prepare,
    measure=measure,
    figures=figures.figures,
    summarise=summarise,
    tell=tell,
    inputs=inputs,
    memory=needs,
)
