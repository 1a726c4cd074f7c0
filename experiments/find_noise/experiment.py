"""The comparison itself: every rule on every model, judged where the truth is known."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.find_noise import compared, figures
from experiments.find_noise.compared import Comparison, Found
from experiments.find_noise.settings import FindNoise
from experiments.run import heatmaps, memory, recall_setup, stop, table
from experiments.run.directory import RunDirectory, open_finished, open_run, plain
from experiments.run.program import Place, UserError, user_errors
from experiments.run.progress import Progress, say, stage
from experiments.run.recall_setup import Setup
from toy import recall, surgery, transformer
from training import seeds
from training.checkpoint import Store
from training.loop import State
from truncation import finite, notation
from truncation.search.cache import Cache
from truncation.search.problem import NO_CHOICE, Outcome, SearchProblem
from truncation.search.scorer import Scorer

METRICS = ("p_correct", "p_noise", "accuracy", "loss")


@dataclasses.dataclass(frozen=True)
class Unit:
    """One trained model: a checkpoint and a seed. brief leaves the expensive rules out."""

    step: int
    index: int
    seed: int
    brief: bool


def main(config: FindNoise, place: Place) -> None:
    """Settings in, run directory out."""
    setup = recall_setup.read_setup(config.run)
    units = list(plan(config, setup))
    with user_errors():
        candidates = notation.candidates(["0.fc_in"], config.rhos)
    if len(candidates) < 8:
        raise UserError(f"--rhos has {len(candidates)} entries; a quarter of the grid needs 8")
    needed = memory.recall_evaluation(
        setup.config, config.validation + config.test, at_once=config.batch_size
    )
    memory.require(needed, "--validation, --test or --batch_size")
    digest = recall_setup.digest(config.run, sorted({unit.step for unit in units}))
    directory = open_run(place, config, inputs={"run": config.run}, digests={"--run": digest})
    rows, summary = run(config, setup, units, directory, digest)
    report(rows, summary, directory)


def redraw(out: str) -> None:
    """Draw the figures of a finished run again, from its tables."""
    directory, _ = open_finished(out, "find_noise", FindNoise)
    rows, heatmap = directory.read_rows("rules.jsonl"), directory.read_rows("grid.jsonl")
    for name, figure in draw(rows, heatmap, rows[0]["step"]):
        print(directory.save_figure(figure, name))


def plan(config: FindNoise, setup: Setup) -> Iterator[Unit]:
    """All seeds not lost by the chosen checkpoint, and the first of them along training."""
    steps = Store(Path(config.run) / "checkpoints").steps()
    if not steps:
        raise UserError(f"--run={config.run} has no checkpoint")
    final = steps[-1] if config.step < 0 else config.step
    if final not in steps:
        raise UserError(f"--step={final}: the run has checkpoints {' '.join(map(str, steps))}")
    first = setup.config.seed
    left = recall_setup.left(_state(config.run, final))
    if gone := setup.config.num_seeds - len(left):
        say(f"{gone} of {setup.config.num_seeds} seeds left the finite numbers and are not judged")
    for index in left[: config.max_seeds]:
        yield Unit(final, index, first + index, brief=False)
    earlier = [step for step in steps if step < final]
    for step in earlier[max(0, len(earlier) - config.along) :]:
        yield Unit(step, left[0], first + left[0], brief=True)


def run(
    config: FindNoise, setup: Setup, units: list[Unit], directory: RunDirectory, digest: str = ""
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Judge every rule on every unit, those apart that an interrupted run has kept.

    digest: of the run that is looked into; what is kept of another one is not used.
    """
    rows: list[dict[str, Any]] = []
    heatmap: list[dict[str, Any]] = []
    progress = Progress(len(units), label="model")
    directory.rewrite_metrics([])
    previous: Scorer | None = None
    for number, unit in enumerate(units):
        stop.check()
        name = f"step{unit.step}_seed{unit.seed}"
        kept = directory.kept(name)
        if kept is None:
            stage(f"model {number + 1}/{len(units)}, preparing")
            comparison, weights = prepare(config, setup, unit, directory, previous, digest)
            previous = comparison.problem.scorer
            found, fresh = judge(setup, comparison, weights, unit)
            kept = {}, {"rows": fresh, "grid": found["grid"][0].outcome.rows}
            directory.keep(name, *kept)
        # As a reader of the files has them: what does not exist is None.
        part = plain(kept[1])
        rows += part["rows"]
        heatmap = heatmap or part["grid"]
        for row in part["rows"]:
            directory.append_metrics(row)
        progress.update(number + 1)
    progress.close()
    left = recall_setup.left(_state(config.run, units[0].step))
    return rows, finish(rows, heatmap, units, directory, lost=setup.config.num_seeds - len(left))


def prepare(
    config: FindNoise,
    setup: Setup,
    unit: Unit,
    directory: RunDirectory,
    scorer: Scorer | None,
    digest: str,
) -> tuple[Comparison, transformer.Weights]:
    """The model of a unit on sequences of its own, and the candidates."""
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
        return Cache(directory.own("cache.jsonl"), {"rule": rule, "run": digest})

    keys = compared.keys_of(setup.model, list(scorer.network.matrices))
    with user_errors():
        candidates = tuple(notation.candidates(keys, config.rhos))
        scorer.decompositions.of(keys)
    problem = SearchProblem(scorer, candidates, np.arange(config.validation))
    return Comparison(problem, config.objective, unit.seed, cache), weights


