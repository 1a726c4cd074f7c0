"""The noisy-recall run itself: train, measure, draw, and print what was found."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from experiments.noisy_recall import figures as figures_recall
from experiments.run import memory, provenance, table
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.follow import follow
from experiments.run.program import Place, UserError, user_errors
from experiments.run.recall_setup import digest, restore
from toy.settings import NoisyRecall
from toy.setup import Setup, build
from training import seeds
from training.loop import Record, State, Trainer, log_spaced


def main(config: NoisyRecall, place: Place) -> None:
    """Settings in, run directory out."""
    _require_memory(config)
    with user_errors():
        setup = build(config)
        trainer = setup.trainer()
    inputs = {"text": config.text, "start_from": config.start_from}
    directory = open_run(place, config, inputs=inputs, digests=_digests(config))
    with jax.default_matmul_precision(config.matmul_precision):
        summary = run(setup, trainer, directory)
    report(summary, setup, directory)


def run(setup: Setup, trainer: Trainer, directory: RunDirectory) -> dict[str, float]:
    """Train, measure, draw; returns what summary.json holds."""
    arrays, state = trained(setup, trainer, directory)
    measured = evaluate(setup, trainer, state)
    # Drawn while the device still measures.
    for name, figure in figures_recall.along_training(arrays):
        directory.save_figure(figure, name)
    arrays |= {f"final/{name}": np.asarray(value) for name, value in measured.items()}
    directory.write_arrays(arrays)
    summary = summarise(arrays)
    for name, figure in figures_recall.at_the_end(arrays, setup.config.alpha):
        directory.save_figure(figure, name)
    directory.finish(summary)
    return summary


def redraw(out: str) -> None:
    """Draw the figures of a finished run again, from its arrays alone."""
    directory, config = open_finished(out, "noisy_recall", NoisyRecall)
    for name, figure in figures_recall.draw(directory.read_arrays(), config.alpha):
        print(directory.save_figure(figure, name))


def trained(
    setup: Setup, trainer: Trainer, directory: RunDirectory
) -> tuple[dict[str, np.ndarray], State]:
    """Train to the end, measuring at steps spaced in proportion and at every so many."""
    config = setup.config
    begin = functools.partial(warm_start, config.start_from, trainer)
    return follow(
        trainer,
        setup.measurements(),
        directory,
        checkpoint_steps=log_spaced(config.steps, every=config.checkpoint_every or config.steps),
        show=shown,
        start=begin if config.start_from else None,
    )


def warm_start(path: str, trainer: Trainer) -> State:
    """The last weights of another run as the start of this one; UserError where they do not fit."""
    _, _, state = restore(path)
    here, there = (jax.tree.map(jnp.shape, s) for s in (trainer.abstract().params, state.params))
    if here != there:
        raise UserError(f"--start_from={path}: its learned weights have other names or shapes")
    # Copied, because training consumes the state that it begins with.
    return trainer.begin(*jax.tree.map(jnp.copy, (state.params, state.frozen)))


def shown(record: Record) -> dict[str, float]:
    """What the progress line tells of a record."""
    full = record.measured.get("models")
    if not full:
        return {}
    names = {"loss": "noisy/full/loss", "p_noise": "clean/full/p_noise"}
    return {short: float(seeds.mean(full[name])) for short, name in names.items()}


def evaluate(setup: Setup, trainer: Trainer, state: State) -> Mapping[str, Array]:
    """Final figures of the full model, the followed cuts and the whole curves over rho.

    Arrays on the device, which may still be at work on them.
    """
    return trainer.measure(setup.last())(state)


def summarise(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over seeds of the final figures, as seeds.told has them; of how many in `seeds`."""
    summary: dict[str, float] = {**seeds.counted(arrays)}
    arrays = seeds.surviving(arrays)
    for name, values in arrays.items():
        if name.startswith("final/") and values.ndim == 1:
            summary |= seeds.told(name.removeprefix("final/"), values)
    steps = arrays["models/steps"]
    for label, name in (("noise", "p_noise"), ("recall", "p_correct")):
        curve = seeds.mean(arrays[f"models/clean/full/{name}"])
        reached = steps[np.argmax(curve >= curve[-1] / 2)]
        summary[f"learning/{label}_half_step"] = int(reached)
    return summary


def report(summary: dict[str, float], setup: Setup, directory: RunDirectory) -> None:
    """Print the figures that answer the question, and where the pictures are."""
    columns = {"p(correct)": "p_correct", "p(noise)": "p_noise", "accuracy": "accuracy"}
    rows = [
        {"clean sequences": name}
        | {title: summary[f"clean/{name}/{metric}"] for title, metric in columns.items()}
        for name in ("full", *map(str, setup.interventions), *setup.config.variants)
    ]
    print(table.text(rows))
    if told := seeds.sentence(summary):
        print(f"{told}.")
    best = max(rows, key=lambda row: float(row["p(correct)"]))
    told = (
        f"On clean sequences the full model still says noise with probability "
        f"{rows[0]['p(noise)']:.3f}"
    )
    if best is not rows[0]:
        told += (
            f"; cut to {best['clean sequences']} it says noise with {best['p(noise)']:.3f} and the "
            f"correct token with {best['p(correct)']:.3f} instead of {rows[0]['p(correct)']:.3f}"
        )
    print(f"{told}.")
    print(
        f"attention (noisy sequences): correct {summary['noisy/full/attention_correct']:.3f}, "
        f"noise {summary['noisy/full/attention_noise']:.3f}"
    )
    print(
        f"half of the final value reached: p(noise) at step "
        f"{summary['learning/noise_half_step']}, p(correct) at step "
        f"{summary['learning/recall_half_step']}"
    )
    for name in ("clean", "noisy"):
        if summary[f"{name}/dropped"] > 0:
            print(f"{name}: {summary[f'{name}/dropped']:g} scored positions did not fit")
    print(f"figures: {directory.path / 'figures'}")


def _digests(config: NoisyRecall) -> dict[str, str]:
    """What the results depend on beside the settings: the text, and the weights begun with."""
    found = {}
    if config.text:
        with user_errors():
            found["text"] = provenance.of_files(config.text)
    if config.start_from:
        found["start_from"] = digest(config.start_from, (None,))
    return found


def _require_memory(config: NoisyRecall) -> None:
    memory.require(
        memory.recall(
            num_tokens=config.num_tokens + config.num_noise,
            length=config.length,
            d_model=config.d_model,
            d_hidden=config.d_hidden or 4 * config.d_model,
            layers=len(config.feed_forward),
            batch_size=config.batch_size,
            num_seeds=config.num_seeds,
            eval_batch=max(config.eval_batch, config.final_batch),
        ),
        "--d_model, --length, --num_tokens, --num_seeds or a batch",
    )
