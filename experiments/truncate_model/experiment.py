"""The truncation of a language model itself: plan, load, ask every task, write."""

import dataclasses
from typing import Any

import jax
import numpy as np

import bridge
from bridge import export
from experiments.run import model_setup, provenance, stop
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.program import Place, user_errors
from experiments.run.progress import stage
from experiments.truncate_model import planning, ways
from experiments.truncate_model.asking import Result, ask, find_worth, marks
from experiments.truncate_model.plan import Plan, answers_of, make_plan, require_place, told
from experiments.truncate_model.settings import TruncateModel
from experiments.truncate_model.tables import draw, per_example, report, summarise, write_tables
from truncation import factored
from truncation.search.cache import Cache
from truncation.search.scorer import Scorer


def main(config: TruncateModel, place: Place) -> None:
    """Settings in, run directory out."""
    require_place(config)
    plan = make_plan(config)
    if config.plan:
        planning.report(plan)
        return
    stage("reading weights")
    files = model_setup.task_files((*config.tasks, *config.test_tasks))
    files |= {config.counts: config.counts} if config.counts else {}
    digests = {"--model": provenance.of_files(config.model)}
    digests |= {f"--tasks={name}": provenance.of_files(path) for name, path in files.items()}
    with user_errors():
        digests |= model_setup.tokenizer_digest(config)
    checkpoint = model_setup.load_checkpoint(config, config.model)
    if config.save:
        with user_errors():
            export.require_writable(checkpoint, config.save_dtype or None)
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
        stage(f"asking {one.name}")
        for note in one.notes:
            print(f"{one.name}: {note}")
        if answers_of(config, one, plan.architecture):
            print(f"{one.name}: {model_setup.endings(checkpoint)}")
        if config.protocol != "honest":
            paper = ways.paper_of(config, one.name)
            print("\n".join(told(config, one, plan.architecture, paper)))
        store = directory.own("checkpoints/") / f"{one.name}.jsonl"
        # What scores depend on, weights and examples included, is in the key already.
        scorer = model_setup.make_scorer(
            config,
            checkpoint,
            one.encoded,
            cache=Cache(store, {"inputs": digest}),
            progress=True,
            beside=marks(plan, one, checkpoint),
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
        if config.protocol == "both":
            stage(f"asking {one.name} in other ways")
            rows = ways.compare(plan, one, scorer)
            directory.write_csv(f"{one.name}_protocols.csv", rows)
            summary |= ways.summarise(one.name, rows)
            ways.report(rows)
        if found.rows:
            directory.write_jsonl(f"{one.name}_answers.jsonl", found.rows)
        if config.save:
            _save(plan, checkpoint, scorer, result)
    directory.write_arrays(arrays)
    directory.finish(summary)
    print(f"tables: {directory.path}, figures: {directory.path / 'figures'}")
    return summary


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
