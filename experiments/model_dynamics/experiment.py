"""The measurements along training themselves: every step, then intervals and pictures."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import bridge
from bridge import surgery
from experiments.model_dynamics import figures
from experiments.model_dynamics.settings import ModelDynamics
from experiments.run import model_setup, provenance, stop
from experiments.run import table as terminal
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.model_setup import Questions
from experiments.run.program import Place, RunFailedError, UserError, user_errors
from experiments.run.progress import Progress, stage
from truncation import spectrum
from truncation.finite import NotFiniteError, or_none
from truncation.notation import Intervention, Key
from truncation.search import statistics

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


def main(config: ModelDynamics, place: Place) -> None:
    """Settings in, run directory out."""
    plan = make_plan(config)
    files = model_setup.task_files((config.task,))
    digests = {f"--task={name}": provenance.of_files(path) for name, path in files.items()}
    with user_errors():
        digests |= model_setup.tokenizer_digest(config)
    for step, path in plan.directories.items():
        stage(f"reading the weights of step {step}")
        stop.check()
        digests[f"step{step}"] = provenance.of_files(path)
    inputs = {"checkpoints": config.checkpoints, "tokenizer": config.tokenizer, **files}
    directory = open_run(place, config, inputs=inputs, digests=digests)
    summary = run(plan, directory)
    report(plan, summary, directory)


def redraw(out: str) -> None:
    """Draw the figures of a finished run again, from its arrays and table."""
    directory, _ = open_finished(out, "model_dynamics", ModelDynamics)
    arrays, rows = directory.read_arrays(), directory.read_rows("dynamics.jsonl")
    steps = arrays.pop("steps")
    models = list(dict.fromkeys(row["model"] for row in rows))
    ends = [f"{name}_low" for name in rows[0]]
    metrics = [name for name in rows[0] if f"{name}_low" in rows[0] and f"{name}_low" in ends]
    intervals = {
        metric: {
            model: np.array(
                [
                    [row[f"{metric}{end}"] for row in rows if row["model"] == model]
                    for end in ("", "_low", "_high")
                ],
                float,
            )
            for model in models
        }
        for metric in metrics
    }
    for name, figure in draw(steps, intervals, models, arrays):
        print(directory.save_figure(figure, name))


def draw(
    steps: np.ndarray,
    intervals: Mapping[str, Mapping[str, np.ndarray]],
    models: Sequence[str],
    arrays: Mapping[str, np.ndarray],
) -> Iterator[tuple[str, Figure]]:
    """Every figure with its name; the spectra are arrays named spectrum/LAYER.MATRIX."""
    spectra = {
        name.removeprefix("spectrum/"): values
        for name, values in arrays.items()
        if name.startswith("spectrum/")
    }
    yield "along_training", figures.along_training(steps, intervals, models)
    yield "spectra", figures.spectra(steps, spectra)


def make_plan(config: ModelDynamics) -> Plan:
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


def run(plan: Plan, directory: RunDirectory) -> dict[str, Any]:
    """Measure every step, draw; returns what summary.json holds."""
    directory.rewrite_metrics([])
    for note in plan.questions.notes:
        print(f"{plan.questions.name}: {note}")
    progress = Progress(len(plan.directories), label="checkpoint")
    measured: dict[int, dict[str, np.ndarray]] = {}
    for count, (step, path) in enumerate(plan.directories.items()):
        stop.check()
        # One file per step: what an interrupted run continues from.
        kept = directory.kept(f"step{step}")
        found = kept[0] if kept else {}
        if not found:
            stage(f"measuring step {step}")
            try:
                found = measure(plan, path)
            except NotFiniteError as error:
                raise RunFailedError(f"step {step}: {error}; earlier steps are kept") from error
            directory.keep(f"step{step}", found)
        measured[step] = found
        directory.append_metrics({"step": step, **means(found)})
        told = {label: float(found[f"full/{label}"].mean()) for label in TOLD[:2]}
        progress.update(count + 1, **told)
    progress.close()
    return conclude(plan, directory, measured)


def measure(plan: Plan, path: Path) -> dict[str, np.ndarray]:
    """MODEL/METRIC [examples] and spectrum/LAYER.MATRIX [r] of one checkpoint.

    NaN where a cut leaves the finite numbers; NotFiniteError where the model does.
    """
    checkpoint = model_setup.load_checkpoint(plan.config, str(path))
    encoded = plan.questions.encoded
    scorer = model_setup.make_scorer(plan.config, checkpoint, encoded)
    indices = np.arange(len(encoded))
    full = scorer.full(indices)
    found = {f"full/{name}": values[:, 0] for name, values in full.items()}
    cut = scorer.evaluate(plan.interventions, indices)
    for place, one in enumerate(plan.interventions):
        found |= {f"{one}/{name}": values[place, :, 0] for name, values in cut.items()}
    addresses = surgery.matrices(checkpoint.config)
    for key in plan.keys:
        values = np.asarray(_singular_values(addresses[key].read(checkpoint.params)))
        if not np.isfinite(values).all():
            raise NotFiniteError(f"singular values of {key[0]}.{key[1]} are not finite")
        found[f"spectrum/{key[0]}.{key[1]}"] = values
    return found


_singular_values = jax.jit(spectrum.singular_values)


def means(found: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Means over examples, and of each spectrum the largest value and its share."""
    line = {}
    for name, values in found.items():
        if not name.startswith("spectrum/"):
            line[name] = float(values.mean(dtype=np.float64))
            continue
        squares = np.square(values, dtype=np.float64)
        line[f"{name}/largest"] = float(values[0])
        line[f"{name}/largest_share"] = float(squares[0] / max(squares.sum(), 1e-300))
    return line


