"""Cut the matrices of a GPT-NeoX checkpoint, or search for the cut, and measure on tasks.

    python -m experiments.pythia_truncate --model=DIR --interventions=5.mlp@0,5.fc_in@0.1
    python -m experiments.pythia_truncate --model=DIR --tasks=jsonl:FILE --search=grid

Candidates are compared on validation examples; the test examples see the choice once (with
--interventions, all of them). Every figure comes with its change to the full model and a 95 %
interval from resampling examples. Writes TASK_candidates.csv and .jsonl, TASK_parts.csv (what
the kept and the removed components answer alone), TASK_predictions.csv (what is said after
each prompt before and after), TASK_flips.csv, heatmaps and before/after distributions. On
Pythia-70m with 64 prompts a grid of 84 candidates takes about a minute on two CPU cores.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import flags
from matplotlib.figure import Figure

import bridge
from bridge import encoding, export, scoring
from bridge.tokenizer import Tokenizer
from experiments.pythia_truncate import figures
from experiments.run import figures_search, program, pythia_setup
from experiments.run.directory import RunDirectory, open_run
from experiments.run.program import UserError, user_errors
from experiments.run.pythia_setup import Questions
from truncation import ablation, factored, notation, rules
from truncation.address import Params
from truncation.notation import Intervention
from truncation.rules import greedy
from truncation.search import table
from truncation.search.cache import Cache
from truncation.search.problem import Outcome, SearchProblem
from truncation.search.scorer import Scorer

OBJECTIVES = ("accuracy", "loss", "p_answer", "margin_the", "logit_difference", "choice")
SEARCHES = ("none", *rules.names())
PARTS_EXAMPLES = 256
PREDICTED = 3


@dataclasses.dataclass(frozen=True)
class TruncateConfig(pythia_setup.PythiaConfig):
    """Every flag, under the same name."""

    model: str
    tasks: tuple[str, ...]
    test_tasks: tuple[str, ...]
    interventions: tuple[str, ...]
    search: str
    matrices: tuple[str, ...]
    layers: tuple[str, ...]
    rhos: tuple[str, ...]
    removed: tuple[str, ...]
    objective: str
    fraction: float
    validation: float
    order: str
    bootstrap: int
    save: str
    factored: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What the flags ask for, checked without reading weights."""

    config: TruncateConfig
    words: Tokenizer
    questions: tuple[Questions, ...]
    interventions: tuple[Intervention, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What one task showed.

    shown is the intervention, or pruning, that is looked into; chosen the same, or "full"
    where it does not beat the whole model on validation.
    """

    outcome: Outcome
    shown: str
    chosen: str
    params: Params
    before: Mapping[str, np.ndarray]
    after: Mapping[str, np.ndarray]
    parts: list[dict[str, Any]]
    predictions: list[dict[str, Any]]
    flips: list[dict[str, Any]]


def define_flags() -> None:
    """The flags of this program."""
    flags.DEFINE_string("model", None, "Checkpoint directory.", required=True)
    flags.DEFINE_list("tasks", ["indirect_object"], "Tasks, as in bridge/tasks/registry.py.")
    flags.DEFINE_list("test_tasks", [], "A task for each of --tasks whose examples are the test.")
    flags.DEFINE_list("interventions", [], "What to cut, as 5.fc_in@0.1+5.fc_out@0.")
    flags.DEFINE_enum("search", "none", list(SEARCHES), "How to look for the best cut.")
    flags.DEFINE_list("matrices", ["fc_in", "fc_out"], "Matrices a search may cut.")
    flags.DEFINE_list("layers", [], "Layers a search may cut, -1 the last; empty: all.")
    flags.DEFINE_list("rhos", list(notation.LASER_RHOS), "Fractions of rank a search tries.")
    flags.DEFINE_list("removed", ["0.01", "0.05", "0.1", "0.2"], "Fractions eigenprune removes.")
    flags.DEFINE_enum("objective", "accuracy", list(OBJECTIVES), "What the choice improves.")
    flags.DEFINE_float("fraction", 0.25, "Cost of gradient_guided, of the grid's.", 0.001, 1.0)
    flags.DEFINE_float("validation", 0.2, "Share of examples for choosing.", 0.001, 0.999)
    flags.DEFINE_enum("order", "best_first", list(greedy.ORDERS), "Of --search=greedy.")
    flags.DEFINE_integer("bootstrap", 2000, "Resamples of the intervals.", lower_bound=100)
    flags.DEFINE_string("save", "", "Directory for the edited checkpoint of a single task.")
    flags.DEFINE_bool("factored", False, "Save cut matrices as two factors where that is smaller.")
    pythia_setup.define_flags()
    program.define_output_flags("pythia_truncate")


def main() -> None:
    """Flags in, run directory out."""
    config = program.config_from_flags(TruncateConfig)
    plan = make_plan(config)
    directory = open_run(
        program.Place("pythia_truncate", flags.FLAGS.out, flags.FLAGS.overwrite), config
    )
    checkpoint = pythia_setup.load_checkpoint(config, config.model)
    run(plan, checkpoint, directory)


def make_plan(config: TruncateConfig) -> Plan:
    """Read tasks and check every name; UserError says what cannot be."""
    if not config.tasks:
        raise UserError("--tasks is empty")
    if (config.search == "none") != bool(config.interventions):
        raise UserError("give either --interventions or --search, and not both")
    if config.test_tasks and len(config.test_tasks) != len(config.tasks):
        raise UserError(f"--test_tasks names {len(config.test_tasks)} of {len(config.tasks)} tasks")
    if config.save and len(config.tasks) > 1:
        raise UserError("--save wants a single task: another task may choose another cut")
    if config.factored and (not config.save or config.search == "eigenprune"):
        raise UserError("--factored is about --save, and not for eigenprune")
    architecture = pythia_setup.read_architecture(config.model)
    keys = pythia_setup.parse_keys(config.matrices, config.layers, architecture)
    if config.interventions:
        chosen = pythia_setup.parse_interventions(config.interventions, architecture)
    else:
        with user_errors():
            chosen = tuple(notation.candidates(keys, config.rhos))
    words = pythia_setup.read_tokenizer(config, config.model)
    questions = tuple(
        pythia_setup.read_questions(
            config, architecture, words, task, test_task=test, validation=config.validation
        )
        for task, test in zip(
            config.tasks, config.test_tasks or ("",) * len(config.tasks), strict=True
        )
    )
    for one in questions:
        needs_rivals = config.objective in ("logit_difference", "choice")
        if needs_rivals and not one.encoded.vocabulary.rivals:
            raise UserError(
                f"--objective={config.objective} needs distractors; {one.name} has examples without"
            )
    if len({one.name for one in questions}) < len(questions):
        raise UserError("--tasks names one task twice")
    return Plan(config, words, questions, chosen)


def run(plan: Plan, checkpoint: bridge.Checkpoint, directory: RunDirectory) -> dict[str, Any]:
    """Measure every task and write the run directory; returns what summary.json holds."""
    config = plan.config
    summary: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    directory.rewrite_metrics([])
    for one in plan.questions:
        for note in one.notes:
            print(f"{one.name}: {note}")
        store = directory.path / "checkpoints" / f"{one.name}.jsonl"
        # What scores depend on, weights and examples included, is in the key already.
        scorer = pythia_setup.make_scorer(
            config, checkpoint, one.encoded, cache=Cache(store, {}), progress=True
        )
        result = ask(plan, one, scorer)
        write_tables(directory, one.name, result)
        for name, figure in draw(one.name, result, config.objective):
            directory.save_figure(figure, name)
        summary |= summarise(one.name, result)
        arrays |= per_example(one, result)
        report(one.name, result)
        if config.save:
            _save(plan, checkpoint, scorer, result)
    directory.write_arrays(arrays)
    directory.finish(summary)
    print(f"tables: {directory.path}, figures: {directory.path / 'figures'}")
    return summary


def ask(plan: Plan, one: Questions, scorer: Scorer) -> Result:
    """Search, or compare the interventions given, and look into the choice."""
    config, test = plan.config, one.test
    problem = SearchProblem(scorer, plan.interventions, one.validation, test)
    rule = "grid" if config.search == "none" else config.search
    options = {
        "test_all": config.search == "none",
        "order": config.order,
        "fraction": config.fraction,
        "fractions": tuple(map(_fraction, config.removed)),
    }
    common = {"objective": config.objective, "seed": config.seed, "samples": config.bootstrap}
    own = {name: value for name, value in options.items() if name in rules.options(rule)}
    with user_errors():
        outcome = rules.run(rule, problem, **common, **own)
    nearest = outcome.nearest
    params = nearest.params(scorer.decompositions)
    before, after = scorer.full(test), scorer.of_params(params, test)
    parts: list[dict[str, Any]] = []
    if nearest.intervention is not None:
        for row in ablation.report(scorer, nearest.intervention, test[:PARTS_EXAMPLES]):
            tokens = [plan.words.decode([token]) for token in row.pop("top_classes")]
            parts.append(row | {"top_tokens": tokens})
    weights = scorer.weights(test)
    flips = ablation.flips(
        before["accuracy"],
        after["accuracy"],
        weights,
        levels(one, test),
        seed=config.seed,
        samples=config.bootstrap,
    )
    said = predictions(plan, one, scorer, params, before, after)
    chosen = nearest.name if outcome.improves else "full"
    return Result(outcome, nearest.name, chosen, params, before, after, parts, said, flips)


def predictions(
    plan: Plan,
    one: Questions,
    scorer: Scorer,
    params: Params,
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
) -> list[dict[str, Any]]:
    """What the model says after each test prompt, before and after the cut."""
    config, tested = plan.config, encoding.select(one.encoded, one.test)
    architecture = pythia_setup.read_architecture(config.model)
    rows: list[dict[str, Any]] = [
        {"prompt": e.prompt, "answer": e.answer, "group": e.group} for e in tested.examples
    ]
    for label, weights, scores in (("full", scorer.params, before), ("cut", params, after)):
        ids, values = scoring.top_tokens(
            weights,
            architecture,
            tested,
            PREDICTED,
            memory=int(config.memory_gb * pythia_setup.GIGABYTE),
        )
        for i, row in enumerate(rows):
            row |= {f"{label}_{name}": float(scores[name][i, 0]) for name in ("p_answer", "rank")}
            for place in range(PREDICTED):
                row[f"{label}_top{place + 1}"] = plan.words.decode([int(ids[i, place])])
                row[f"{label}_p{place + 1}"] = float(values[i, place])
    return rows


def levels(one: Questions, indices: np.ndarray) -> dict[str, np.ndarray]:
    """Covariates of the examples as small integers: few values as they are, others in quarters."""
    examples = [one.encoded.examples[i] for i in indices]
    names = sorted(set.intersection(*(set(e.covariates) for e in examples)))
    found = {}
    for name in names:
        values = np.array([e.covariates[name] for e in examples])
        distinct = np.unique(values)
        if len(distinct) < 2:
            continue
        # Equal quarters by rank: 0 holds the smallest values.
        edges = distinct if len(distinct) <= 8 else np.quantile(values, [0, 0.25, 0.5, 0.75])
        level = np.searchsorted(np.unique(edges), values, side="right") - 1
        found[name] = level[:, None]
    return found


def write_tables(directory: RunDirectory, name: str, result: Result) -> None:
    """TASK_candidates (CSV, JSON lines), _parts, _predictions, _flips, and metrics.jsonl."""
    table.write_csv(directory.path / f"{name}_candidates.csv", result.outcome.rows)
    table.write_jsonl(directory.path / f"{name}_candidates.jsonl", result.outcome.rows)
    if result.parts:
        table.write_csv(directory.path / f"{name}_parts.csv", result.parts)
    table.write_csv(directory.path / f"{name}_predictions.csv", result.predictions)
    table.write_csv(directory.path / f"{name}_flips.csv", result.flips)
    for row in result.outcome.rows:
        directory.append_metrics({"task": name, **row})


def draw(name: str, result: Result, objective: str) -> list[tuple[str, Figure]]:
    """The figures of one task, with their names."""
    found = [
        (
            f"{name}_before_after",
            figures.distributions(result.before, result.after, result.shown),
        )
    ]
    # A map needs at least two cells of single cuts.
    if sum("matrix" in row and "validation/loss" in row for row in result.outcome.rows) > 1:
        for metric in dict.fromkeys((objective, "loss", "p_the")):
            figure = figures_search.heatmaps(result.outcome.rows, metric)
            found.append((f"{name}_heatmap_{metric}", figure))
    return found


def summarise(name: str, result: Result) -> dict[str, Any]:
    """TASK/SPLIT/MODEL/METRIC of every row that was measured, and what was chosen."""
    summary: dict[str, Any] = {}
    for row in result.outcome.rows:
        if row.get("action", "stop") not in ("start", "stop"):
            continue
        for key, value in row.items():
            if key.startswith(("validation/", "test/")):
                split, metric = key.split("/")
                summary[f"{name}/{split}/{row['intervention']}/{metric}"] = value
    summary[f"{name}/chosen"] = result.chosen
    summary[f"{name}/warning"] = result.outcome.warning or ""
    summary[f"{name}/evaluations"] = result.outcome.evaluations
    return summary


def per_example(one: Questions, result: Result) -> dict[str, np.ndarray]:
    """Every score of every test example, before and after."""
    arrays = {f"{one.name}/test/indices": one.test}
    for model, scores in (("full", result.before), (result.shown, result.after)):
        for metric, values in scores.items():
            arrays[f"{one.name}/test/{model}/{metric}"] = values[:, 0]
    return arrays


def report(name: str, result: Result) -> None:
    """Print the figures that answer the question."""
    print(f"{name}: {len(result.before['loss'])} test examples")
    columns = ("accuracy", "loss", "p_answer", "p_the", "rank")
    print(f"  {'':28s}" + "".join(f"{c:>10s}" for c in columns))
    for label, scores in (("full", result.before), (result.shown, result.after)):
        cells = "".join(f"{float(np.mean(scores[c], dtype=np.float64)):10.3f}" for c in columns)
        print(f"  {label:28s}{cells}")
    for row in result.parts:
        tokens = ", ".join(
            f"{token!r} {p:.2f}"
            for token, p in zip(row["top_tokens"][:3], row["top_probabilities"], strict=False)
        )
        print(f"  {row['part']:8s} part says {tokens}")
    if result.outcome.warning:
        print(f"  note: {result.outcome.warning}")


def _fraction(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--removed names {text!r}; expected fractions") from None


def _save(plan: Plan, checkpoint: bridge.Checkpoint, scorer: Scorer, result: Result) -> None:
    if result.chosen == "full":
        print(f"nothing saved: {result.outcome.warning}")
        return
    params = result.params
    if plan.config.factored:
        params, _ = factored.apply(scorer.decompositions, result.outcome.best)
    edited = dataclasses.replace(checkpoint, params=jax.device_get(params))
    with user_errors():
        where = export.save(edited, plan.config.save, factored=plan.config.factored)
    print(f"saved: {where}")


if __name__ == "__main__":
    define_flags()
    program.run_flags(main)
