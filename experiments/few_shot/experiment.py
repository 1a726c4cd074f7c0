"""Answers generated, kept batch by batch, marked and compared."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

import bridge
from bridge import answers, encoding, scoring, surgery, tasks
from bridge.tasks import Task
from bridge.tasks.metrics import generated
from experiments.few_shot import figures
from experiments.few_shot.settings import FewShot
from experiments.run import model_setup, provenance, stop
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.program import Place, UserError, note, user_errors
from experiments.run.progress import Progress
from truncation.finite import NotFiniteError, or_none
from truncation.search import statistics

MARKS = generated.NAMES["number"]


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The prompts by number of shots, and the cuts, checked without weights."""

    config: FewShot
    asked: Mapping[int, Task]
    models: tuple[str, ...]


def main(config: FewShot, place: Place) -> None:
    """Settings in, run directory out."""
    with user_errors():
        checkpoint = bridge.load(config.model, dtype=config.dtype, ignore=config.ignore_keys)
        plan = make_plan(config, checkpoint)
        asked = [example for task in plan.asked.values() for example in task.examples]
        told = model_setup.beginnings(checkpoint.tokenizer, asked, config.bos)
        told.append(model_setup.endings(checkpoint))
    inputs = {name: getattr(config, name) for name in ("model", "problems", "exemplars", "train")}
    inputs = {name: path for name, path in inputs.items() if path}
    # Answers kept by an interrupted run are used only where model and problems are the same.
    digests = {f"--{name}": provenance.of_files(path) for name, path in inputs.items()}
    directory = open_run(place, config, inputs=inputs, digests=digests)
    print("\n".join(told))
    report(run(plan, checkpoint, directory))
    print(f"generations: {directory.path / 'generations.jsonl'}")


def make_plan(config: FewShot, checkpoint: bridge.Checkpoint) -> Plan:
    """Read the problems for each number of shots; ValueError says what cannot be."""
    asked = {}
    for shots in config.shots:
        options = [f"style={config.style}", f"shots={shots}", f"seed={config.seed}"]
        options += [f"exemplars={config.exemplars}"] if config.exemplars else []
        options += [f"train={config.train}"] if config.train else []
        task = tasks.load(
            ":".join((f"gsm8k:{config.problems}", *options)),
            checkpoint.tokenizer,
            count=config.num_examples or None,
            seed=config.seed,
        )
        marking = dataclasses.replace(task.marking, new_tokens=config.new_tokens)
        asked[shots] = dataclasses.replace(task, marking=marking)
    surgery.interventions(config.interventions, checkpoint.config)
    return Plan(config, asked, ("full", *config.interventions))


def run(plan: Plan, checkpoint: bridge.Checkpoint, directory: RunDirectory) -> dict[str, Any]:
    """Answer, mark, compare, draw; returns what summary.json holds."""
    arrays: dict[str, np.ndarray] = {}
    said: list[dict[str, Any]] = []
    total = len(plan.models) * sum(len(task.examples) for task in plan.asked.values())
    progress, done = Progress(total, label="answer"), 0
    try:
        for number, model in enumerate(plan.models):
            edited = checkpoint if model == "full" else bridge.cut(checkpoint, model)
            for shots, task in plan.asked.items():
                texts: list[str] | list[None]
                marked: list[dict[str, Any]]
                try:
                    texts = answer(
                        plan.config, edited, task, directory, f"{shots}_{number}", progress, done
                    )
                    marked = [
                        generated.marks(example, text, task.marking)
                        for example, text in zip(task.examples, texts, strict=True)
                    ]
                    loss = losses(plan.config, edited, task)
                except NotFiniteError as error:
                    if edited is checkpoint:
                        raise
                    note(f"{model}, {shots} shots: no figures, {error}")
                    texts = [None] * len(task.examples)
                    marked = [dict.fromkeys(MARKS, np.nan)] * len(task.examples)
                    loss = np.full(len(task.examples), np.nan)
                done += len(task.examples)
                for name in MARKS:
                    arrays[f"{shots}/{model}/{name}"] = np.array([m[name] for m in marked])
                arrays[f"{shots}/{model}/loss"] = loss
                said += [
                    {
                        "shots": shots,
                        "model": model,
                        "question": e.item,
                        "gold": e.gold,
                        "generated": text,
                    }
                    | m
                    for e, text, m in zip(task.examples, texts, marked, strict=True)
                ]
    finally:
        progress.close()
    directory.write_jsonl("generations.jsonl", said)
    directory.write_arrays(arrays)
    rows = compare(plan.config, arrays, plan.models)
    directory.write_csv("answers.csv", rows)
    directory.rewrite_metrics(rows)
    directory.save_figure(figures.by_shots(rows), "by_shots")
    summary: dict[str, Any] = {}
    for row in rows:
        label = f"{row['shots']}/{row['model']}"
        summary |= {f"{label}/{k}": v for k, v in row.items() if k not in ("shots", "model")}
    directory.finish(summary)
    return summary


