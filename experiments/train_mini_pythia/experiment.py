"""The training of the small Pythia itself: train, save, measure, draw, print."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from experiments.run import memory, table
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.follow import follow
from experiments.run.program import Place
from experiments.train_mini_pythia import figures as figures_mini_pythia
from experiments.train_mini_pythia.settings import MiniPythia
from experiments.train_mini_pythia.setup import Setup, build
from mini_pythia import learning
from mini_pythia.measure import by_task, half_time, measure, tokenize_prompts
from mini_pythia.prompts import write_prompts
from training.checkpoint import Store
from training.loop import Measurement, Record, State


def main(config: MiniPythia, place: Place) -> None:
    """Settings in, run directory out."""
    _require_memory(config)
    setup = build(config)
    directory = open_run(place, config)
    report(run(setup, directory), directory)


def redraw(out: str) -> None:
    """Draw the figures of a finished run again, from its arrays alone."""
    directory, config = open_finished(out, "train_mini_pythia", MiniPythia)
    curves = figures_mini_pythia.curves(directory.read_arrays())
    for name, figure in figures_mini_pythia.draw(curves, config.alpha):
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
    directory.write_text("checkpoints/tokenizer.json", setup.tokenizer.to_str(pretty=True))
    followed = learning.followed(setup.record_prompts, setup.tokenizer, setup.model)

    def publish(step: int, state: State) -> None:
        if step in setup.checkpoints:  # others are stored on request, to be continued
            learning.publish(setup.model, state, directory.checkpoints, step)

    arrays, final = follow(
        setup.trainer(),
        [Measurement("prompts", followed, frozenset(setup.stops))],
        directory,
        store=Store(directory.checkpoints / "training_state", keep=2),
        checkpoint_steps=setup.checkpoints,
        before_save=publish,
        show=show,
    )
    params = jax.tree.map(lambda leaf: leaf[0], final.params)
    arrays["losses"] = np.asarray(final.losses)
    directory.write_arrays(arrays)
    curves = figures_mini_pythia.curves(arrays)
    summary = summarise(setup, curves, evaluate(setup, params))
    for name, figure in figures_mini_pythia.draw(curves, setup.config.alpha):
        directory.save_figure(figure, name)
    directory.finish(summary)
    return summary


def show(record: Record) -> dict[str, float]:
    """The figures of the progress line."""
    found = record.measured.get("prompts")
    if found is None:
        return {}
    loss = {"loss": float(record.loss[0])} if np.isfinite(record.loss[0]) else {}
    names = {"p_the": "story/p_the", "p_name": "story/p_answer"}
    return {**loss, **{label: float(found[name][0]) for label, name in names.items()}}


def evaluate(setup: Setup, params: Any) -> dict[str, dict[str, np.ndarray]]:
    """task -> figure -> one value per test prompt."""
    prompts = tokenize_prompts(setup.test_prompts, setup.tokenizer)
    return by_task(measure(params, setup.model, prompts.batch, prompts.the), prompts.slices)


def summarise(
    setup: Setup,
    arrays: Mapping[str, np.ndarray],
    test: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, float]:
    """test/TASK/FIGURE with its standard error over prompts, bayes/TASK/FIGURE, half-times."""
    summary = learning.with_errors(test)
    for task in test:
        truths = setup.test_prompts[task]
        for name in ("p_the", "p_answer"):
            summary[f"bayes/{task}/{name}"] = float(np.mean([truth[name] for truth in truths]))
        summary[f"test/{task}/prompts"] = len(truths)
    for label, name in (("noise", "p_the"), ("name", "p_answer")):
        half = half_time(arrays["steps"], arrays[f"story/{name}"])
        summary[f"learning/{label}_half_step"] = half
    summary["loss/last_50_steps"] = float(arrays["loss"][-50:].mean(dtype=np.float64))
    return summary


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
