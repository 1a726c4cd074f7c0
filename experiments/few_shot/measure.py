"""Answers generated, kept batch by batch, marked and compared."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from truncated_weights import bridge
from truncated_weights.bridge import answers, encoding, scoring, surgery, tasks
from truncated_weights.bridge.tasks import Task
from truncated_weights.bridge.tasks.metrics import generated
from truncated_weights.experiments.few_shot import figures
from truncated_weights.experiments.few_shot.settings import FewShot
from truncated_weights.experiments.run import model_scores, stop
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.inputs import model_setup
from truncated_weights.experiments.run.parts import Part, measured
from truncated_weights.experiments.run.program import UserError, note, user_errors
from truncated_weights.experiments.run.progress import Progress
from truncated_weights.experiments.run.study import Input, Study
from truncated_weights.training.records import Name, Records, labelled, name, spelled
from truncated_weights.truncation.finite import NotFiniteError

MARKS = generated.NAMES["number"]


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The model, the prompts by number of shots, and the cuts."""

    config: FewShot
    checkpoint: bridge.Checkpoint
    asked: Mapping[int, Task]
    models: tuple[str, ...]


def prepare(config: FewShot) -> Plan:
    """Read the model, and the problems for each number of shots; ValueError says what cannot be."""
    checkpoint = bridge.load(config.model, dtype=config.dtype, ignore=config.ignore_keys)
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
    return Plan(config, checkpoint, asked, ("full", *config.interventions))


def measure(plan: Plan, directory: RunDirectory) -> Records:
    """Answer, mark, compare.

    scores: every mark, and the loss of the solution [shots, model, example]; NaN where a cut left
    the finite numbers. means: each and its change to the full model, with the ends of their
    intervals [shots, model].
    """
    config, words = plan.config, plan.checkpoint.tokenizer
    examples = [example for task in plan.asked.values() for example in task.examples]
    print("\n".join(model_setup.beginnings(words, examples, config.bos)))
    print(model_setup.endings(plan.checkpoint))
    progress = Progress(len(plan.models) * len(examples), label="answer")
    places = [(model, shots) for model in plan.models for shots in plan.asked]
    parts: list[Part] = []
    for model, shots in places:
        kept, before = f"{shots}_{plan.models.index(model)}", sum(part.size for part in parts)
        keep = functools.partial(directory.keep, f"{kept}_texts", {})
        begun = directory.kept(f"{kept}_texts")
        done = functools.partial(_done, keep, progress, before)
        work = functools.partial(answered, plan, model, shots, begun[1] if begun else {}, done)
        parts.append(Part(kept, work, len(plan.asked[shots].examples)))
    said: list[dict[str, Any]] = []
    scores: dict[Name, list[np.ndarray]] = {}
    found = measured(directory, parts, label="answer", progress=progress)
    for (model, shots), (_, part) in zip(places, found, strict=True):
        task = plan.asked[shots]
        texts = list(map(json.loads, part.answers.text.values.tolist()))
        marked = [_marks(task, index, text) for index, text in enumerate(texts)]
        said += [
            {"shots": shots, "model": model, "question": example.item, "gold": example.gold,
             "generated": text} | marks
            for example, text, marks in zip(task.examples, texts, marked, strict=True)
        ]  # fmt: skip
        own = {mark: np.array([marks[mark] for marks in marked]) for mark in MARKS}
        for score, values in (own | {"loss": part.answers.loss.values}).items():
            scores.setdefault(name(score, "example", model=model), []).append(values)
    directory.write_jsonl("generations.jsonl", said)
    block = labelled(
        {key: np.stack(values) for key, values in scores.items()}, {"shots": list(plan.asked)}
    )
    means = compare(config, block)
    rows = rows_of(means)
    directory.write_csv("answers.csv", rows)
    directory.rewrite_metrics(rows)
    return Records({"scores": block, "means": means})


