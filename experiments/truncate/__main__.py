"""Cut any matrices of any noisy-recall run, at any checkpoint, and see what is left.

    python -m experiments.truncate --run=runs/noisy_recall --interventions=1.mlp@0,1.fc_out@-0.01

Writes the figures of every intervention on clean and noisy sequences, curves over rho of the
matrices in --curves (largest components kept, and largest dropped), what the kept and the
removed part alone predict, which answers flip, and what storing the cut as factors saves.
About a minute on two CPU cores; on the default run 1.fc_out@-0.01 should give clean
p(correct) 0.98 where 1.mlp@0 gives 0.94 and the full model 0.5.
"""

import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.run import program, recall_setup
from experiments.run.directory import RunDirectory, open_run
from experiments.run.program import UserError, user_errors
from experiments.run.progress import Progress
from experiments.run.recall_setup import Setup
from experiments.truncate import figures as figures_truncate
from toy import recall, surgery, transformer
from toy.probes import records
from toy.recall import Batch, Task
from training.checkpoint import Store
from truncation import ablation, degenerate, factored, intervention
from truncation.intervention import Intervention
from truncation.search import network as search_network
from truncation.search import table
from truncation.search.scorer import Scorer

RHOS = ("0", "0.01", "0.02", "0.05", "0.1", "0.2", "0.35", "0.5", "0.75", "1")


@dataclasses.dataclass(frozen=True)
class TruncateConfig:
    """Every flag, under the same name."""

    run: str
    steps: tuple[str, ...]
    interventions: tuple[str, ...]
    curves: tuple[str, ...]
    rhos: tuple[str, ...]
    num_sequences: int
    at_once: int


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("run", "runs/noisy_recall", "Run directory of experiments.noisy_recall.")
    flags.DEFINE_list("steps", [], "Checkpoints to cut; empty means the last.")
    flags.DEFINE_list("interventions", [], "What to cut, as 1.fc_in@0.1; empty: the run's own.")
    flags.DEFINE_list("curves", [], "Matrices with a curve over rho, as 1.fc_in; none: no curves.")
    flags.DEFINE_list("rhos", list(RHOS), "Fractions kept, and dropped, along the curves.")
    flags.DEFINE_integer("num_sequences", 512, "Sequences per measurement.", lower_bound=2)
    flags.DEFINE_integer("at_once", 4, "Edited models evaluated at once.", lower_bound=1)
    program.define_output_flags("truncate")


def main() -> None:
    """Flags in, run directory out."""
    config = program.config_from_flags(TruncateConfig)
    setup = recall_setup.read_setup(config.run)
    check(config, setup)
    directory = open_run(program.Place("truncate", flags.FLAGS.out, flags.FLAGS.overwrite), config)
    run(config, setup, directory)


def run(config: TruncateConfig, setup: Setup, directory: RunDirectory) -> None:
    """Measure, look inside, write, print."""
    steps, chosen, curves = check(config, setup)
    arrays = measure(config, setup, steps, (*chosen, *curves))
    details = look_inside(config, setup, steps[-1], chosen)
    summary = finish(setup, arrays, details, steps, directory)
    report(summary, details, chosen, directory)


def check(
    config: TruncateConfig, setup: Setup
) -> tuple[list[int], tuple[Intervention, ...], tuple[Intervention, ...]]:
    """Checkpoints, interventions and curves asked for; UserError names what cannot be."""
    return _steps(config), *_interventions(config, setup)


def measure(
    config: TruncateConfig, setup: Setup, steps: Sequence[int], chosen: Sequence[Intervention]
) -> dict[str, np.ndarray]:
    """SET/MODEL/METRIC [steps, seeds] of the full model and every intervention."""
    wanted = list(dict.fromkeys(chosen))
    function = records.measure_models(
        wanted, batch_size=config.num_sequences, at_once=config.at_once
    )
    progress, found, run = Progress(len(steps), label="checkpoint"), [], None
    for number, step in enumerate(steps):
        single, _, state = recall_setup.restore(config.run, step)
        run = run or single.trainer().measure(function)
        found.append(jax.device_get(run(state)))
        progress.update(number + 1)
    progress.close()
    arrays = {name: np.stack([f[name] for f in found]) for name in found[0]}
    return {"steps": np.asarray(steps), **arrays}


