"""Who finds the noise? Every rule for choosing what to truncate, judged where the truth is known.

    python -m experiments.noisy_recall
    python -m experiments.find_noise --run=runs/noisy_recall

Each rule sees clean validation sequences alone; its choice is then measured once on test
sequences. About four minutes on two CPU cores for one seed. On the default run the grid finds
1.fc_out@-0.01 (the top singular component of the last feed-forward's output matrix IS the
noise) and reaches p(correct) 0.98.
"""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments.find_noise import compared
from experiments.find_noise.compared import Comparison, Found
from experiments.run import figures_search, program, recall_setup
from experiments.run.directory import RunDirectory, open_run
from experiments.run.program import UserError, user_errors
from experiments.run.progress import Progress
from experiments.run.recall_setup import Setup
from toy import recall, surgery, transformer
from training.checkpoint import Store
from training.loop import State
from truncation import notation
from truncation.search import table
from truncation.search.cache import Cache
from truncation.search.problem import NO_CHOICE, Outcome, SearchProblem
from truncation.search.scorer import Scorer

RHOS = [*notation.LASER_RHOS, "-0.01", "-0.02", "-0.05"]
METRICS = ("p_correct", "p_noise", "accuracy", "loss")


@dataclasses.dataclass(frozen=True)
class FindNoiseConfig:
    """Every flag, under the same name."""

    run: str
    step: int
    along: int
    max_seeds: int
    rhos: tuple[str, ...]
    objective: str
    select_on: str
    validation: int
    test: int
    batch_size: int
    together: int


@dataclasses.dataclass(frozen=True)
class Unit:
    """One trained model: a checkpoint and a seed. brief leaves the expensive rules out."""

    step: int
    index: int
    seed: int
    brief: bool


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("run", "runs/noisy_recall", "Run directory of experiments.noisy_recall.")
    flags.DEFINE_integer("step", -1, "Checkpoint the rules are compared at; -1 means the last.")
    flags.DEFINE_integer(
        "along", 0, "Also follow grid, guidance and the data-free rules at this many checkpoints."
    )
    flags.DEFINE_integer("max_seeds", 5, "At most so many seeds of the run.", lower_bound=1)
    flags.DEFINE_list("rhos", RHOS, "Candidates per matrix.")
    flags.DEFINE_enum(
        "objective", "loss", ["loss", "accuracy", "p_correct"], "What validation picks by."
    )
    flags.DEFINE_enum(
        "select_on", "clean", ["clean", "noisy"], "Validation sequences; test is clean."
    )
    flags.DEFINE_integer("validation", 64, "Validation sequences.", lower_bound=4)
    flags.DEFINE_integer("test", 512, "Test sequences.", lower_bound=4)
    flags.DEFINE_integer("batch_size", 128, "Sequences evaluated at once.", lower_bound=1)
    flags.DEFINE_integer("together", 1, "Candidates evaluated at once.", lower_bound=1)
    program.define_output_flags("find_noise")


def main() -> None:
    """Flags in, run directory out."""
    config = program.config_from_flags(FindNoiseConfig)
    setup = recall_setup.read_setup(config.run)
    units = list(plan(config, setup))
    with user_errors():
        candidates = notation.candidates(["0.fc_in"], config.rhos)
    if len(candidates) < 8:
        raise UserError(f"--rhos has {len(candidates)} entries; a quarter of the grid needs 8")
    directory = open_run(
        program.Place("find_noise", flags.FLAGS.out, flags.FLAGS.overwrite), config
    )
    report(run(config, setup, units, directory), directory)


def plan(config: FindNoiseConfig, setup: Setup) -> Iterator[Unit]:
    """All seeds at the chosen checkpoint, and the first seed along training."""
    steps = Store(Path(config.run) / "checkpoints").steps()
    if not steps:
        raise UserError(f"--run={config.run} has no checkpoint")
    final = steps[-1] if config.step < 0 else config.step
    if final not in steps:
        raise UserError(f"--step={final}: the run has checkpoints {' '.join(map(str, steps))}")
    first = setup.config.seed
    for index in range(min(setup.config.num_seeds, config.max_seeds)):
        yield Unit(final, index, first + index, brief=False)
    earlier = [step for step in steps if step < final]
    for step in earlier[max(0, len(earlier) - config.along) :]:
        yield Unit(step, 0, first, brief=True)


