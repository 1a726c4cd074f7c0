"""The noisy-recall study: train, measure, and tell what was found."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from truncated_weights.experiments.noisy_recall import figures
from truncated_weights.experiments.run import ram as memory
from truncated_weights.experiments.run import table
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.follow import follow
from truncated_weights.experiments.run.inputs.recall_setup import digest, restore
from truncated_weights.experiments.run.program import UserError
from truncated_weights.experiments.run.study import Input, Memory, Study
from truncated_weights.toy import language
from truncated_weights.toy.settings import NoisyRecall
from truncated_weights.toy.setup import Setup, build
from truncated_weights.training import reductions
from truncated_weights.training.loop import Record, State, Trainer, log_spaced
from truncated_weights.training.records import Records, labelled, name, summary


def prepare(config: NoisyRecall) -> Setup:
    """What the settings stand for; ValueError where they do not go together or fit the devices."""
    setup = build(config)
    setup.trainer()
    return setup


def measure(setup: Setup, directory: RunDirectory) -> Records:
    """Along training, at steps spaced in proportion and at every so many; then at its end.

    Block `final` has the full model, the followed cuts and the whole curves over rho, on more
    sequences.
    """
    config, trainer = setup.config, setup.trainer()
    with jax.default_matmul_precision(config.matmul_precision):
        records, state = follow(
            trainer,
            setup.measurements(),
            directory,
            checkpoint_steps=log_spaced(
                config.steps, every=config.checkpoint_every or config.steps
            ),
            show=shown,
            start=functools.partial(warm_start, config.start_from, trainer)
            if config.start_from
            else None,
        )
        at_the_end = trainer.measure(setup.last())(state)
    return records.with_block("final", lambda: labelled(at_the_end, {"seed": trainer.seeds}))


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
    found = record.measured.get("models")
    names = {
        "loss": name("loss", set="noisy", model="full"),
        "p_noise": name("p_noise", set="clean", model="full"),
    }
    return {k: float(reductions.finite_mean(found[v])) for k, v in names.items()} if found else {}


def summarise(setup: Setup, records: Records) -> dict[str, Any]:
    """Means over seeds of the final figures, and when noise and recall reach half of theirs."""
    full = records.models.sel(set="clean", model="full")
    return summary(records.final) | {
        "learning/noise_half_step": reductions.half_step(reductions.mean(full.p_noise).value),
        "learning/recall_half_step": reductions.half_step(reductions.mean(full.p_correct).value),
    }


def tell(setup: Setup, records: Records, found: Mapping[str, Any]) -> None:
    """Print the figures that answer the question."""
    clean = {
        model: {
            metric: reductions.mean(records.final[metric].sel(set="clean", model=model))
            for metric in ("p_correct", "p_noise", "accuracy")
        }
        for model in ("full", *map(str, setup.interventions), *setup.config.variants)
    }
    print(
        table.text(
            [
                {
                    "clean sequences": model,
                    "p(correct)": table.measured(means["p_correct"]),
                    "p(noise)": table.measured(means["p_noise"]),
                    "accuracy": table.measured(means["accuracy"]),
                }
                for model, means in clean.items()
            ]
        )
    )
    best = max(clean, key=lambda model: float(clean[model]["p_correct"].value))
    said = {model: {k: float(v.value) for k, v in clean[model].items()} for model in clean}
    told = (
        f"On clean sequences the full model still says noise with probability "
        f"{said['full']['p_noise']:.3f}"
    )
    if best != "full":
        told += (
            f"; cut to {best} it says noise with {said[best]['p_noise']:.3f} and the correct token "
            f"with {said[best]['p_correct']:.3f} instead of {said['full']['p_correct']:.3f}"
        )
    print(f"{told}.")
    noisy = records.final.sel(set="noisy", model="full").mean("seed")
    print(
        f"attention (noisy sequences): correct {float(noisy.attention_correct):.3f}, "
        f"noise {float(noisy.attention_noise):.3f}"
    )
    print(
        f"half of the final value reached: p(noise) at step "
        f"{found['learning/noise_half_step']:.3g}, p(correct) at step "
        f"{found['learning/recall_half_step']:.3g}"
    )
    for part in ("clean", "noisy"):
        lost = float(records.final.dropped.sel(set=part).mean())
        if lost > 0:
            print(f"{part}: {lost:g} scored positions did not fit")


def inputs(config: NoisyRecall) -> dict[str, Input]:
    """What the results depend on beside the settings: the text, and the weights begun with."""
    return {
        "text": Input(language.file_of(config.text)),
        "start_from": Input(config.start_from, lambda path: digest(path, (None,))),
    }


def needs(config: NoisyRecall) -> Memory:
    """Memory of training and of the final evaluation."""
    return Memory(
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


STUDY = Study(
    name="noisy_recall",
    settings=NoisyRecall,
    prepare=prepare,
    measure=measure,
    figures=figures.figures,
    summarise=summarise,
    tell=tell,
    inputs=inputs,
    memory=needs,
)
