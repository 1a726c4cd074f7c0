"""How answers, noise and spectra of a GPT-NeoX model develop over its training steps.

    python -m experiments.pythia_dynamics --checkpoints=DIR --task=indirect_object

DIR holds a checkpoint directory per training step, stepN/, as experiments.fetch_pythia and
experiments.train_mini_pythia write them. At each step: p(answer), p(" the"), the margin
between them and the logit difference to the best distractor, for the full model and after
each of --interventions, with 95 % intervals from resampling examples; and the singular
values of --spectra. A step that was measured is not measured again when an interrupted run
is continued. Some 10 s per step of Pythia-70m on two CPU cores.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

import bridge
from bridge import surgery
from experiments.pythia_dynamics import figures
from experiments.run import program, pythia_setup
from experiments.run.directory import RunDirectory, open_run
from experiments.run.program import RunFailedError, UserError
from experiments.run.progress import Progress
from experiments.run.pythia_setup import Questions
from truncation import spectrum
from truncation.intervention import Intervention, Key
from truncation.search import statistics
from truncation.search.table import write_csv

TOLD = ("p_answer", "p_the", "margin_the", "accuracy")


@dataclasses.dataclass(frozen=True)
class DynamicsConfig(pythia_setup.PythiaConfig):
    """Every flag, under the same name."""

    checkpoints: str
    steps: tuple[str, ...]
    task: str
    interventions: tuple[str, ...]
    spectra: tuple[str, ...]
    bootstrap: int


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What the flags ask for, checked without reading weights."""

    config: DynamicsConfig
    architecture: bridge.Config
    directories: Mapping[int, Path]
    questions: Questions
    interventions: tuple[Intervention, ...]
    keys: tuple[Key, ...]


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("checkpoints", None, "Directory with stepN/ directories.", required=True)
    flags.DEFINE_list("steps", [], "Steps to measure; empty: all there are.")
    flags.DEFINE_string("task", "indirect_object", "Task, as in bridge/tasks/registry.py.")
    flags.DEFINE_list(
        "interventions", [], "Followed along training; empty: the last feed-forward's."
    )
    flags.DEFINE_list(
        "spectra", [], "Matrices whose spectra are kept, as 5.fc_in; empty: the last's."
    )
    flags.DEFINE_integer("bootstrap", 1000, "Resamples of the intervals.", lower_bound=100)
    pythia_setup.define_flags()
    program.define_output_flags("pythia_dynamics")


def main() -> None:
    """Flags in, run directory out."""
    config = program.config_from_flags(DynamicsConfig)
    plan = make_plan(config)
    directory = open_run(
        program.Place("pythia_dynamics", flags.FLAGS.out, flags.FLAGS.overwrite), config
    )
    summary = run(plan, directory)
    report(plan, summary, directory)


def make_plan(config: DynamicsConfig) -> Plan:
    """Find the steps, read the task, check every name; UserError says what cannot be."""
    directories = step_directories(config.checkpoints, config.steps)
    first = str(next(iter(directories.values())))
    architecture = pythia_setup.read_architecture(first)
    for step, path in directories.items():
        if pythia_setup.read_architecture(str(path)) != architecture:
            raise UserError(f"{path}: step {step} has another architecture than {first}")
    last = architecture.num_layers - 1
    chosen = config.interventions or (f"{last}.mlp@0", f"{last}.fc_in@0.1", f"{last}.fc_out@0.1")
    names = config.spectra or tuple(f"{last}.{m}" for m in ("out_proj", "fc_in", "fc_out"))
    words = pythia_setup.read_tokenizer(config, _with_tokenizer(config, directories))
    return Plan(
        config,
        architecture,
        directories,
        # Nothing is chosen here, so every example is measured, whatever the split.
        pythia_setup.read_questions(config, architecture, words, config.task, validation=0.5),
        pythia_setup.parse_interventions(chosen, architecture),
        tuple(_parse_key(name, architecture) for name in names),
    )


def step_directories(checkpoints: str, steps: tuple[str, ...]) -> dict[int, Path]:
    """stepN directories by N in rising order; UserError where one is missing."""
    folder = Path(checkpoints)
    if not folder.is_dir():
        raise UserError(f"--checkpoints={checkpoints} is not a directory")
    named = [(re.fullmatch(r"step(\d+)", path.name), path) for path in folder.iterdir()]
    found = {int(match[1]): path for match, path in named if match and path.is_dir()}
    if not found:
        raise UserError(f"--checkpoints={checkpoints} holds no stepN directory")
    if bad := [step for step in steps if not step.isdigit()]:
        raise UserError(f"--steps names {bad[0]!r}; expected numbers")
    wanted = sorted({int(step) for step in steps} or found)
    if missing := [step for step in wanted if step not in found]:
        raise UserError(f"--checkpoints={checkpoints} has no step{missing[0]}")
    return {step: found[step] for step in wanted}