def judge(
    setup: Setup, comparison: Comparison, weights: transformer.Weights, unit: Unit
) -> tuple[dict[str, list[Found]], list[dict[str, Any]]]:
    """Apply the rules and measure what they chose on the test sequences."""
    compared.warm_up(comparison, brief=unit.brief)
    found = compared.of_interventions(comparison, brief=unit.brief)
    found |= compared.of_data_free(comparison, setup.model)
    if not unit.brief:
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
    return found, rows


def finish(
    rows: list[dict[str, Any]],
    heatmap: list[dict[str, Any]],
    units: list[Unit],
    directory: RunDirectory,
    *,
    lost: int = 0,
) -> dict[str, Any]:
    """Tables, figures, arrays and the summary, which is returned; lost: seeds not judged."""
    final = units[0].step
    judged = [row for row in rows if row["step"] == final]
    summary = summarise(judged) | {"seeds_lost": lost}
    directory.write_jsonl("grid.jsonl", heatmap)
    directory.write_csv("grid.csv", heatmap)
    directory.write_csv("rules.csv", rows)
    directory.write_jsonl("rules.jsonl", rows)
    lines = paper_table(judged, summary)
    directory.write_text("rules.md", table.markdown(lines, list(lines[0])))
    directory.write_arrays(
        {
            name: np.array([row[name] if row[name] is not None else "" for row in rows])
            for name in rows[0]
        }
    )
    for name, figure in draw(rows, heatmap, final):
        directory.save_figure(figure, name)
    directory.finish(summary)
    return summary


def draw(
    rows: list[dict[str, Any]], heatmap: list[dict[str, Any]], step: int
) -> Iterator[tuple[str, Figure]]:
    """Every figure of a comparison, with its name."""
    yield "find_noise", figures.rules(rows, step)
    yield "heatmaps", heatmaps.heatmaps(heatmap, "p_correct")


def by_seed(rows: list[dict[str, Any]], rule: str, name: str) -> np.ndarray:
    """One figure of a rule per seed; several random draws of a seed are averaged."""
    numbers = sorted({row["seed"] for row in rows})
    return np.array(
        [
            np.mean(
                [figures.number(r[name]) for r in rows if r["rule"] == rule and r["seed"] == seed]
            )
            for seed in numbers
        ]
    )


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds that have a figure, as seeds.told has them."""
    summary: dict[str, Any] = {"seeds": len({row["seed"] for row in rows})}
    for rule in dict.fromkeys(row["rule"] for row in rows):
        label = f"clean/{_label(rule)}"
        for name in (*METRICS, "evaluations", "seconds", "noise_removed", "outputs_removed"):
            summary |= seeds.told(f"{label}/{name}", by_seed(rows, rule, name))
        chosen = [row["chosen"] for row in rows if row["rule"] == rule]
        summary[f"{label}/chosen"] = max(dict.fromkeys(chosen), key=chosen.count)
    grid = by_seed(rows, "grid", "p_correct")
    guided = by_seed(rows, "gradient-guided", "p_correct")
    missed = (grid - guided)[np.isfinite(grid - guided)]
    summary["guided/missed_p_correct"] = float(np.max(missed)) if missed.size else float("nan")
    correlation = by_seed(rows, "gradient-guided", "rank_correlation")
    summary["guided/rank_correlation"] = float(seeds.mean(correlation))
    return summary


def paper_table(rows: list[dict[str, Any]], summary: dict[str, Any]) -> list[dict[str, str]]:
    """One line per rule: mean +- standard error over seeds."""
    lines = []
    for rule in dict.fromkeys(row["rule"] for row in rows):
        label = f"clean/{_label(rule)}"

        def cell(name: str, digits: int, label: str = label) -> str:
            value, error = summary[f"{label}/{name}"], summary.get(f"{label}/{name}/sem")
            if np.isnan(value):
                return "-"
            return f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if error is not None else "")

        lines.append(
            {
                "rule": rule,
                "p(correct)": cell("p_correct", 3),
                "p(noise)": cell("p_noise", 3),
                "clean loss": cell("loss", 3),
                "evaluations": cell("evaluations", 0),
                "seconds": cell("seconds", 1),
                "noise removed": cell("noise_removed", 2),
                "outputs removed": cell("outputs_removed", 2),
                "most chosen": summary[f"{label}/chosen"],
            }
        )
    return lines


def report(rows: list[dict[str, Any]], summary: dict[str, Any], directory: RunDirectory) -> None:
    """Print the table, what it says, warnings, and where the pictures are."""
    judged = [row for row in rows if row["step"] == rows[0]["step"]]
    lines = paper_table(judged, summary)
    print(table.text(lines))
    if told := seeds.sentence(summary):
        print(f"{told}.")
    named = {line["rule"]: f"clean/{_label(line['rule'])}" for line in lines}
    found = {rule: summary[f"{label}/p_correct"] for rule, label in named.items()}
    # A rule whose choice left the finite numbers found nothing.
    known = {rule: value for rule, value in found.items() if np.isfinite(value)}
    best = max(known, key=known.__getitem__)
    print(
        f"{best} finds most: it chose {summary[f'{named[best]}/chosen']} and reaches p(correct) "
        f"{found[best]:.3f}, where the full model has {found['full model']:.3f}."
    )
    for row in rows:
        if row["warning"]:
            print(f"step {row['step']}, seed {row['seed']}, {row['rule']}: {row['warning']}")
    print(f"figures: {directory.path / 'figures'}")


def _label(rule: str) -> str:
    return rule.replace(", ", "_").replace(" ", "_")


@functools.lru_cache(maxsize=1)
def _state(run: str, step: int) -> State:
    return recall_setup.restore(run, step)[2]