def redraw(out: str) -> None:
    """Draw the figure of a finished run again."""
    directory, config = open_finished(out, "few_shot", FewShot)
    rows = compare(config, directory.read_arrays(), ("full", *config.interventions))
    print(directory.save_figure(figures.by_shots(rows), "by_shots"))


def answer(
    config: FewShot,
    checkpoint: bridge.Checkpoint,
    task: Task,
    directory: RunDirectory,
    name: str,
    progress: Progress,
    before: int,
) -> list[str]:
    """The generated text of every problem, those of an interrupted run kept."""
    kept = directory.kept(name)
    texts: dict[int, str] = {int(k): v for k, v in kept[1].items()} if kept else {}
    missing = [index for index in range(len(task.examples)) if index not in texts]
    pending = dict(texts)
    prefix = checkpoint.tokenizer.prefix(config.bos)
    with user_errors():
        found = answers.stream(
            checkpoint,
            [task.examples[index] for index in missing],
            task.marking,
            batch_size=config.batch,
            prefix=prefix,
        )
        for place, text in found:
            pending[missing[place]] = text
            if len(pending) - len(texts) >= config.batch or len(pending) == len(task.examples):
                texts = dict(pending)
                directory.keep(name, {}, texts)
                stop.check()
                progress.update(before + len(texts))
    return [texts[index] for index in range(len(task.examples))]


def losses(config: FewShot, checkpoint: bridge.Checkpoint, task: Task) -> np.ndarray:
    """Loss per token of the published solutions, in nats."""
    words = checkpoint.tokenizer
    encoded = encoding.encode_examples(
        task.examples,
        words,
        num_tokens=min(words.size, checkpoint.config.vocab_size),
        max_length=checkpoint.config.max_positions,
        prefix=words.prefix(config.bos),
    )
    if len(encoded) < len(task.examples):
        raise UserError(f"{encoded.dropped[0]}: prompts and solutions do not fit the model")
    memory = int(config.memory_gb * 2**30)
    found = scoring.evaluate(checkpoint.params, checkpoint.config, encoded, memory=memory)
    return found["loss_per_token"]


def compare(
    config: FewShot, arrays: Mapping[str, np.ndarray], models: tuple[str, ...]
) -> list[dict[str, Any]]:
    """A row for each number of shots and model: means, changes to full and their intervals.

    None where a cut left the finite numbers.
    """
    rows = []
    for shots in config.shots:
        for model in models:
            row: dict[str, Any] = {"shots": shots, "model": model}
            for name in (*MARKS, "loss"):
                full, values = arrays[f"{shots}/full/{name}"], arrays[f"{shots}/{model}/{name}"]
                row[name] = or_none(np.mean(values))
                for label, difference in (("", values), ("_change", values - full)):
                    interval = statistics.paired_bootstrap(
                        difference[None, :, None],
                        np.ones((len(values), 1)),
                        seed=config.seed,
                        samples=config.bootstrap,
                    )
                    row[f"{name}{label}_low"] = or_none(interval.low[0])
                    row[f"{name}{label}_high"] = or_none(interval.high[0])
                row[f"{name}_change"] = or_none(np.mean(values - full))
            row["not_finite"] = int(row["loss"] is None)
            rows.append(row)
    return rows


def report(summary: Mapping[str, Any]) -> None:
    """Print accuracy and loss by number of shots, with the change of every cut."""
    labels = dict.fromkeys(name.rsplit("/", 1)[0] for name in summary)
    print(f"  {'shots/model':28s}{'right':>8s}{'change':>24s}{'strict':>8s}{'loss':>8s}")
    for label in labels:
        found = {name: summary[f"{label}/{name}"] for name in ("number", "strict", "loss")}
        if None in found.values():
            print(f"  {label:28s}{'-':>8s}{'-':>24s}{'-':>8s}{'-':>8s}")
            continue
        change = " ".join(
            f"{100 * summary[f'{label}/number_change{end}']:+.1f}" for end in ("", "_low", "_high")
        )
        cells = f"{found['number']:8.1%}{change:>24s}{found['strict']:8.1%}{found['loss']:8.3f}"
        print(f"  {label:28s}{cells}")
