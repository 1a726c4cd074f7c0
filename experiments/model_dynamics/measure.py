"""The measurements along training: every checkpoint a part, then intervals around the means."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from truncated_weights import bridge
from truncated_weights.bridge import surgery
from truncated_weights.experiments.model_dynamics import figures
from truncated_weights.experiments.model_dynamics.settings import ModelDynamics
from truncated_weights.experiments.run import model_scores, provenance, stop
from truncated_weights.experiments.run import table as terminal
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.inputs import model_setup
from truncated_weights.experiments.run.inputs.model_setup import Questions
from truncated_weights.experiments.run.parts import Part, measured
from truncated_weights.experiments.run.program import RunFailedError, UserError
from truncated_weights.experiments.run.progress import stage
from truncated_weights.experiments.run.study import Input, Study
from truncated_weights.training.records import Name, Records, cells, labelled, name, spelled
from truncated_weights.truncation import spectrum
from truncated_weights.truncation.finite import NotFiniteError
from truncated_weights.truncation.notation import Intervention, Key

TOLD = ("p_answer", "p_the", "p_distractor", "margin_the", "accuracy")


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What the flags ask for, checked without reading weights."""

    config: ModelDynamics
    architecture: bridge.Config
    directories: Mapping[int, Path]
    questions: Questions
    interventions: tuple[Intervention, ...]
    keys: tuple[Key, ...]


def prepare(config: ModelDynamics) -> Plan:
    """Find the steps, read the task, check every name; UserError says what cannot be."""
    directories = step_directories(config.checkpoints, config.steps)
    first = str(next(iter(directories.values())))
    architecture = model_setup.read_architecture(first, config.ignore_keys)
    for step, path in directories.items():
        if model_setup.read_architecture(str(path), config.ignore_keys) != architecture:
            raise UserError(f"{path}: step {step} has another architecture than {first}")
    last = architecture.num_layers - 1
    chosen = config.interventions or (f"{last}.mlp@0", f"{last}.fc_in@0.1", f"{last}.fc_out@0.1")
    names = config.spectra or tuple(f"{last}.{m}" for m in ("out_proj", "fc_in", "fc_out"))
    words = model_setup.read_tokenizer(config, _with_tokenizer(config, directories))
    return Plan(
        config,
        architecture,
        directories,
        # Nothing is chosen here, so every example is measured, whatever the split.
        model_setup.read_questions(config, architecture, words, config.task, validation=0.5),
        model_setup.parse_interventions(chosen, architecture),
        tuple(_parse_key(name, architecture) for name in names),
    )


def step_directories(checkpoints: str, steps: tuple[int, ...]) -> dict[int, Path]:
    """stepN directories by N in rising order; UserError where one is missing."""
    folder = Path(checkpoints)
    if not folder.is_dir():
        raise UserError(f"--checkpoints={checkpoints} is not a directory")
    named = [(re.fullmatch(r"step([0-9]+)", path.name), path) for path in folder.iterdir()]
    found = {int(match[1]): path for match, path in named if match and path.is_dir()}
    if not found:
        raise UserError(f"--checkpoints={checkpoints} holds no stepN directory")
    wanted = sorted(steps or found)
    if missing := [step for step in wanted if step not in found]:
        raise UserError(f"--checkpoints={checkpoints} has no step{missing[0]}")
    return {step: found[step] for step in wanted}


def measure(plan: Plan, directory: RunDirectory) -> Records:
    """Every step's scores and spectra, and the means with intervals.

    scores: every metric [step, model, example]. means: METRIC, METRIC_low and METRIC_high
    [step, model]. spectra: singular_values [step, matrix, rank].
    """
    directory.rewrite_metrics([])
    for note in plan.questions.notes:
        print(f"{plan.questions.name}: {note}")
    parts = [
        Part(f"step{step}", functools.partial(at_step, plan, step)) for step in plan.directories
    ]
    found = []
    for _, here in measured(directory, parts, label="checkpoint", show=shown):
        directory.append_metrics(line(here))
        found.append(here)
    scores, spectra = (xr.concat([here[b] for here in found], "step") for b in found[0])
    config = plan.config
    means = model_scores.intervals(scores, seed=config.seed, samples=config.bootstrap)
    rows = model_scores.rows(means, "step", "model")
    directory.write_csv("dynamics.csv", rows)
    directory.write_jsonl("dynamics.jsonl", rows)
    return Records({"scores": scores, "spectra": spectra, "means": means})


def at_step(plan: Plan, step: int) -> Records:
    """The scores and spectra of one checkpoint.

    NaN where a cut leaves the finite numbers; RunFailedError where the model does.
    """
    stage(f"measuring step {step}")
    try:
        checkpoint = model_setup.load_checkpoint(plan.config, str(plan.directories[step]))
        encoded = plan.questions.encoded
        scorer = model_setup.make_scorer(plan.config, checkpoint, encoded)
        indices = np.arange(len(encoded))
        scores = model_scores.named(scorer.full(indices), model="full")
        cut = scorer.evaluate(plan.interventions, indices)
        for place, one in enumerate(plan.interventions):
            own = {metric: values[place] for metric, values in cut.items()}
            scores |= model_scores.named(own, model=one)
        spectra = {
            name("singular_values", "rank", matrix=f"{layer}.{matrix}"): _spectrum(
                checkpoint, (layer, matrix)
            )
            for layer, matrix in plan.keys
        }
    except NotFiniteError as error:
        raise RunFailedError(f"step {step}: {error}; earlier steps are kept") from error
    return Records({"scores": _at(step, scores), "spectra": _at(step, spectra)})


