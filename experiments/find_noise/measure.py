"""The comparison itself: every rule on every model, judged where the truth is known."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from truncated_weights.experiments.find_noise import compared, figures
from truncated_weights.experiments.find_noise.compared import Comparison, Found
from truncated_weights.experiments.find_noise.settings import FindNoise
from truncated_weights.experiments.run import ram as memory
from truncated_weights.experiments.run import table
from truncated_weights.experiments.run.directory import RunDirectory, settings_of
from truncated_weights.experiments.run.drawing import heatmaps
from truncated_weights.experiments.run.inputs import recall_moments, recall_setup
from truncated_weights.experiments.run.inputs.recall_setup import Setup
from truncated_weights.experiments.run.parts import Part, measured
from truncated_weights.experiments.run.program import UserError, user_errors
from truncated_weights.experiments.run.progress import say, stage
from truncated_weights.experiments.run.study import Input, Memory, Study
from truncated_weights.toy import recall, surgery, transformer
from truncated_weights.toy.settings import NoisyRecall
from truncated_weights.training import records, reductions
from truncated_weights.training.checkpoint import Store
from truncated_weights.training.loop import State
from truncated_weights.training.records import Name, Records, name
from truncated_weights.truncation import finite, notation
from truncated_weights.truncation.search.cache import Cache
from truncated_weights.truncation.search.problem import NO_CHOICE, Outcome, SearchProblem
from truncated_weights.truncation.search.scorer import Scorer

METRICS = ("p_correct", "p_noise", "accuracy", "loss")
TOLD = (*METRICS, "evaluations", "seconds", "noise_removed", "outputs_removed")

Rows = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Unit:
    """One trained model: a checkpoint and a seed. brief leaves the expensive rules out."""

    step: int
    index: int
    seed: int
    brief: bool


@dataclasses.dataclass(frozen=True)
class Plan:
    """The models that rules are compared on, and how many seeds of the run were lost."""

    config: FindNoise
    setup: Setup
    units: tuple[Unit, ...]
    lost: int


def prepare(config: FindNoise) -> Plan:
    """All seeds not lost by the chosen checkpoint, and the first of them along training."""
    setup = recall_setup.read_setup(config.run)
    final, *earlier = checkpoints(config)
    candidates = notation.candidates(["0.fc_in"], config.rhos)
    if len(candidates) < 8:
        raise UserError(f"--rhos has {len(candidates)} entries; a quarter of the grid needs 8")
    first, left = setup.config.seed, recall_setup.left(_state(config.run, final))
    if gone := setup.config.num_seeds - len(left):
        say(f"{gone} of {setup.config.num_seeds} seeds left the finite numbers and are not judged")
    units = [Unit(final, i, first + i, brief=False) for i in left[: config.max_seeds]]
    units += [Unit(step, left[0], first + left[0], brief=True) for step in earlier]
    return Plan(config, setup, tuple(units), gone)


def checkpoints(config: FindNoise) -> tuple[int, ...]:
    """The step that rules are compared at, and those before it that some are followed along."""
    steps = Store(Path(config.run) / "checkpoints").steps()
    if not steps:
        raise UserError(f"--run={config.run} has no checkpoint")
    final = steps[-1] if config.step < 0 else config.step
    if final not in steps:
        raise UserError(f"--step={final}: the run has checkpoints {' '.join(map(str, steps))}")
    earlier = [step for step in steps if step < final]
    return final, *earlier[max(0, len(earlier) - config.along) :]


def measure(plan: Plan, directory: RunDirectory) -> Records:
    """Judge every rule on every model.

    rules: figures of every rule [set, rule, seed] at the checkpoint they are compared at, several
    random draws of a seed averaged; sets are those of test sequences. along: the same of the first
    seed, [set, rule, step]. choices: a table of every choice. grid: what each single cut changes
    in the first model [layer, matrix, rho], on validation sequences.
    """
    rows: Rows = []
    grid: Rows = []
    directory.rewrite_metrics([])
    # What is compiled and kept for one model serves the next.
    before: dict[str, Scorer] = {}

    def judged(number: int, unit: Unit) -> Records:
        stage(f"model {number + 1}/{len(plan.units)}, preparing")
        comparison, weights = compare(plan, unit, directory, before.get("scorer"))
        before["scorer"] = comparison.problem.scorer
        choices, grid = judge(plan.setup, comparison, weights, unit)
        # The first row is the full model's and has no cut.
        tables = {"choices": choices, "full": grid[:1], "cells": grid[1:]}
        return Records({block: records.of_rows(rows) for block, rows in tables.items()})

    models = [
        Part(f"step{unit.step}_seed{unit.seed}", functools.partial(judged, number, unit))
        for number, unit in enumerate(plan.units)
    ]
    for _, found in measured(directory, models, label="model"):
        fresh = records.rows_of(found.choices)
        rows += fresh
        grid = grid or [*records.rows_of(found.full), *records.rows_of(found.cells)]
        for row in fresh:
            directory.append_metrics(row)
    final = plan.units[0]
    compared_at = [row for row in rows if row["step"] == final.step]
    found = Records(
        {
            "rules": by_rule(compared_at, "seed").assign_coords(step=final.step),
            "along": by_rule([row for row in rows if row["seed"] == final.seed], "step"),
            "choices": records.of_rows(rows),
            "grid": heatmaps.of_rows(grid),
        }
    )
    for file, written in (("grid", grid), ("rules", rows)):
        directory.write_csv(f"{file}.csv", written)
        directory.write_jsonl(f"{file}.jsonl", written)
    lines = paper_table(found)
    directory.write_text("rules.md", table.markdown(lines, list(lines[0])))
    return found


def compare(
    plan: Plan, unit: Unit, directory: RunDirectory, scorer: Scorer | None
) -> tuple[Comparison, transformer.Weights]:
    """The model of a unit on sequences of its own, and the candidates."""
    config, setup = plan.config, plan.setup
    state = _state(config.run, unit.step)
    params, frozen = jax.tree.map(lambda leaf: leaf[unit.index], (state.params, state.frozen))
    weights = transformer.combine(params, frozen)
    key = jax.random.fold_in(jax.random.key(unit.seed), 7919)
    alpha = 0.0 if config.select_on == "clean" else None
    parts = [
        recall.sample(setup.task, k, batch_size=size, alpha=a)
        for k, size, a in zip(
            jax.random.split(key), (config.validation, config.test), (alpha, 0.0), strict=True
        )
    ]
    batch = jax.tree.map(
        lambda *leaves: np.concatenate(leaves) if leaves[0].ndim else sum(leaves), *parts
    )
    batch = jax.tree.map(jax.numpy.asarray, batch)
    examples = surgery.examples(batch, batch_size=config.batch_size)
    if scorer is None:
        network = surgery.RecallNetwork(setup.task, setup.model)
        scorer = Scorer(network, weights, examples, together=config.together, progress=True)
    else:
        scorer = scorer.on(params=weights, examples=examples)

    def cache(rule: str) -> Cache:
        # What scores depend on is in the key already; rules share none, to show their price.
        return Cache(directory.own("cache.jsonl"), {"rule": rule})

    keys = compared.keys_of(setup.model, list(scorer.network.matrices))
    with user_errors():
        candidates = tuple(notation.candidates(keys, config.rhos))
        scorer.decompositions.of(keys)
        measured = compared.by_metric(scorer, keys, config.rhos)
    found = recall_moments.moments_of(
        setup, weights, [one for some in measured.values() for one in some], sequences=config.test
    )
    scorer = scorer.measured(found)
    problem = SearchProblem(scorer, candidates, np.arange(config.validation))
    return Comparison(problem, config.objective, unit.seed, cache, measured), weights


def judge(
    setup: Setup, comparison: Comparison, weights: transformer.Weights, unit: Unit
) -> tuple[Rows, Rows]:
    """What the rules chose, measured on the test sequences; and the rows of the grid."""
    compared.warm_up(comparison, brief=unit.brief)
    found = compared.of_interventions(comparison, brief=unit.brief)
    found |= compared.of_data_free(comparison, setup.model)
    if not unit.brief:
        found |= compared.of_metrics(comparison)
        found |= compared.of_eigenpruning(comparison)
    full = Found(Outcome(NO_CHOICE, NO_CHOICE, [], 0, 0.0))
    rows = []
    scorer, validation = comparison.problem.scorer, comparison.problem.validation
    test = np.arange(len(validation), len(scorer.examples))
    for rule, attempts in {"full model": [full], **found}.items():
        for attempt in attempts:
            outcome, decompositions = attempt.outcome, scorer.decompositions
            params = outcome.choice.params(decompositions)
            means = scorer.mean(scorer.of_params(params, test), test)
            overlap = compared.overlap(decompositions, outcome, setup.task, setup.model, weights)
            rows.append(
                {
                    "step": unit.step,
                    "seed": unit.seed,
                    "rule": rule,
                    "chosen": outcome.choice.name,
                    **{name: finite.or_none(means[name]) for name in METRICS},
                    "evaluations": outcome.evaluations / len(validation),
                    "seconds": outcome.seconds,
                    "noise_removed": overlap["noise"],
                    "outputs_removed": overlap["outputs"],
                    "rank_correlation": attempt.rank_correlation,
                    "warning": "; ".join(outcome.notes) or None,
                }
            )
    return rows, found["grid"][0].outcome.rows


def by_rule(rows: Rows, axis: str) -> xr.Dataset:
    """The figures of every rule along seeds or steps; several random draws are averaged."""
    along = sorted({row[axis] for row in rows})
    values: dict[Name, np.ndarray] = {}
    for rule in dict.fromkeys(row["rule"] for row in rows):
        drawn = [[r for r in rows if (r["rule"], r[axis]) == (rule, where)] for where in along]
        for variable in (*TOLD, "rank_correlation"):
            # None where there is no such figure; a rule need not be followed along training.
            given = [[r[variable] for r in draws] or [None] for draws in drawn]
            values[name(variable, set="clean", rule=rule)] = np.array(
                [np.mean(np.array(one, np.float64)) for one in given]
            )
    return records.labelled(values, {axis: np.array(along)})


def most_chosen(found: Records) -> dict[str, str]:
    """By rule, what it chose most often where rules are compared."""
    rows = [r for r in records.rows_of(found.choices) if r["step"] == int(found.rules.step)]
    chosen = {
        rule: [row["chosen"] for row in rows if row["rule"] == rule]
        for rule in map(str, found.rules.rule.values)
    }
    return {rule: max(dict.fromkeys(names), key=names.count) for rule, names in chosen.items()}


def summarise(plan: Plan, found: Records) -> dict[str, Any]:
    """Means over the seeds that have a figure, and what guidance misses of the grid."""
    rules = found.rules
    labels = {
        rule: rule.replace(", ", "_").replace(" ", "_") for rule in map(str, rules.rule.values)
    }
    flat = rules[list(TOLD)].assign_coords(rule=list(labels.values()))
    chosen = {f"clean/{labels[rule]}/chosen": name for rule, name in most_chosen(found).items()}
    correct, guided = (
        rules.p_correct.sel(set="clean"),
        rules.sel(set="clean", rule="gradient-guided"),
    )
    missed = (correct.sel(rule="grid") - guided.p_correct).max("seed")
    return {
        **records.summary(flat),
        **chosen,
        "guided/missed_p_correct": float(missed),
        "guided/rank_correlation": float(reductions.mean(guided.rank_correlation).value),
        "seeds": rules.sizes["seed"],
        "seeds_lost": plan.lost,
    }


def paper_table(found: Records) -> list[dict[str, str]]:
    """One line per rule: mean +- standard error over seeds."""
    chosen = most_chosen(found)

    def cell(rule: str, variable: str, digits: int) -> str:
        mean = reductions.mean(found.rules[variable].sel(set="clean", rule=rule))
        if not mean.seeds:
            return "-"
        several = f" ± {float(mean.error):.{digits}f}" if mean.seeds > 1 else ""
        return f"{float(mean.value):.{digits}f}{several}"

    return [
        {
            "rule": rule,
            "p(correct)": cell(rule, "p_correct", 3),
            "p(noise)": cell(rule, "p_noise", 3),
            "clean loss": cell(rule, "loss", 3),
            "evaluations": cell(rule, "evaluations", 0),
            "seconds": cell(rule, "seconds", 1),
            "noise removed": cell(rule, "noise_removed", 2),
            "outputs removed": cell(rule, "outputs_removed", 2),
            "most chosen": chosen[rule],
        }
        for rule in map(str, found.rules.rule.values)
    ]


def tell(plan: Plan, found: Records, summary: Mapping[str, Any]) -> None:
    """Print the table, what it says, and warnings."""
    print(table.text(paper_table(found)))
    correct = reductions.mean(found.rules.p_correct.sel(set="clean")).value
    # A rule whose choice left the finite numbers found nothing.
    best = str(correct.dropna("rule").idxmax("rule").item())
    print(
        f"{best} finds most: it chose {most_chosen(found)[best]} and reaches p(correct) "
        f"{correct.sel(rule=best):.3f}, where the full model has "
        f"{correct.sel(rule='full model'):.3f}."
    )
    for row in records.rows_of(found.choices):
        if row["warning"]:
            print(f"step {row['step']}, seed {row['seed']}, {row['rule']}: {row['warning']}")


def inputs(config: FindNoise) -> dict[str, Input]:
    """The run, by its settings and the weights that are looked into."""
    return {
        "run": Input(
            config.run, lambda path: recall_setup.digest(path, sorted(checkpoints(config)))
        ),
    }


def needs(config: FindNoise) -> Memory:
    """Memory of evaluating a whole model."""
    model = settings_of(config.run, "noisy_recall", NoisyRecall)
    sequences = config.validation + config.test
    return Memory(
        memory.recall_evaluation(model, sequences, at_once=config.batch_size),
        "--validation, --test or --batch_size",
    )


@functools.lru_cache(maxsize=1)
def _state(run: str, step: int) -> State:
    return recall_setup.restore(run, step)[2]


STUDY = Study(
    name="find_noise",
    settings=FindNoise,
    prepare=prepare,
    measure=measure,
    figures=figures.figures,
    summarise=summarise,
    tell=tell,
    inputs=inputs,
    memory=needs,
)