def answered(
    plan: Plan,
    model: str,
    shots: int,
    texts: Mapping[str, str],
    done: Callable[[Mapping[int, str]], None],
) -> Records:
    """Of every problem the generated text, and the loss of its solution, of one model.

    Texts are JSON, which any character passes through; null where a cut left the finite numbers.
    texts: those of an interrupted run. done: called with all so far after every batch.
    """
    task, whole = plan.asked[shots], plan.checkpoint
    edited = whole if model == "full" else bridge.cut(whole, model)
    count = len(task.examples)
    found: list[str] | list[None]
    try:
        found = answer(plan.config, edited, task, {int(k): v for k, v in texts.items()}, done)
        loss = losses(plan.config, edited, task)
    except NotFiniteError as error:
        if edited is whole:
            raise
        note(f"{model}, {shots} shots: no figures, {error}")
        found, loss = [None] * count, np.full(count, np.nan)
    columns = {"text": ("example", list(map(json.dumps, found))), "loss": ("example", loss)}
    return Records({"answers": xr.Dataset(columns)})


def answer(
    config: FewShot,
    checkpoint: bridge.Checkpoint,
    task: Task,
    texts: dict[int, str],
    done: Callable[[Mapping[int, str]], None],
) -> list[str]:
    """The generated text of every problem, those given kept."""
    missing = [index for index in range(len(task.examples)) if index not in texts]
    fresh = 0
    with user_errors():
        given = answers.stream(
            checkpoint,
            [task.examples[index] for index in missing],
            task.marking,
            batch_size=config.batch,
            prefix=checkpoint.tokenizer.prefix(config.bos),
        )
        for place, text in given:
            texts[missing[place]] = text
            fresh += 1
            if fresh % config.batch == 0 or fresh == len(missing):
                done(texts)
                stop.check()
    return [texts[index] for index in range(len(task.examples))]


def _done(
    keep: Callable[[Mapping[int, str]], None],
    progress: Progress,
    before: int,
    texts: Mapping[int, str],
) -> None:
    keep(texts)
    progress.update(before + len(texts))


def _marks(task: Task, index: int, text: str | None) -> dict[str, Any]:
    if text is None:
        return dict.fromkeys(MARKS, np.nan)
    return dict(generated.marks(task.examples[index], text, task.marking))


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


def compare(config: FewShot, scores: xr.Dataset) -> xr.Dataset:
    """Means, changes to the full model, and their intervals [shots, model]."""
    changes = scores - scores.sel(model="full", drop=True)
    both = {
        f"{score}{end}": block[score]
        for score in (*MARKS, "loss")
        for end, block in (("", scores), ("_change", changes))
    }
    return model_scores.intervals(xr.Dataset(both), seed=config.seed, samples=config.bootstrap)


def rows_of(means: xr.Dataset) -> list[dict[str, Any]]:
    """A row for each number of shots and model; None where a cut left the finite numbers."""
    rows = model_scores.rows(means, "shots", "model")
    return [row | {"not_finite": int(row["loss"] is None)} for row in rows]


def summarise(plan: Plan, records: Records) -> dict[str, Any]:
    """SHOTS/MODEL/FIGURE."""
    return {
        spelled(name(figure, shots=row["shots"], model=row["model"])): value
        for row in rows_of(records.means)
        for figure, value in row.items()
        if figure not in ("shots", "model")
    }


def tell(plan: Plan, records: Records, summary: Mapping[str, Any]) -> None:
    """Print accuracy and loss by number of shots, with the change of every cut."""
    print(f"  {'shots/model':28s}{'right':>8s}{'change':>24s}{'strict':>8s}{'loss':>8s}")
    for row in rows_of(records.means):
        label = f"{row['shots']}/{row['model']}"
        if row["not_finite"]:
            print(f"  {label:28s}{'-':>8s}{'-':>24s}{'-':>8s}{'-':>8s}")
            continue
        change = " ".join(
            f"{100 * row[f'number_change{end}']:+.1f}" for end in ("", "_low", "_high")
        )
        cells = f"{row['number']:8.1%}{change:>24s}{row['strict']:8.1%}{row['loss']:8.3f}"
        print(f"  {label:28s}{cells}")


def inputs(config: FewShot) -> dict[str, Input]:
    """Answers kept by an interrupted run are used only where model and problems are the same."""
    names = ("model", "problems", "exemplars", "train")
    return {name: Input(getattr(config, name)) for name in names}


STUDY = Study(
    name="few_shot",
    settings=FewShot,
    prepare=prepare,
    measure=measure,
    figures=figures.figures,
    summarise=summarise,
    tell=tell,
    inputs=inputs,
    leaves=("generations.jsonl",),
)