def run(
    config: FindNoiseConfig, setup: Setup, units: list[Unit], directory: RunDirectory
) -> list[dict[str, Any]]:
    """Judge every rule on every unit; rows already in metrics.jsonl are not computed again."""
    rows = table.read_jsonl(directory.path / "metrics.jsonl")
    done = {(row["step"], row["seed"]) for row in rows if row["rule"] == "end"}
    rows = [row for row in rows if (row["step"], row["seed"]) in done]
    directory.rewrite_metrics(rows)
    progress = Progress(len(units), start=len(done), label="model")
    scorer: Scorer | None = None
    # Kept of an interrupted run alone: what stands there from another one is stale.
    heatmap = table.read_jsonl(directory.path / "grid.jsonl") if done else []
    for number, unit in enumerate(units):
        if (unit.step, unit.seed) not in done:
            comparison, weights = prepare(config, setup, unit, directory, scorer)
            scorer = comparison.problem.scorer
            found, fresh = judge(setup, comparison, weights, unit)
            if not heatmap:
                heatmap = found["grid"][0].outcome.rows
                table.write_jsonl(directory.path / "grid.jsonl", heatmap)
                table.write_csv(directory.path / "grid.csv", heatmap)
            for row in [*fresh, {"step": unit.step, "seed": unit.seed, "rule": "end"}]:
                directory.append_metrics(row)
            rows += fresh
        progress.update(number + 1)
    progress.close()
    rows = [row for row in rows if row["rule"] != "end"]
    finish(config, rows, heatmap, units, directory)
    return rows


def prepare(
    config: FindNoiseConfig,
    setup: Setup,
    unit: Unit,
    directory: RunDirectory,
    scorer: Scorer | None,
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
        return Cache(directory.path / "cache.jsonl", {"rule": rule})

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
                    **{name: float(means[name]) for name in METRICS},
                    "evaluations": outcome.evaluations / len(validation),
                    "seconds": outcome.seconds,
                    "noise_removed": overlap["noise"],
                    "outputs_removed": overlap["outputs"],
                    "rank_correlation": attempt.rank_correlation,
                    "warning": outcome.warning,
                }
            )
    return found, rows


def finish(
    config: FindNoiseConfig,
    rows: list[dict[str, Any]],
    heatmap: list[dict[str, Any]],
    units: list[Unit],
    directory: RunDirectory,
) -> None:
    """Tables, figures, arrays and the summary."""
    final = units[0].step
    compared = [row for row in rows if row["step"] == final]
    summary = summarise(compared)
    table.write_csv(directory.path / "rules.csv", rows)
    table.write_jsonl(directory.path / "rules.jsonl", rows)
    lines = paper_table(compared, summary)
    (directory.path / "rules.md").write_text(table.markdown(lines, list(lines[0])))
    directory.write_arrays(
        {
            name: np.array([row[name] if row[name] is not None else "" for row in rows])
            for name in rows[0]
        }
    )
    directory.save_figure(figures_search.rules(rows, final), "find_noise")
    directory.save_figure(figures_search.heatmaps(heatmap, "p_correct"), "heatmaps")
    directory.finish(summary)


def by_seed(rows: list[dict[str, Any]], rule: str, name: str) -> np.ndarray:
    """One figure of a rule per seed; several random draws of a seed are averaged."""
    seeds = sorted({row["seed"] for row in rows})
    return np.array(
        [
            np.mean([r[name] for r in rows if r["rule"] == rule and r["seed"] == seed])
            for seed in seeds
        ]
    )


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, with /sem beside them where seeds are several."""
    summary: dict[str, Any] = {}
    for rule in dict.fromkeys(row["rule"] for row in rows):
        label = "clean/" + rule.replace(", ", "_").replace(" ", "_")
        for name in (*METRICS, "evaluations", "seconds", "noise_removed", "outputs_removed"):
            values = by_seed(rows, rule, name)
            summary[f"{label}/{name}"] = float(np.mean(values))
            if len(values) > 1:
                summary[f"{label}/{name}/sem"] = float(
                    np.std(values, ddof=1) / np.sqrt(len(values))
                )
        chosen = [row["chosen"] for row in rows if row["rule"] == rule]
        summary[f"{label}/chosen"] = max(dict.fromkeys(chosen), key=chosen.count)
    grid = by_seed(rows, "grid", "p_correct")
    guided = by_seed(rows, "gradient-guided", "p_correct")
    summary["guided/missed_p_correct"] = float(np.max(grid - guided))
    correlation = by_seed(rows, "gradient-guided", "rank_correlation")
    summary["guided/rank_correlation"] = float(np.mean(correlation))
    return summary


def paper_table(rows: list[dict[str, Any]], summary: dict[str, Any]) -> list[dict[str, str]]:
    """One line per rule: mean +- standard error over seeds."""
    lines = []
    for rule in dict.fromkeys(row["rule"] for row in rows):
        label = "clean/" + rule.replace(", ", "_").replace(" ", "_")

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


def report(rows: list[dict[str, Any]], directory: RunDirectory) -> None:
    """Print the table, warnings, and where the pictures are."""
    print((directory.path / "rules.md").read_text(), end="")
    for row in rows:
        if row["warning"]:
            print(f"step {row['step']}, seed {row['seed']}, {row['rule']}: {row['warning']}")
    print(f"figures: {directory.path / 'figures'}")


@functools.lru_cache(maxsize=1)
def _state(run: str, step: int) -> State:
    return recall_setup.restore(run, step)[2]


if __name__ == "__main__":
    define_flags()
    program.run_flags(main)
