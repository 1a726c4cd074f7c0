"""The training of the small Llama itself: train, save, measure, draw, print."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import numpy as np

import bridge
from experiments.run import table
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.follow import follow
from experiments.run.program import Place, user_errors
from experiments.train_word_problems import figures
from experiments.train_word_problems.settings import WordProblemSettings
from mini_pythia import learning, training, word_problems
from mini_pythia.measure import by_task, measure, tokenize_prompts
from mini_pythia.prompts import Prompt
from mini_pythia.word_problems import WordProblems
from training.checkpoint import Store
from training.loop import Measurement, Record, State


@dataclasses.dataclass(frozen=True)
class Setup:
    """A configuration resolved into the objects a run is made of."""

    config: WordProblemSettings
    model: bridge.Config
    optimizer: training.Settings
    reading: learning.Reading
    devices: tuple[jax.Device, ...]

    def prompts(self, split: Literal["validation", "test"], count: int) -> dict[str, list[Prompt]]:
        """The places of so many problems at which the next token is known."""
        return word_problems.prompts(
            self.config.alpha, count=count, split=split, seed=self.config.seed
        )


def build(config: WordProblemSettings) -> Setup:
    """Resolve a configuration; UserError names the flag that cannot be."""
    with user_errors():
        corpus = WordProblems(config.alpha)
        return Setup(
            config,
            model=bridge.Config(
                vocab_size=config.vocab_size,
                num_layers=config.num_layers,
                d_model=config.d_model,
                num_heads=config.num_heads,
                num_groups=config.num_heads // 2,
                d_ff=3 * config.d_model,
                rotary_fraction=1.0,
                residual="pre",
                norm="rms",
                activation="silu",
                gated=True,
                biases=(),
                family="llama",
            ),
            optimizer=training.Settings(
                steps=config.steps,
                learning_rate=config.learning_rate,
                warmup_steps=config.warmup_steps,
                weight_decay=config.weight_decay,
            ),
            reading=learning.Reading(
                corpus,
                word_problems.train_tokenizer(corpus, vocab_size=config.vocab_size),
                length=config.length,
                batch_size=config.batch_size,
                block_steps=config.block_steps,
                seed=config.seed,
            ),
            devices=learning.devices(config.devices, config.batch_size),
        )


def main(config: WordProblemSettings, place: Place) -> None:
    """Settings in, run directory out."""
    setup = build(config)
    directory = open_run(place, config)
    report(run(setup, directory), directory)


def redraw(out: str) -> None:
    """Draw the figure of a finished run again, from its arrays alone."""
    directory, config = open_finished(out, "train_word_problems", WordProblemSettings)
    figure = figures.curves(directory.read_arrays(), config.alpha)
    print(directory.save_figure(figure, "learning"))


def run(setup: Setup, directory: RunDirectory) -> dict[str, float]:
    """Train, save and measure; returns what summary.json holds."""
    config = setup.config
    word_problems.write(directory.own("problems/"), count=config.test_problems, seed=config.seed)
    directory.own("checkpoints/")
    directory.write_text("checkpoints/tokenizer.json", setup.reading.tokenizer.to_str(pretty=True))
    saved = {*range(0, config.steps, config.checkpoint_every), config.steps}
    recorded = {*range(0, config.steps, config.record_every), *saved}
    places = setup.prompts("validation", config.record_problems)
    followed = learning.followed(places, setup.reading.tokenizer, setup.model)

    def publish(step: int, state: State) -> None:
        if step in saved:  # others are stored on request, to be continued
            learning.publish(setup.model, state, directory.checkpoints, step)

    arrays, final = follow(
        setup.reading.trainer(setup.model, setup.optimizer, setup.devices),
        [Measurement("problems", followed, frozenset(recorded))],
        directory,
        store=Store(directory.checkpoints / "training_state", keep=2),
        checkpoint_steps=sorted(saved),
        before_save=publish,
        show=show,
    )
    arrays["losses"] = np.asarray(final.losses)
    directory.write_arrays(arrays)
    summary = summarise(setup, jax.tree.map(lambda leaf: leaf[0], final.params))
    directory.save_figure(figures.curves(arrays, config.alpha), "learning")
    directory.finish(summary)
    return summary


def show(record: Record) -> dict[str, float]:
    """The figures of the progress line."""
    found = record.measured.get("problems")
    if found is None:
        return {}
    loss = {"loss": float(record.loss[0])} if np.isfinite(record.loss[0]) else {}
    return {**loss, **{place: float(found[f"{place}/accuracy"][0]) for place in figures.PLACES}}


def summarise(setup: Setup, params: Any) -> dict[str, float]:
    """test/PLACE/FIGURE with its standard error over problems."""
    places = setup.prompts("test", setup.config.test_problems)
    prompts = tokenize_prompts(places, setup.reading.tokenizer)
    found = measure(params, setup.model, prompts.batch, prompts.the)
    return learning.with_errors(by_task(found, prompts.slices))


def report(summary: Mapping[str, float], directory: RunDirectory) -> None:
    """Print what is known at each place, and where the rest is."""
    rows = []
    for place in figures.PLACES:
        row: dict[str, Any] = {"held-out problems": place}
        for name in ("accuracy", "p_answer", "p_the"):
            mean = summary[f"test/{place}/{name}"]
            row[name] = f"{mean:.3f} ± {summary[f'test/{place}/{name}/sem']:.3f}"
        rows.append(row)
    print(table.text(rows))
    print(f"checkpoints: {directory.path / 'checkpoints'}")
    print(f"problems: {directory.path / 'problems'}")
    print(f"figures: {directory.path / 'figures'}")
