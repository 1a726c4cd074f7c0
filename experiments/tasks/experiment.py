"""Tasks read and described, without a model."""

import collections
import pathlib
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bridge import tasks, tokenizer
from bridge.tasks import Encode, Task, frequency, protocol, split
from bridge.tasks.metrics import text
from bridge.tasks.protocol import Protocol
from experiments.run import style
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.program import Place, UserError, user_errors
from experiments.tasks.settings import ShowTasks


def main(config: ShowTasks, place: Place) -> None:
    """Settings in, descriptions out."""
    if not config.tasks:
        print("\n\n".join(one.help() for one in tasks.PUBLISHED.values()))
        print(f"\nour own: {' '.join(tasks.NAMES)}, relations:NAME")
        print(f"of other files: {' '.join(f'{reader}:FILE' for reader in tasks.READERS)}")
        return
    found = [read(config, text) for text in config.tasks]
    if len({task.name for task, _ in found}) < len(found):
        raise UserError("--tasks names one task twice")
    files = {f"tasks {name}": name for text in config.tasks for name in tasks.files(text)}
    directory = open_run(place, config, inputs=files | {"tokenizer": config.tokenizer})
    run(config, found, directory)


def run(
    config: ShowTasks, found: list[tuple[Task, Protocol]], directory: RunDirectory
) -> dict[str, Any]:
    """Print and write what the tasks are; returns what summary.json holds."""
    encode = read_encode(config)
    summary: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    directory.rewrite_metrics([])
    for task, rules in found:
        figures = describe(config, task, rules, encode)
        show(config, task, rules, figures)
        summary |= {f"{task.name}/{name}": value for name, value in figures.items()}
        directory.append_metrics({"task": task.name, **figures})
        arrays[f"{task.name}/tokens"] = np.array([len(encode(e.prompt)) for e in task.examples])
    directory.write_arrays(arrays)
    directory.save_figure(draw(arrays), "lengths")
    directory.finish(summary)
    return summary


def redraw(out: str) -> None:
    """Draw the lengths again, from the arrays of a finished run."""
    directory, _ = open_finished(out, "tasks", ShowTasks)
    print(directory.save_figure(draw(directory.read_arrays()), "lengths"))


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


def draw(arrays: Mapping[str, np.ndarray]) -> Figure:
    """How long the prompts of each task are."""
    figure, panels = style.figure(1, 1, width=5.0, height=3.0)
    axes = panels[0, 0]
    names = [name for name in arrays if name.endswith("/tokens")]
    largest = max(int(arrays[name].max()) for name in names)
    edges = np.linspace(0, largest + 1, 41).tolist()
    for name in names:
        label = name.removesuffix("/tokens")
        axes.hist(arrays[name], edges, histtype="step", density=True, label=label)
    axes.set(xlabel="tokens of the prompt", ylabel="density of examples")
    axes.legend()
    return figure