def look_inside(
    config: TruncateConfig, setup: Setup, step: int, chosen: Sequence[Intervention]
) -> dict[str, list[dict[str, Any]]]:
    """Parts, flips, factors and ambiguous cuts of the first seed at the last checkpoint."""
    _, _, state = recall_setup.restore(config.run, step)
    weights = jax.tree.map(lambda leaf: leaf[0], transformer.combine(state.params, state.frozen))
    key = jax.random.fold_in(jax.random.key(setup.config.seed), 104729)
    clean, noisy = (
        recall.sample(setup.task, key, batch_size=config.num_sequences, alpha=alpha)
        for alpha in (0.0, None)
    )
    network = surgery.RecallNetwork(setup.task, setup.model)
    on_clean = Scorer(network, weights, surgery.examples(clean, batch_size=128))
    on_noisy = on_clean.on(examples=surgery.examples(noisy, batch_size=128))
    everything = np.arange(config.num_sequences)
    before = on_noisy.full(everything)["accuracy"]
    found: dict[str, list[dict[str, Any]]] = {"parts": [], "flips": [], "factors": [], "notes": []}
    for cut in chosen:
        for row in ablation.report(on_clean, cut, everything):
            names = [_name(setup, token) for token in row.pop("top_classes")]
            found["parts"].append(row | {"top_tokens": names})
        after = on_noisy.full(everything, on_noisy.expanded(cut))["accuracy"]
        rows = ablation.flips(
            before, after, np.asarray(noisy.weights), context_counts(setup.task, noisy)
        )
        found["flips"] += [{"intervention": str(cut)} | row for row in rows]
        found["factors"].append(_factors(on_clean, cut))
        found["notes"] += [
            {"note": line} for line in degenerate.ambiguities(weights, cut, network.matrices)
        ]
    return found


def context_counts(task: Task, batch: Batch) -> dict[str, np.ndarray]:
    """How many noise and how many correct tokens followed this trigger before each answer."""
    tokens, positions = np.asarray(batch.tokens), np.asarray(batch.positions)
    trigger = np.take_along_axis(tokens, positions, axis=1)
    previous = np.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    seen = np.arange(tokens.shape[1])[None, None] <= positions[:, :, None]
    follows = seen & (previous[:, None] == trigger[:, :, None])
    noise = np.isin(tokens, task.noise)[:, None]
    correct = tokens[:, None] == np.asarray(batch.correct)[:, :, None]
    return {
        "noise_in_context": np.sum(follows & noise, axis=2),
        "correct_in_context": np.sum(follows & correct, axis=2),
    }


def finish(
    setup: Setup,
    arrays: dict[str, np.ndarray],
    details: dict[str, list[dict[str, Any]]],
    steps: Sequence[int],
    directory: RunDirectory,
) -> dict[str, float]:
    """Write metrics, tables, figures and the summary of the last checkpoint."""
    lines, summary = [], {}
    for index, step in enumerate(steps):
        line: dict[str, float] = {"step": step}
        for name, values in arrays.items():
            if name == "steps" or values.ndim != 2:
                continue
            line[name] = float(values[index].mean())
            if values.shape[1] > 1:
                error = values[index].std(ddof=1) / np.sqrt(values.shape[1])
                line[f"{name}/sem"] = float(error)
        lines.append(line)
        summary = {name: value for name, value in line.items() if name != "step"}
    directory.rewrite_metrics(lines)
    directory.write_arrays(arrays)
    for name, rows in details.items():
        table.write_csv(directory.path / f"{name}.csv", rows)
    for name, figure in figures_truncate.draw(arrays, details, setup.config.alpha):
        directory.save_figure(figure, name)
    directory.finish(summary)
    return summary


