"""The truncation of a language model itself: plan, search, look into the choice, write."""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import bridge
from bridge import encoding, export, scoring, tasks
from bridge.tasks.metrics import generated
from bridge.tokenizer import Tokenizer
from experiments.run import heatmaps, model_setup, provenance, stop
from experiments.run import table as terminal
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.model_setup import Questions
from experiments.run.program import Place, UserError, user_errors
from experiments.run.progress import stage
from experiments.truncate_model import components, figures, worth
from experiments.truncate_model.settings import TruncateModel
from experiments.truncate_model.worth import Worth
from truncation import ablation, factored, notation, rules
from truncation.address import Params
from truncation.notation import Intervention
from truncation.search.cache import Cache
from truncation.search.problem import Outcome, SearchProblem
from truncation.search.scorer import Scorer

PARTS_EXAMPLES = 256
PREDICTED = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What the flags ask for, checked without reading weights."""

    config: TruncateModel
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
    components: list[dict[str, Any]]
    predictions: list[dict[str, Any]]
    flips: list[dict[str, Any]]


def main(config: TruncateModel, place: Place) -> None:
    """Settings in, run directory out."""
    require_place(config)
    plan = make_plan(config)
    stage("reading weights")
    files = model_setup.task_files((*config.tasks, *config.test_tasks))
    files |= {config.counts: config.counts} if config.counts else {}
    digests = {"--model": provenance.of_files(config.model)}
    digests |= {f"--tasks={name}": provenance.of_files(path) for name, path in files.items()}
    with user_errors():
        digests |= model_setup.tokenizer_digest(config)
    checkpoint = model_setup.load_checkpoint(config, config.model)
    inputs = {"model": config.model, "tokenizer": config.tokenizer, "save": config.save, **files}
    directory = open_run(place, config, inputs=inputs, digests=digests)
    run(plan, checkpoint, directory, provenance.of_text(str(sorted(digests.items()))))


def redraw(out: str) -> None:
    """Draw the figures of a finished run again, from its arrays and tables."""
    directory, config = open_finished(out, "truncate_model", TruncateModel)
    arrays = directory.read_arrays()
    for name in sorted({key.split("/")[0] for key in arrays}):
        models = list(dict.fromkeys(key.split("/")[2] for key in arrays if _is_score(key, name)))
        before, after = (
            {
                key.split("/")[3]: values[:, None]
                for key, values in arrays.items()
                if _is_score(key, name) and key.split("/")[2] == model
            }
            for model in (models[0], models[-1])
        )
        rows = directory.read_rows(f"{name}_candidates.jsonl")
        for label, figure in draw(name, before, after, models[-1], rows, config.objective):
            print(directory.save_figure(figure, label))


def _is_score(key: str, name: str) -> bool:
    return key.startswith(f"{name}/test/") and key.count("/") == 3


def require_place(config: TruncateModel) -> None:
    """UserError where --save could not be written, found out before any work."""
    if not config.save:
        return
    folder = Path(config.save)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--save={folder} exists already; choose another directory")
    for parent in folder.parents:
        if parent.exists():
            if not parent.is_dir() or not os.access(parent, os.W_OK):
                raise UserError(f"--save={folder} cannot be written: {parent} is in the way")
            return


def make_plan(config: TruncateModel) -> Plan:
    """Read tasks and check every name; UserError says what cannot be."""
    if (config.search == "none") != bool(config.interventions):
        raise UserError("give either --interventions or --search, and not both")
    if config.test_tasks and len(config.test_tasks) != len(config.tasks):
        raise UserError(f"--test_tasks names {len(config.test_tasks)} of {len(config.tasks)} tasks")
    if config.save and len(config.tasks) > 1:
        raise UserError("--save wants a single task: another task may choose another cut")
    if config.factored and (not config.save or config.search == "eigenprune"):
        raise UserError("--factored is about --save, and not for eigenprune")
    architecture = model_setup.read_architecture(config.model)
    keys = model_setup.parse_keys(config.matrices, config.layers, architecture)
    if config.interventions:
        chosen = model_setup.parse_interventions(config.interventions, architecture)
    else:
        with user_errors():
            chosen = tuple(notation.candidates(keys, config.rhos))
    words = model_setup.read_tokenizer(config, config.model)
    questions = tuple(
        model_setup.read_questions(
            config,
            architecture,
            words,
            task,
            test_task=test,
            validation=config.validation,
            protocol=config.protocol,
            counts=config.counts,
        )
        for task, test in zip(
            config.tasks, config.test_tasks or ("",) * len(config.tasks), strict=True
        )
    )
    for one in questions:
        needs_rivals = config.objective in ("logit_difference", "choice", "choice_summed")
        if needs_rivals and not one.encoded.vocabulary.rivals:
            raise UserError(
                f"--objective={config.objective} needs distractors; {one.name} has examples without"
            )
        if answers_of(config, one, architecture):
            longest = int(one.encoded.batch.at[one.test, 0, 0].max()) + 1
            if longest + one.marking.new_tokens > architecture.max_positions:
                raise UserError(
                    f"{one.name}: a prompt of {longest} tokens leaves no room for an answer of "
                    f"{one.marking.new_tokens}; --answers=0 generates none"
                )
    if len({one.name for one in questions}) < len(questions):
        raise UserError("--tasks names one task twice")
    return Plan(config, words, questions, chosen)


def run(
    plan: Plan, checkpoint: bridge.Checkpoint, directory: RunDirectory, digest: str = ""
) -> dict[str, Any]:
    """Measure every task and write the run directory; returns what summary.json holds.

    digest: of weights and questions; scores kept of others are not used.
    """
    config = plan.config
    summary: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    directory.rewrite_metrics([])
    for one in plan.questions:
        stop.check()
        for note in one.notes:
            print(f"{one.name}: {note}")
        if config.protocol == "published":
            print("\n".join(_told(config, one)))
        store = directory.own("checkpoints/") / f"{one.name}.jsonl"
        # What scores depend on, weights and examples included, is in the key already.
        scorer = model_setup.make_scorer(
            config, checkpoint, one.encoded, cache=Cache(store, {"inputs": digest}), progress=True
        )
        result = ask(plan, one, scorer)
        write_tables(directory, one.name, result)
        for name, figure in draw(
            one.name,
            result.before,
            result.after,
            result.shown,
            result.outcome.rows,
            config.objective,
        ):
            directory.save_figure(figure, name)
        summary |= summarise(one.name, result)
        arrays |= per_example(one, result)
        report(one.name, result)
        found = find_worth(plan, one, checkpoint, result)
        print("".join(f"  {line}\n" for line in found.lines), end="")
        summary |= {f"{one.name}/{key}": value for key, value in found.figures.items()}
        if found.rows:
            directory.write_jsonl(f"{one.name}_answers.jsonl", found.rows)
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
        "fractions": config.removed,
    }
    objective = objective_of(config, one)
    common = {"objective": objective, "seed": config.seed, "samples": config.bootstrap}
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
    architecture = model_setup.read_architecture(config.model)
    told = components.removed(scorer, architecture, nearest, test[:PARTS_EXAMPLES], plan.words)
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
    taken = outcome.improves or not one.protocol.full_competes
    chosen = nearest.name if taken else "full"
    return Result(outcome, nearest.name, chosen, params, before, after, parts, told, said, flips)


def objective_of(config: TruncateModel, one: Questions) -> str:
    """What a choice improves: as asked for, or what the paper of the task chose by."""
    if config.protocol == "honest":
        return config.objective
    # Of generated answers no paper's measure is there for every candidate: see _told.
    return "choice_summed" if one.marking.metric == "choice_summed" else "accuracy"


def _told(config: TruncateModel, one: Questions) -> list[str]:
    """The protocol, what differs from it here, and what was published of this model."""
    search = config.search != "none"
    lines = one.protocol.lines(
        rhos=config.rhos if search else (), matrices=config.matrices if search else ()
    )
    if search and one.marking.metric in generated.NAMES:
        lines.append(
            "  not as published: candidates are compared by whether the whole answer is the most "
            "probable; generated answers are marked for the full model and the choice"
        )
    card = tasks.card_of(one.name)
    named = re.sub(r"[^a-z0-9]", "", Path(config.model).resolve().name.lower())
    for figure in card.published if card else ():
        if re.sub(r"[^a-z0-9]", "", figure.model.lower()) in named:
            lines.append(f"  published {figure.line()}")
    return lines


def find_worth(plan: Plan, one: Questions, checkpoint: bridge.Checkpoint, result: Result) -> Worth:
    """What the test answers of the full model and of the cut are worth."""
    config, tested = plan.config, encoding.select(one.encoded, one.test)
    bootstrap = {"seed": config.seed, "samples": config.bootstrap}
    models = {
        "full": checkpoint,
        result.shown: dataclasses.replace(checkpoint, params=result.params),
    }
    before, after = (
        {name: values[:, 0] for name, values in scores.items()}
        for scores in (result.before, result.after)
    )
    found = worth.of_items(tested, before, after, **bootstrap)
    if one.closed and config.max_distractors >= len(one.closed) - 1:
        memory = int(config.memory_gb * model_setup.GIGABYTE)
        found += worth.of_choices(tested, one.closed, models, memory=memory, **bootstrap)
    if most := answers_of(config, one, checkpoint.config):
        prefix = plan.words.prefix(config.bos or one.protocol.bos)
        found += worth.of_texts(tested, one.marking, models, most=most, prefix=prefix, **bootstrap)
    return found


def answers_of(config: TruncateModel, one: Questions, architecture: bridge.Config) -> int:
    """How many test prompts are answered by generation; a masked model continues no text."""
    asked = one.marking.metric in generated.NAMES and not architecture.masked
    return config.answers if asked else 0


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
    architecture = model_setup.read_architecture(config.model)
    rows: list[dict[str, Any]] = [
        {"prompt": e.prompt, "answer": e.answer, "group": e.group} for e in tested.examples
    ]
    for label, weights, scores in (("full", scorer.params, before), ("cut", params, after)):
        ids, values = scoring.top_tokens(
            weights,
            architecture,
            tested,
            PREDICTED,
            memory=int(config.memory_gb * model_setup.GIGABYTE),
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
    """TASK_candidates, _parts, _components, _predictions and _flips, and metrics.jsonl."""
    directory.write_csv(f"{name}_candidates.csv", result.outcome.rows)
    directory.write_jsonl(f"{name}_candidates.jsonl", result.outcome.rows)
    if result.parts:
        directory.write_csv(f"{name}_parts.csv", result.parts)
    if result.components:
        directory.write_csv(f"{name}_components.csv", result.components)
    directory.write_csv(f"{name}_predictions.csv", result.predictions)
    directory.write_csv(f"{name}_flips.csv", result.flips)
    for row in result.outcome.rows:
        directory.append_metrics({"task": name, **row})


def draw(
    name: str,
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    shown: str,
    rows: Sequence[Mapping[str, Any]],
    objective: str,
) -> list[tuple[str, Figure]]:
    """The figures of one task, with their names."""
    found = [
        (
            f"{name}_before_after",
            figures.distributions(before, after, shown),
        )
    ]
    # A map needs at least two cells of single cuts.
    if sum("matrix" in row and "validation/loss" in row for row in rows) > 1:
        for metric in dict.fromkeys((objective, "loss", "p_the")):
            figure = heatmaps.heatmaps(rows, metric)
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
    shown = [("full", result.before), (result.shown, result.after)]
    rows = [
        {"": label} | {c: float(np.mean(scores[c], dtype=np.float64)) for c in columns}
        for label, scores in shown
    ]
    print(terminal.text(rows))
    if result.chosen == "full":
        print(
            f"No cut beat the full model on validation, so the full model is kept; the line of "
            f"{result.shown} shows the nearest."
        )
    else:
        print(
            f"{result.chosen} was chosen on validation: accuracy on test goes from "
            f"{rows[0]['accuracy']:.3f} to {rows[1]['accuracy']:.3f}, loss from "
            f"{rows[0]['loss']:.3f} to {rows[1]['loss']:.3f} nats."
        )
    for row in result.parts:
        tokens = ", ".join(
            f"{token!r} {p:.2f}"
            for token, p in zip(row["top_tokens"][:3], row["top_probabilities"], strict=False)
        )
        print(f"  {row['part']:8s} part says {tokens}")
    if result.outcome.warning:
        print(f"  note: {result.outcome.warning}")


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