def conclude(
    plan: Plan, directory: RunDirectory, measured: Mapping[int, Mapping[str, np.ndarray]]
) -> dict[str, Any]:
    """Stack the steps, put intervals around the means, write arrays, table, figures, summary."""
    steps = np.array(list(measured))
    arrays = {
        name: np.stack([measured[step][name] for step in measured])
        for name in next(iter(measured.values()))
    }
    models = ("full", *map(str, plan.interventions))
    metrics = [name.split("/", 1)[1] for name in arrays if name.startswith("full/")]
    weights = np.ones((len(plan.questions.encoded), 1), np.float32)
    intervals: dict[str, dict[str, np.ndarray]] = {metric: {} for metric in metrics}
    for metric in metrics:
        for model in models:
            mean, low, high = statistics.paired_bootstrap(
                arrays[f"{model}/{metric}"][..., None],
                weights,
                seed=plan.config.seed,
                samples=plan.config.bootstrap,
            )
            intervals[metric][model] = np.stack([mean, low, high])
    directory.write_arrays({"steps": steps, **arrays})
    rows = [
        {"step": int(step), "model": model}
        | {
            f"{metric}{end}": or_none(intervals[metric][model][row, place])
            for metric in metrics
            for row, end in enumerate(("", "_low", "_high"))
        }
        for place, step in enumerate(steps)
        for model in models
    ]
    directory.write_csv("dynamics.csv", rows)
    directory.write_jsonl("dynamics.jsonl", rows)
    summary: dict[str, Any] = {
        f"{plan.questions.name}/{row['model']}/{metric}": row[metric]
        for row in rows[-len(models) :]
        for metric in row
        if metric not in ("step", "model")
    }
    summary["not_finite"] = sum(row["loss"] is None for row in rows)
    summary["steps"] = len(steps)
    summary["last_step"] = int(steps[-1])
    summary["identical_steps"] = " ".join(map(str, identical(steps, arrays)))
    for name, figure in draw(steps, intervals, models, arrays):
        directory.save_figure(figure, name)
    directory.finish(summary)
    return summary


def identical(steps: np.ndarray, arrays: Mapping[str, np.ndarray]) -> list[int]:
    """Steps whose every figure equals that of the step before: probably the same file."""
    return [
        int(steps[i])
        for i in range(1, len(steps))
        if all(np.array_equal(v[i], v[i - 1], equal_nan=True) for v in arrays.values())
    ]


def report(plan: Plan, summary: Mapping[str, Any], directory: RunDirectory) -> None:
    """Print the figures that answer the question, and where the pictures are."""
    name = plan.questions.name
    examples = len(plan.questions.encoded)
    print(f"{name}, {examples} examples, step {summary['last_step']}")
    rows = []
    for model in ("full", *map(str, plan.interventions)):
        row: dict[str, str] = {"": model}
        for metric in TOLD:
            if f"{name}/{model}/{metric}" not in summary:
                continue
            mean, low, high = (
                summary[f"{name}/{model}/{metric}{end}"] for end in ("", "_low", "_high")
            )
            row[metric] = "" if mean is None else f"{mean:.3f} [{low:.3f}, {high:.3f}]"
        rows.append(row)
    print(terminal.text(rows))
    full, last = summary[f"{name}/full/p_answer"], summary[f"{name}/full/p_the"]
    print(
        f"At step {summary['last_step']} the full model gives the answer {full:.3f} and "
        f'" the" {last:.3f}, means over {examples} examples with 95 % intervals above.'
    )
    if summary["identical_steps"]:
        print(
            f"  note: identical to the step before in every figure: {summary['identical_steps']}; "
            "probably the same weights under two names"
        )
    if summary["not_finite"]:
        print(f"  note: {summary['not_finite']} cuts left the finite numbers and have no figures")
    print(f"figures: {directory.path / 'figures'}")


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