def report(
    summary: dict[str, float],
    details: dict[str, list[dict[str, Any]]],
    chosen: Sequence[Intervention],
    directory: RunDirectory,
) -> None:
    """Print the figures that answer the question, and where the pictures are."""
    print(f"{'clean sequences':24s} p(correct)  p(noise)  accuracy  removed part alone says")
    says = {
        row["intervention"]: f"{row['top_tokens'][0]} ({row['top_probabilities'][0]:.2f})"
        for row in details["parts"]
        if row["part"] == "removed"
    }
    for name in ("full", *map(str, chosen)):
        row = [summary[f"clean/{name}/{m}"] for m in ("p_correct", "p_noise", "accuracy")]
        print(f"{name:24s} {row[0]:10.3f} {row[1]:9.3f} {row[2]:9.3f}  {says.get(name, '')}")
    for saved in details["factors"]:
        if saved["factored"]:
            print(
                f"{saved['intervention']} as factors: {saved['parameters_before']} numbers become "
                f"{saved['parameters_after']}, one pass takes {saved['time_ratio']:.2f} of the time"
            )
    for note in details["notes"]:
        print(f"note: {note['note']}")
    print(f"figures: {directory.path / 'figures'}")


def _factors(scorer: Scorer, cut: Intervention) -> dict[str, Any]:
    """What storing the cut as factors saves; times are the best of five passes each."""
    params, rows = factored.apply(scorer.decompositions, cut)
    whole, examples = scorer.decompositions.made(cut), scorer.examples.select(np.arange(64))
    network = scorer.network
    run = jax.jit(functools.partial(search_network.scores, network))
    difference, seconds = 0.0, []
    for variant in (whole, params):
        loss = run(variant, examples)["loss"].block_until_ready()
        difference = float(jnp.max(jnp.abs(loss - difference)))
        times = []
        for _ in range(5):
            started = time.perf_counter()
            run(variant, examples)["loss"].block_until_ready()
            times.append(time.perf_counter() - started)
        seconds.append(min(times))
    return {
        "intervention": str(cut),
        "factored": any(row["factored"] for row in rows),
        "parameters_before": sum(row["parameters_before"] for row in rows),
        "parameters_after": sum(row["parameters_after"] for row in rows),
        "largest_loss_difference": difference,
        "seconds_dense": seconds[0],
        "seconds_factored": seconds[1],
        "time_ratio": seconds[1] / seconds[0],
    }


def _name(setup: Setup, token: int) -> str:
    if token in setup.task.noise:
        return "noise"
    if token in setup.task.triggers:
        return "trigger"
    symbols = setup.language.symbols
    return repr(symbols[token]) if symbols else str(token)


def _steps(config: TruncateConfig) -> list[int]:
    available = Store(Path(config.run) / "checkpoints").steps()
    if not available:
        raise UserError(f"--run={config.run} has no checkpoint")
    for text in config.steps:
        if not text.isdigit() or int(text) not in available:
            raise UserError(f"--steps: {text!r}; checkpoints are {' '.join(map(str, available))}")
    return sorted(int(text) for text in config.steps) or [available[-1]]


def _interventions(
    config: TruncateConfig, setup: Setup
) -> tuple[tuple[Intervention, ...], tuple[Intervention, ...]]:
    """Those asked for, and those of the curves; one line says what is wrong with either."""
    matrices = transformer.matrices(setup.model)
    with user_errors():
        chosen = tuple(map(intervention.parse, config.interventions)) or setup.interventions
        curves = tuple(
            intervention.parse(f"{name}@{sign}{rho}")
            for name in config.curves
            for sign in ("", "-")
            for rho in config.rhos
        )
        for cut in (*chosen, *curves):
            intervention.resolve(cut, matrices)
    return chosen, curves


if __name__ == "__main__":
    define_flags()
    program.run_flags(main)
