"""Tasks read and described, without a model."""

import collections
import dataclasses
import pathlib
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from truncated_weights.bridge import tasks, tokenizer
from truncated_weights.bridge.tasks import Encode, Task, frequency, protocol, split
from truncated_weights.bridge.tasks.metrics import text
from truncated_weights.bridge.tasks.protocol import Protocol
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.experiments.run.program import UserError, user_errors
from truncated_weights.experiments.run.study import Input, Study
from truncated_weights.experiments.tasks.settings import ShowTasks
from truncated_weights.training.records import Records, labelled, name, spelled


@dataclasses.dataclass(frozen=True, eq=False)
class Described:
    """A task, the protocol that it is asked under, and its figures."""

    config: ShowTasks
    task: Task
    rules: Protocol
    figures: Mapping[str, Any]


def tell_all(config: ShowTasks) -> bool:
    """Without --tasks print every task that there is."""
    if not config.tasks:
        print("\n\n".join(one.help() for one in tasks.PUBLISHED.values()))
        print(f"\nour own: {' '.join(tasks.NAMES)}, relations:NAME")
        print(f"of other files: {' '.join(f'{reader}:FILE' for reader in tasks.READERS)}")
    return not config.tasks


def prepare(config: ShowTasks) -> tuple[Described, ...]:
    """Read and describe every task."""
    found = [read(config, text) for text in config.tasks]
    if len({task.name for task, _ in found}) < len(found):
        raise UserError("--tasks names one task twice")
    encode = read_encode(config)
    return tuple(
        Described(config, task, rules, describe(config, task, rules, encode))
        for task, rules in found
    )


def measure(plan: tuple[Described, ...], directory: RunDirectory) -> Records:
    """lengths: tokens of every prompt [task, example]."""
    directory.rewrite_metrics({"task": one.task.name, **one.figures} for one in plan)
    encode = read_encode(plan[0].config)
    lengths = {
        name("tokens", "example", task=one.task.name): np.array(
            [len(encode(example.prompt)) for example in one.task.examples]
        )
        for one in plan
    }
    return Records({"lengths": labelled(lengths, {})})


def summarise(plan: tuple[Described, ...], records: Records) -> dict[str, Any]:
    """TASK/FIGURE."""
    return {
        spelled(name(figure, task=one.task.name)): value
        for one in plan
        for figure, value in one.figures.items()
    }


def tell(plan: tuple[Described, ...], records: Records, summary: Mapping[str, Any]) -> None:
    """Print every task."""
    for one in plan:
        show(one.config, one.task, one.rules, one.figures)


def read_encode(config: ShowTasks) -> Encode:
    """The tokenizer of --tokenizer; without one, a token for each word."""
    if not config.tokenizer:
        return lambda text: range(len(text.split()))
    try:
        with user_errors():
            return tokenizer.read(config.tokenizer)
    except ImportError as error:
        raise UserError(str(error)) from error


def read(config: ShowTasks, name: str) -> tuple[Task, Protocol]:
    """A task with its counts, and the protocol that it is asked under."""
    with user_errors():
        task = tasks.load(
            name,
            read_encode(config),
            count=config.num_examples or None,
            seed=config.seed,
            add_space=config.add_space,
        )
        if config.counts:
            task = frequency.join(task, pathlib.Path(config.counts))
        return task, protocol.of(config.protocol, tasks.card_of(name))


def describe(config: ShowTasks, task: Task, rules: Protocol, encode: Encode) -> dict[str, Any]:
    """The figures of a task: sizes of its parts, lengths, what guessing scores."""
    examples = task.examples
    with user_errors():
        validation, test = rules.split(
            examples, validation=config.validation or None, seed=config.seed
        )
    lengths = [len(encode(e.prompt)) for e in examples]
    answers = collections.Counter(e.answer for e in examples)
    commonest, times = answers.most_common(1)[0]
    return {
        "examples": len(examples),
        "items": int(split.items(examples).max()) + 1,
        "validation": len(validation),
        "test": len(test),
        "torn": split.torn(examples, validation, test),
        "tokens_median": float(np.median(lengths)),
        "tokens_longest": max(lengths),
        "answer_tokens_longest": max(len(encode(e.answer)) for e in examples),
        "commonest_answer": commonest,
        "commonest_share": times / len(examples),
        "answers_in_prompt": float(
            np.mean([text.answer_in_prompt(e.prompt, e.answer) for e in examples])
        ),
    }


def show(config: ShowTasks, task: Task, rules: Protocol, figures: Mapping[str, Any]) -> None:
    """Print a task: its card, what was left out, its figures, the first prompts."""
    published = tasks.PUBLISHED.get(task.name)
    print(published.card.text() if published else task.name)
    for line in task.dropped:
        print(f"  left out  {line}")
    for line in rules.lines():
        print(textwrap.fill(line, 98, initial_indent="  ", subsequent_indent="      "))
    print(
        f"  {figures['examples']} examples of {figures['items']} items; for choosing "
        f"{figures['validation']}, for testing {figures['test']}, of these {figures['torn']} share "
        "their item with one for choosing"
    )
    print(
        f"  prompts of {figures['tokens_median']:g} tokens (median) to "
        f"{figures['tokens_longest']}, answers of up to {figures['answer_tokens_longest']}"
    )
    if task.marking.metric == "contains":
        print(f"  {figures['answers_in_prompt']:.1%} of the answers stand in their prompt")
    kind = "best constant answer" if task.closed else "commonest answer"
    print(f"  {kind}: {figures['commonest_answer']!r}, right in {figures['commonest_share']:.2%}")
    for example in task.examples[: config.shown]:
        print(f"  ---\n{example.prompt}[{example.answer}]")
    print()


def figures(config: ShowTasks, records: Records) -> Iterator[Figure]:
    """How long the prompts of each task are."""
    tokens = records.lengths.tokens

    def draw(axes: Axes) -> None:
        edges = np.linspace(0, int(tokens.max()) + 1, 41).tolist()
        for task in map(str, tokens.task.values):
            lengths = tokens.sel(task=task).dropna("example").values
            axes.hist(lengths, edges, histtype="step", density=True, label=task)
        axes.set(xlabel="tokens of the prompt", ylabel="density of examples")

    caption = "How many tokens the prompts of each task have."
    panel = Panel("lengths", "Lengths of prompts", draw, caption)
    yield Figure("lengths", [panel], height=3.0, width=5.0)


STUDY = Study(
    name="tasks",
    settings=ShowTasks,
    prepare=prepare,
    measure=measure,
    figures=figures,
    summarise=summarise,
    tell=tell,
    inputs=lambda config: {
        "tokenizer": Input(config.tokenizer, None),
        **{f"tasks {file}": Input(file, None) for one in config.tasks for file in tasks.files(one)},
    },
    instead=tell_all,
)
