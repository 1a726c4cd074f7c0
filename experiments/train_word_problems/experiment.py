"""The training of the small Llama itself: train, save, measure, draw, print."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

import bridge
from bridge import export
from experiments.run import table
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.follow import follow
from experiments.run.program import Place, user_errors
from experiments.train_word_problems import figures
from experiments.train_word_problems.settings import WordProblemSettings
from mini_pythia import training, word_problems
from mini_pythia.corpus import packed_block
from mini_pythia.measure import by_task, measure, tokenize_prompts
from mini_pythia.word_problems import WordProblems
from training.checkpoint import Store
from training.loop import Feed, Measure, Measurement, Record, State, Trainer


@dataclasses.dataclass(frozen=True)
class Setup:
    """A configuration resolved into the objects a run is made of."""

    config: WordProblemSettings
    model: bridge.Config
    optimizer: training.Settings
    corpus: WordProblems
    tokenizer: Tokenizer

    def trainer(self) -> Trainer:
        """The trainer, whose data are the blocks of this corpus."""
        config = self.config
        return Trainer(
            training.NextToken(self.model, config.seed),
            training.optimizer(self.optimizer),
            (config.seed,),
            tuple(jax.devices()[:1]),
            num_steps=config.steps,
            feed=Feed(self.block, config.block_steps),
        )

    def block(self, index: int) -> np.ndarray:
        """The sequences of block `index`, [block_steps, batch, length]."""
        config = self.config
        rows = packed_block(
            self.corpus,
            self.tokenizer,
            seed=config.seed,
            index=index,
            num_sequences=config.block_steps * config.batch_size,
            length=config.length,
        )
        return rows.reshape(config.block_steps, config.batch_size, config.length)


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
            corpus=corpus,
            tokenizer=word_problems.train_tokenizer(corpus, vocab_size=config.vocab_size),
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
    setup.tokenizer.save(str(directory.checkpoints / "tokenizer.json"))
    saved = {*range(0, config.steps, config.checkpoint_every), config.steps}
    recorded = {*range(0, config.steps, config.record_every), *saved}
    arrays, final = follow(
        setup.trainer(),
        [Measurement("problems", record(setup), frozenset(recorded))],
        directory,
        store=Store(directory.checkpoints / "training_state", keep=2),
        checkpoint_steps=sorted(saved),
        before_save=lambda step, state: publish(setup, directory, step, state, saved),
        show=show,
    )
    arrays["losses"] = np.asarray(final.losses)
    directory.write_arrays(arrays)
    summary = summarise(setup, jax.tree.map(lambda leaf: leaf[0], final.params))
    directory.save_figure(figures.curves(arrays, config.alpha), "learning")
    directory.finish(summary)
    return summary


def record(setup: Setup) -> Measure:
    """PLACE/FIGURE: means over the problems that are followed along training."""
    config = setup.config
    sets = word_problems.prompts(
        config.alpha, count=config.record_problems, split="validation", seed=config.seed
    )
    prompts = tokenize_prompts(sets, setup.tokenizer)

    def of(_problem: Any, params: Any, _frozen: Any, _key: Any) -> dict[str, jax.Array]:
        found = measure(params, setup.model, prompts.batch, prompts.the)
        return {
            f"{place}/{name}": jnp.mean(values[where])
            for place, where in prompts.slices.items()
            for name, values in found.items()
        }

    return of


def show(record: Record) -> dict[str, float]:
    """The figures of the progress line."""
    found = record.measured.get("problems")
    if found is None:
        return {}
    loss = {"loss": float(record.loss[0])} if np.isfinite(record.loss[0]) else {}
    return {**loss, **{place: float(found[f"{place}/accuracy"][0]) for place in figures.PLACES}}


def publish(
    setup: Setup, directory: RunDirectory, step: int, state: State, saved: set[int]
) -> None:
    """Write the weights of a checkpoint in Llama's layout."""
    if step not in saved:  # stored on request, to be continued
        return
    folder = directory.checkpoints
    params = jax.tree.map(lambda leaf: leaf[0], jax.device_get(state.params))
    checkpoint = bridge.Checkpoint(config=setup.model, params=params, directory=folder)
    export.save(checkpoint, folder / f"step{step}", dtype="float32", overwrite=True)


def summarise(setup: Setup, params: Any) -> dict[str, float]:
    """test/PLACE/FIGURE with its standard error over problems."""
    config = setup.config
    sets = word_problems.prompts(
        config.alpha, count=config.test_problems, split="test", seed=config.seed
    )
    prompts = tokenize_prompts(sets, setup.tokenizer)
    found = by_task(measure(params, setup.model, prompts.batch, prompts.the), prompts.slices)
    summary = {}
    for place, values in found.items():
        for name, each in values.items():
            summary[f"test/{place}/{name}"] = float(each.mean(dtype=np.float64))
            spread = float(each.std(ddof=1, dtype=np.float64))
            summary[f"test/{place}/{name}/sem"] = spread / len(each) ** 0.5
    return summary


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
