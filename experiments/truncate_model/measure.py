"""The truncation of a language model: load, ask every task, tell and keep what it showed."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from truncated_weights import bridge
from truncated_weights.bridge import export
from truncated_weights.experiments.run import stop, table
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.inputs import model_setup
from truncated_weights.experiments.run.program import user_errors
from truncated_weights.experiments.run.progress import stage
from truncated_weights.experiments.run.study import Input, Study
from truncated_weights.experiments.truncate_model import figures, planning, ways
from truncated_weights.experiments.truncate_model.asking import Result, ask, find_worth, marks
from truncated_weights.experiments.truncate_model.plan import (
    Plan,
    answers_of,
    make_plan,
    require_place,
    told,
)
from truncated_weights.experiments.truncate_model.settings import TruncateModel
from truncated_weights.experiments.truncate_model.tables import named, report, write_tables
from truncated_weights.training.records import Name, Records, cells, labelled, name, spelled
from truncated_weights.truncation import factored
from truncated_weights.truncation.search import moments
from truncated_weights.truncation.search.cache import Cache
from truncated_weights.truncation.search.scorer import Scorer


class Prepared(NamedTuple):
    """What the flags ask for, and the model."""

    plan: Plan
    checkpoint: bridge.Checkpoint


def planned(config: TruncateModel) -> bool:
    """With --plan print what the search would take."""
    if config.plan:
        planning.report(make_plan(config))
    return bool(config.plan)


def prepare(config: TruncateModel) -> Prepared:
    """Check every name, read the weights; UserError says what cannot be."""
    require_place(config)
    plan = make_plan(config)
    stage("reading weights")
    checkpoint = model_setup.load_checkpoint(config, config.model)
    if config.save:
        export.require_writable(checkpoint, config.save_dtype or None)
    return Prepared(plan, checkpoint)


def measure(prepared: Prepared, directory: RunDirectory) -> Records:
    """Ask every task; each is told as soon as it was asked, because the next may take hours.

    Blocks, all by task: those of tables.named; worth, what the answers are worth (worth.py); and
    with --protocol=both protocols (ways.py). What was scored before is read from the cache.
    """
    blocks: dict[str, dict[Name, Any]] = {}
    directory.rewrite_metrics([])
    for one in prepared.plan.questions:
        stop.check()
        stage(f"asking {one.name}")
        found = measure_task(prepared, one, directory)
        for block, values in found.items():
            own = {key.within(task=one.name): value for key, value in values.items()}
            blocks.setdefault(block, {}).update(own)
    print(f"tables: {directory.path}")
    return Records({block: labelled(values, {}) for block, values in blocks.items() if values})


def measure_task(
    prepared: Prepared, one: model_setup.Questions, directory: RunDirectory
) -> dict[str, dict[Name, Any]]:
    """Search, look into the choice, write and tell; block -> named numbers."""
    plan, checkpoint = prepared
    config = plan.config
    for note in one.notes:
        print(f"{one.name}: {note}")
    if answers_of(config, one, plan.architecture):
        print(f"{one.name}: {model_setup.endings(checkpoint)}")
    if config.protocol != "honest":
        paper = ways.paper_of(config, one.name)
        print("\n".join(told(config, one, plan.architecture, paper)))
    scorer = model_setup.make_scorer(
        config,
        checkpoint,
        one.encoded,
        # What scores depend on, weights and examples included, is in the key already.
        cache=Cache(directory.own("checkpoints/") / f"{one.name}.jsonl", {}),
        progress=True,
        extra_scores=marks(plan, one, checkpoint),
    )
    scorer = with_moments(scorer, plan, one)
    result = ask(plan, one, scorer)
    write_tables(directory, one.name, result)
    report(one.name, result)
    found = find_worth(plan, one, checkpoint, result)
    print("".join(f"  {line}\n" for line in found.lines), end="")
    blocks = {**named(one, result), "worth": dict(found.figures)}
    if config.protocol == "both":
        stage(f"asking {one.name} in other ways")
        rows = ways.compare(plan, one, scorer)
        directory.write_csv(f"{one.name}_protocols.csv", rows)
        ways.report(rows)
        blocks["protocols"] = ways.named(rows)
    if found.rows:
        directory.write_jsonl(f"{one.name}_answers.jsonl", found.rows)
    if config.save:
        _save(plan, checkpoint, scorer, result)
    return blocks


def with_moments(scorer: Scorer, plan: Plan, one: model_setup.Questions) -> Scorer:
    """The scorer with moments of what the examples that choose do to the matrices, if needed.

    Of prompts alone: what a matrix reads on other text is not among them.
    """
    cuts = [
        cut for given in plan.interventions for cut in scorer.expanded(given).cuts if cut.metric
    ]
    if not cuts:
        return scorer
    stage(f"moments of what {one.name} does to {len({(c.layer, c.matrix) for c in cuts})} matrices")
    gradients = any(cut.metric in ("fisher", "kfac") for cut in cuts)
    keys = [(int(cut.layer), cut.matrix) for cut in cuts]
    return scorer.measured(moments.gather(scorer, keys, one.validation, gradients=gradients))


def _save(plan: Plan, checkpoint: bridge.Checkpoint, scorer: Scorer, result: Result) -> None:
    if result.chosen == "full":
        print(f"nothing saved: {result.outcome.warning}")
        return
    params = result.params
    if plan.config.factored:
        params, _ = factored.apply(scorer.decompositions, result.outcome.best)
    edited = dataclasses.replace(checkpoint, params=jax.device_get(params))
    with user_errors():
        where = export.save(
            edited,
            plan.config.save,
            dtype=plan.config.save_dtype or None,
            factored=plan.config.factored,
        )
    print(f"saved: {where}")


def summarise(prepared: Prepared, records: Records) -> dict[str, Any]:
    """TASK/SET/MODEL/METRIC, TASK/chosen and the like, TASK/closed/..., TASK/protocols/..."""
    names = map(str, records.scores.task.values)
    summary: dict[str, Any] = {spelled(name("warning", task=task)): "" for task in names}
    for block in ("final", "outcome", "worth", "protocols"):
        found = cells(records[block]) if block in records else ()
        summary |= {spelled(key): value.item() for key, value in found}
    return summary


def tell(prepared: Prepared, records: Records, summary: Mapping[str, Any]) -> None:
    """Print what was chosen for each of several tasks, side by side."""
    chosen = records.outcome.chosen
    if chosen.size == 1:
        return
    rows = []
    for task in map(str, chosen.task.values):
        cut = chosen.sel(task=task).item()
        means = records.scores.sel(task=task).mean("example", dtype=float)
        row: dict[str, Any] = {"task": task, "chosen": cut}
        for metric in ("accuracy", "loss"):
            row[metric] = float(means[metric].sel(model="full"))
            row[f"{metric}, chosen"] = float(means[metric].sel(model=cut))
        rows.append(row)
    print(table.text(rows))


def inputs(config: TruncateModel) -> dict[str, Input]:
    """The model, the tasks' files, counts and --tokenizer; --save lies elsewhere too."""
    found = model_setup.inputs(config, *config.tasks, *config.test_tasks)
    own = {"model": Input(config.model), "counts": Input(config.counts)}
    return {**own, "save": Input(config.save, None), **found}


STUDY = Study(
    name="truncate_model",
    settings=TruncateModel,
    prepare=prepare,
    measure=measure,
    figures=figures.figures,
    summarise=summarise,
    tell=tell,
    inputs=inputs,
    instead=planned,
)