def _at(step: int, values: Mapping[Name, np.ndarray]) -> xr.Dataset:
    return labelled({found: value[None] for found, value in values.items()}, {"step": [step]})


def _spectrum(checkpoint: bridge.Checkpoint, key: Key) -> np.ndarray:
    matrix = surgery.matrices(checkpoint.config)[key].read(checkpoint.params)
    values = np.asarray(_singular_values(matrix))
    if not np.isfinite(values).all():
        raise NotFiniteError(f"singular values of {key[0]}.{key[1]} are not finite")
    return values


_singular_values = jax.jit(spectrum.singular_values)


def shown(found: Records) -> dict[str, float]:
    """What the progress line tells of a step."""
    full = found.scores.sel(model="full")
    return {metric: float(full[metric].mean()) for metric in TOLD[:2]}


def line(found: Records) -> dict[str, Any]:
    """A step's line of metrics.jsonl: means, and each spectrum's largest value and its share."""
    means = found.scores.mean("example", dtype=np.float64, skipna=False)
    squares = found.spectra.singular_values.astype(np.float64) ** 2
    largest = {
        "largest": found.spectra.singular_values.isel(rank=0),
        "largest_share": squares.isel(rank=0) / squares.sum("rank").clip(1e-300),
    }
    told: dict[str, Any] = {"step": found.scores.step.item()}
    for block, figured in (("scores", means), ("spectra", xr.Dataset(largest))):
        told |= {spelled(key, block): value.item() for key, value in cells(figured, "step")}
    return told


def summarise(plan: Plan, records: Records) -> dict[str, Any]:
    """The means at the last step with their intervals, and what went wrong along the steps."""
    steps = records.scores.step.values
    return {
        **{
            spelled(name(metric, task=plan.questions.name, model=row["model"])): value
            for row in model_scores.rows(records.means.isel(step=-1), "model")
            for metric, value in row.items()
            if metric != "model"
        },
        "not_finite": int(records.means.loss.isnull().sum()),
        "steps": len(steps),
        "last_step": int(steps[-1]),
        "identical_steps": " ".join(map(str, identical(records))),
    }


def identical(records: Records) -> list[int]:
    """Steps whose every figure equals that of the step before: probably the same file."""
    steps = records.scores.step.values.tolist()
    blocks = [records[block].drop_vars("step") for block in ("scores", "spectra")]
    return [
        step
        for i, step in enumerate(steps)
        if i and all(block.isel(step=i).equals(block.isel(step=i - 1)) for block in blocks)
    ]


def tell(plan: Plan, records: Records, summary: Mapping[str, Any]) -> None:
    """Print the figures that answer the question."""
    examples = len(plan.questions.encoded)
    last, step = records.means.isel(step=-1), summary["last_step"]
    print(f"{plan.questions.name}, {examples} examples, step {step}")
    rows = []
    for row in model_scores.rows(last, "model"):
        shown = {"": row["model"]}
        for metric in TOLD:
            if metric in row:
                mean, low, high = (row[f"{metric}{end}"] for end in ("", "_low", "_high"))
                shown[metric] = "" if mean is None else f"{mean:.3f} [{low:.3f}, {high:.3f}]"
        rows.append(shown)
    print(terminal.text(rows))
    full = last.sel(model="full")
    print(
        f"At step {step} the full model gives the answer {float(full.p_answer):.3f} and "
        f'" the" {float(full.p_the):.3f}, means over {examples} examples with 95 % intervals above.'
    )
    if summary["identical_steps"]:
        print(
            f"  note: identical to the step before in every figure: {summary['identical_steps']}; "
            "probably the same weights under two names"
        )
    if summary["not_finite"]:
        print(f"  note: {summary['not_finite']} cuts left the finite numbers and have no figures")


def inputs(config: ModelDynamics) -> dict[str, Input]:
    """The weights of every step, the task's files and --tokenizer."""
    steps = {
        f"step{step}": Input(str(path), _of_weights)
        for step, path in step_directories(config.checkpoints, config.steps).items()
    }
    found = model_setup.inputs(config, config.task)
    return {"checkpoints": Input(config.checkpoints, None), **found, **steps}


def _of_weights(path: str) -> str:
    stage(f"reading the weights in {path}")
    stop.check()
    return provenance.of_files(path)


def _parse_key(text: str, architecture: bridge.Config) -> Key:
    layer, dot, name = text.partition(".")
    key = (int(layer) if layer.isdecimal() and layer.isascii() else -1, name)
    if not dot or key not in surgery.matrices(architecture):
        raise UserError(
            f"--spectra names {text!r}; expected LAYER.MATRIX of this model, as 0.fc_in"
        )
    return key


def _with_tokenizer(config: ModelDynamics, directories: Mapping[int, Path]) -> str:
    """The first step directory that has a tokenizer, or the directory that holds the steps."""
    for path in (*directories.values(), Path(config.checkpoints)):
        if any((path / name).is_file() for name in ("tokenizer.json", "20B_tokenizer.json")):
            return str(path)
    return config.checkpoints


STUDY = Study(
    name="model_dynamics",
    settings=ModelDynamics,
    prepare=prepare,
    measure=measure,
    figures=figures.figures,
    summarise=summarise,
    tell=tell,
    inputs=inputs,
)