def run(plan: Plan, directory: RunDirectory) -> dict[str, Any]:
    """Measure every step, draw; returns what summary.json holds."""
    directory.checkpoints.mkdir(exist_ok=True)
    directory.rewrite_metrics([])
    for note in plan.questions.notes:
        print(f"{plan.questions.name}: {note}")
    progress = Progress(len(plan.directories), label="checkpoint")
    measured: dict[int, dict[str, np.ndarray]] = {}
    for count, (step, path) in enumerate(plan.directories.items()):
        # One file per step: what an interrupted run continues from.
        name = f"checkpoints/step{step}.npz"
        found = directory.read_arrays(name)
        if not found:
            found = measure(plan, path)
            if bad := [key for key, v in found.items() if not np.isfinite(v).all()]:
                raise RunFailedError(f"step {step}: {bad[0]} is not finite; earlier steps are kept")
            directory.write_arrays(found, name)
        measured[step] = found
        directory.append_metrics({"step": step, **means(found)})
        told = {label: float(found[f"full/{label}"].mean()) for label in TOLD[:2]}
        progress.update(count + 1, **told)
    progress.close()
    return conclude(plan, directory, measured)


def measure(plan: Plan, path: Path) -> dict[str, np.ndarray]:
    """MODEL/METRIC [examples] and spectrum/LAYER.MATRIX [r] of one checkpoint."""
    checkpoint = pythia_setup.load_checkpoint(plan.config, str(path))
    encoded = plan.questions.encoded
    scorer = pythia_setup.make_scorer(plan.config, checkpoint, encoded)
    indices = np.arange(len(encoded))
    full = scorer.full(indices)
    found = {f"full/{name}": values[:, 0] for name, values in full.items()}
    cut = scorer.evaluate(plan.interventions, indices)
    for place, one in enumerate(plan.interventions):
        found |= {f"{one}/{name}": values[place, :, 0] for name, values in cut.items()}
    addresses = surgery.matrices(checkpoint.config)
    for key in plan.keys:
        values = _singular_values(addresses[key].read(checkpoint.params))
        found[f"spectrum/{key[0]}.{key[1]}"] = np.asarray(values)
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
            f"{metric}{end}": float(intervals[metric][model][row, place])
            for metric in metrics
            for row, end in enumerate(("", "_low", "_high"))
        }
        for place, step in enumerate(steps)
        for model in models
    ]
    write_csv(directory.path / "dynamics.csv", rows)
    summary: dict[str, Any] = {
        f"{plan.questions.name}/{row['model']}/{metric}": row[metric]
        for row in rows[-len(models) :]
        for metric in row
        if metric not in ("step", "model")
    }
    summary["steps"] = len(steps)
    summary["last_step"] = int(steps[-1])
    summary["identical_steps"] = " ".join(map(str, identical(steps, arrays)))
    spectra = {
        name.removeprefix("spectrum/"): values
        for name, values in arrays.items()
        if name.startswith("spectrum/")
    }
    directory.save_figure(figures.along_training(steps, intervals, models), "along_training")
    directory.save_figure(figures.spectra(steps, spectra), "spectra")
    directory.finish(summary)
    return summary


def identical(steps: np.ndarray, arrays: Mapping[str, np.ndarray]) -> list[int]:
    """Steps whose every figure equals that of the step before: probably the same file."""
    return [
        int(steps[i])
        for i in range(1, len(steps))
        if all(np.array_equal(values[i], values[i - 1]) for values in arrays.values())
    ]


def report(plan: Plan, summary: Mapping[str, Any], directory: RunDirectory) -> None:
    """Print the figures that answer the question, and where the pictures are."""
    name = plan.questions.name
    examples = len(plan.questions.encoded)
    print(f"{name}, {examples} examples, step {summary['last_step']}")
    print(f"  {'':20s}" + "".join(f"{metric:>26s}" for metric in TOLD))
    for model in ("full", *map(str, plan.interventions)):
        cells = []
        for metric in TOLD:
            mean, low, high = (
                summary[f"{name}/{model}/{metric}{end}"] for end in ("", "_low", "_high")
            )
            cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}]")
        print(f"  {model:20s}" + "".join(f"{cell:>26s}" for cell in cells))
    if summary["identical_steps"]:
        print(
            f"  note: identical to the step before in every figure: {summary['identical_steps']}; "
            "probably the same weights under two names"
        )
    print(f"figures: {directory.path / 'figures'}")


def _parse_key(text: str, architecture: bridge.Config) -> Key:
    layer, dot, name = text.partition(".")
    key = (int(layer) if layer.isdigit() else -1, name)
    if not dot or key not in surgery.matrices(architecture):
        raise UserError(
            f"--spectra names {text!r}; expected LAYER.MATRIX of this model, as 0.fc_in"
        )
    return key


def _with_tokenizer(config: DynamicsConfig, directories: Mapping[int, Path]) -> str:
    """The first step directory that has a tokenizer, or the directory that holds the steps."""
    for path in (*directories.values(), Path(config.checkpoints)):
        if any((path / name).is_file() for name in ("tokenizer.json", "20B_tokenizer.json")):
            return str(path)
    return config.checkpoints


if __name__ == "__main__":
    define_flags()
    program.run_flags(main)
