"""The truncation of a run: measure every cut, look inside, write, print."""

import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.run import memory, recall_setup, stop
from experiments.run import table as terminal
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.program import Place, UserError, user_errors
from experiments.run.progress import Progress, stage
from experiments.run.recall_setup import Setup
from experiments.truncate import components
from experiments.truncate import figures as figures_truncate
from experiments.truncate.settings import Truncate
from toy import recall, surgery, transformer
from toy.probes import records
from toy.recall import Batch, Task
from training import seeds
from training.checkpoint import Store
from truncation import ablation, degenerate, editing, factored, notation
from truncation.finite import NotFiniteError, or_none
from truncation.notation import Intervention
from truncation.search import network as search_network
from truncation.search.scorer import Scorer

DETAILS = ("parts", "components", "flips", "factors", "notes")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the settings ask for, checked against the run."""

    steps: tuple[int, ...]
    chosen: tuple[Intervention, ...]
    curves: tuple[Intervention, ...]


def main(config: Truncate, place: Place) -> None:
    """Settings in, run directory out."""
    setup = recall_setup.read_setup(config.run)
    plan = check(config, setup)
    count = config.num_sequences
    needed = memory.recall_evaluation(setup.config, count, at_once=count)
    memory.require(needed, "--num_sequences")
    digest = recall_setup.digest(config.run, plan.steps)
    directory = open_run(place, config, inputs={"run": config.run}, digests={"--run": digest})
    run(config, setup, plan, directory)


def redraw(out: str) -> None:
    """Draw the figures of a finished run again, from its arrays and tables."""
    directory, config = open_finished(out, "truncate", Truncate)
    setup = recall_setup.read_setup(config.run)
    details = {name: directory.read_rows(f"{name}.jsonl") for name in DETAILS}
    arrays = directory.read_arrays()
    for name, figure in figures_truncate.draw(arrays, details, setup.config.alpha):
        print(directory.save_figure(figure, name))


def run(config: Truncate, setup: Setup, plan: Plan, directory: RunDirectory) -> None:
    """Measure, look inside, write, print."""
    arrays = measure(config, setup, plan, directory)
    stage("looking inside")
    details = look_inside(config, setup, plan.steps[-1], plan.chosen)
    summary = finish(setup, arrays, details, plan.steps, directory)
    report(summary, details, plan.chosen, directory)


def check(config: Truncate, setup: Setup) -> Plan:
    """Checkpoints, interventions and curves asked for; UserError names what cannot be."""
    return Plan(tuple(_steps(config)), *_interventions(config, setup))


def measure(
    config: Truncate, setup: Setup, plan: Plan, directory: RunDirectory
) -> dict[str, np.ndarray]:
    """SET/MODEL/METRIC [steps, seeds] of the full model and every intervention, and first_bad."""
    wanted = list(dict.fromkeys((*plan.chosen, *plan.curves)))
    function = records.measure_models(wanted, batch_size=config.num_sequences)
    progress, found, run = Progress(len(plan.steps), label="checkpoint"), [], None
    for number, step in enumerate(plan.steps):
        stop.check()
        # An interrupted run kept every checkpoint it had measured.
        kept = directory.kept(f"step{step}")
        if kept is None:
            single, _, state = recall_setup.restore(config.run, step)
            run = run or single.trainer().measure(function)
            measured = {**jax.device_get(run(state)), seeds.FIRST_BAD: state.first_bad}
            kept = {name: np.asarray(value) for name, value in measured.items()}, None
            directory.keep(f"step{step}", kept[0])
        found.append(kept[0])
        progress.update(number + 1)
    progress.close()
    arrays = {name: np.stack([f[name] for f in found]) for name in found[0]}
    return {"steps": np.asarray(plan.steps), **arrays}


def look_inside(
    config: Truncate, setup: Setup, step: int, chosen: Sequence[Intervention]
) -> dict[str, list[dict[str, Any]]]:
    """Parts, components, flips, factors, ambiguous cuts of the first seed left, last checkpoint."""
    _, _, state = recall_setup.restore(config.run, step)
    first = recall_setup.left(state)[0]
    weights = jax.tree.map(
        lambda leaf: leaf[first], transformer.combine(state.params, state.frozen)
    )
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
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in DETAILS}
    for cut in chosen:
        stop.check()
        for row in ablation.report(on_clean, cut, everything):
            names = [_name(setup, token) for token in row.pop("top_classes")]
            found["parts"].append(row | {"top_tokens": names})
        named = functools.partial(_name, setup)
        found["components"] += components.removed(on_clean, setup.model, cut, everything, named)
        after = on_noisy.full(everything, on_noisy.expanded(cut))["accuracy"]
        # Of a cut that leaves the finite numbers there are no answers to compare.
        if np.isfinite(after).all():
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
    directory.write_arrays(arrays)
    counted, left = seeds.counted(arrays), seeds.surviving(arrays)
    lines: list[dict[str, float]] = []
    for index, step in enumerate(steps):
        line: dict[str, float] = {"step": step, **counted}
        for name, values in left.items():
            if name not in ("steps", seeds.FIRST_BAD) and values.ndim == 2:
                line |= seeds.told(name, values[index])
        lines.append(line)
    summary = {name: value for name, value in lines[-1].items() if name != "step"}
    directory.rewrite_metrics(lines)
    for name, rows in details.items():
        directory.write_csv(f"{name}.csv", rows)
        directory.write_jsonl(f"{name}.jsonl", rows)
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
    says = {
        row["intervention"]: f"{row['top_tokens'][0]} ({row['top_probabilities'][0]:.2f})"
        for row in details["parts"]
        if row["part"] == "removed" and row["top_tokens"]
    }
    columns = {"p(correct)": "p_correct", "p(noise)": "p_noise", "accuracy": "accuracy"}
    rows: list[dict[str, Any]] = [
        {"clean sequences": name}
        | {title: or_none(summary[f"clean/{name}/{metric}"]) for title, metric in columns.items()}
        | {"removed part alone says": says.get(name, "")}
        for name in ("full", *map(str, chosen))
    ]
    print(terminal.text(rows))
    if lost := seeds.sentence(summary):
        print(f"{lost}.")
    gone = [row["clean sequences"] for row in rows if None in row.values()]
    if "full" in gone:
        raise NotFiniteError("the full model left the finite numbers; no cut can be compared")
    for name in gone:
        print(f"{name} left the finite numbers and has no figures")
    known = [row for row in rows if row["clean sequences"] not in gone]
    best = max(known, key=lambda row: row["p(correct)"])
    print(
        f"{best['clean sequences']} answers best: p(correct) {best['p(correct)']:.3f} and p(noise) "
        f"{best['p(noise)']:.3f}, where the full model has {rows[0]['p(correct)']:.3f} and "
        f"{rows[0]['p(noise)']:.3f}."
    )
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


def _steps(config: Truncate) -> list[int]:
    available = Store(Path(config.run) / "checkpoints").steps()
    if not available:
        raise UserError(f"--run={config.run} has no checkpoint")
    for step in config.steps:
        if step not in available:
            raise UserError(f"--steps: {step}; checkpoints are {' '.join(map(str, available))}")
    return sorted(config.steps) or [available[-1]]


def _interventions(
    config: Truncate, setup: Setup
) -> tuple[tuple[Intervention, ...], tuple[Intervention, ...]]:
    """Those asked for, and those of the curves; one line says what is wrong with either."""
    matrices = transformer.matrices(setup.model)
    with user_errors():
        chosen = tuple(map(notation.parse, config.interventions)) or setup.interventions
        curves = tuple(
            notation.parse(f"{name}@{sign}{rho}")
            for name in config.curves
            for sign in ("", "-")
            for rho in config.rhos
        )
        for cut in (*chosen, *curves):
            editing.resolve(cut, matrices)
    return chosen, curves
