"""The training of the small Pythia itself: train, save, measure, draw, print."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.run import memory, stop, table
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.program import Place
from experiments.train_mini_pythia import figures as figures_mini_pythia
from experiments.train_mini_pythia.recorder import Recorder
from experiments.train_mini_pythia.settings import MiniPythia
from experiments.train_mini_pythia.setup import Setup, build
from mini_pythia.measure import by_task, half_time, measure, tokenize_prompts
from mini_pythia.prefetch import prefetch
from mini_pythia.prompts import write_prompts
from mini_pythia.schedule import segments
from mini_pythia.store import StateStore
from mini_pythia.training import State, advance


def main(config: MiniPythia, place: Place) -> None:
    """Settings in, run directory out."""
    _require_memory(config)
    setup = build(config)
    directory = open_run(place, config)
    report(run(setup, directory), directory)


def redraw(out: str) -> None:
    """Draw the figures of a finished run again, from its arrays alone."""
    directory, config = open_finished(out, "train_mini_pythia", MiniPythia)
    for name, figure in figures_mini_pythia.draw(directory.read_arrays(), config.alpha):
        print(directory.save_figure(figure, name))


def _require_memory(config: MiniPythia) -> None:
    """Weights, gradients and two moments; stream, scores, hidden units and logits of a batch."""
    width, layers = config.d_model, config.num_layers
    weights = 12 * layers * width**2 + 2 * config.vocab_size * width
    kept = layers * (8 * width + config.num_heads * config.length) + config.vocab_size
    batch = config.batch_size * config.length * kept
    memory.require(
        4.0 * (4 * weights + batch), "--num_layers, --d_model, --vocab_size or --batch_size"
    )


def run(setup: Setup, directory: RunDirectory) -> dict[str, float]:
    """Train, save and measure; returns what summary.json holds."""
    prompts = directory.own("prompts/")
    write_prompts(setup.validation_prompts, prompts / "validation")
    write_prompts(setup.test_prompts, prompts / "test")
    directory.own("checkpoints/")
    setup.tokenizer.save(str(directory.checkpoints / "tokenizer.json"))
    with StateStore(directory.checkpoints / "training_state") as store:
        start = setup.start()
        start = store.restore(start) or start
        recorder = Recorder(setup, directory, store, int(start.step))
        final = start
        for step, state in train(setup, start):
            stop.check()
            recorder.stop(step, state)
            final = state
        recorder.finish()
    arrays = {name: _column(recorder.records, name) for name in recorder.records[0]}
    arrays = {"steps": arrays.pop("step"), **arrays, "loss": np.asarray(final.losses)}
    directory.write_arrays(arrays)
    summary = summarise(setup, arrays, evaluate(setup, final))
    for name, figure in figures_mini_pythia.draw(arrays, setup.config.alpha):
        directory.save_figure(figure, name)
    directory.finish(summary)
    return summary


def train(setup: Setup, state: State) -> Iterator[tuple[int, State]]:
    """The state at every stop from this one on, dispatched but not waited for."""
    begin, size = int(state.step), setup.config.block_steps
    if begin == 0:
        yield 0, state
    if begin == setup.config.steps:
        return
    number = begin // size
    blocks = prefetch(setup.block, number, -(-setup.config.steps // size))
    block = next(blocks)
    for start, end in segments(setup.stops, size, begin):
        if start // size != number:
            number, block = number + 1, next(blocks)
        state = advance(
            state,
            block,
            jnp.int32(start - number * size),
            jnp.int32(end - number * size),
            config=setup.model,
            settings=setup.settings,
        )
        if end in setup.stops:
            yield end, state


def evaluate(setup: Setup, state: State) -> dict[str, dict[str, np.ndarray]]:
    """task -> figure -> one value per test prompt."""
    prompts = tokenize_prompts(setup.test_prompts, setup.tokenizer)
    return by_task(measure(state.params, setup.model, prompts.batch, prompts.the), prompts.slices)


def summarise(
    setup: Setup,
    arrays: Mapping[str, np.ndarray],
    test: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, float]:
    """test/TASK/FIGURE with its standard error over prompts, bayes/TASK/FIGURE, half-times."""
    summary: dict[str, float] = {}
    for task, figures in test.items():
        for name, values in figures.items():
            summary[f"test/{task}/{name}"] = float(values.mean(dtype=np.float64))
            spread = float(values.std(ddof=1, dtype=np.float64))
            summary[f"test/{task}/{name}/sem"] = spread / len(values) ** 0.5
        truths = setup.test_prompts[task]
        for name in ("p_the", "p_answer"):
            summary[f"bayes/{task}/{name}"] = float(np.mean([truth[name] for truth in truths]))
        summary[f"test/{task}/prompts"] = len(truths)
    for label, name in (("noise", "p_the"), ("name", "p_answer")):
        half = half_time(arrays["steps"], arrays[f"story/{name}"])
        summary[f"learning/{label}_half_step"] = half
    summary["loss/last_50_steps"] = float(arrays["loss"][-50:].mean(dtype=np.float64))
    return summary


def _column(records: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([record[name] for record in records])


def report(summary: Mapping[str, float], directory: RunDirectory) -> None:
    """Print the figures that answer the question, and where the rest is."""
    rows = []
    for task in (key.split("/")[1] for key in summary if key.endswith("/kl")):
        row: dict[str, Any] = {"test prompts": task}
        for title, name in (("p( the) (Bayes)", "p_the"), ("p(answer) (Bayes)", "p_answer")):
            mean, error = summary[f"test/{task}/{name}"], summary[f"test/{task}/{name}/sem"]
            row[title] = f"{mean:.3f} ± {error:.3f} ({summary[f'bayes/{task}/{name}']:.2f})"
        rows.append(row | {"accuracy": summary[f"test/{task}/accuracy"]})
    print(table.text(rows))
    print(f"giver's name at a story: {summary['test/story/p_distractor']:.3f}")
    print(
        f"half of the final value reached at a story: p( the) at step "
        f"{summary['learning/noise_half_step']:.0f}, p(name) at step "
        f"{summary['learning/name_half_step']:.0f}"
    )
    print(f"checkpoints: {directory.path / 'checkpoints'}")
    print(f"prompts: {directory.path / 'prompts'}")
    print(f"figures: {directory.path / 'figures'}")
