"""What the settings of the small Pythia resolve to: the objects a run is made of."""

import dataclasses
import functools

import jax
from tokenizers import Tokenizer

import bridge
from experiments.run.program import user_errors
from experiments.train_mini_pythia.settings import MiniPythia
from mini_pythia import learning, training
from mini_pythia.corpus import Corpus
from mini_pythia.prompts import Prompt, evaluation_sets
from mini_pythia.schedule import checkpoint_steps, record_steps
from mini_pythia.tokenizer import train_tokenizer
from training.loop import Trainer


@dataclasses.dataclass(frozen=True)
class Setup:
    """A configuration resolved into the objects a run is made of."""

    config: MiniPythia
    model: bridge.Config
    settings: training.Settings
    corpus: Corpus
    reading: learning.Reading
    devices: tuple[jax.Device, ...]

    @property
    def tokenizer(self) -> Tokenizer:
        """Made from this corpus."""
        return self.reading.tokenizer

    @functools.cached_property
    def checkpoints(self) -> tuple[int, ...]:
        """Steps that are saved."""
        return checkpoint_steps(self.config.steps, self.config.checkpoint_every)

    @functools.cached_property
    def stops(self) -> tuple[int, ...]:
        """Steps that are measured, those that are saved among them."""
        return record_steps(self.checkpoints, self.config.record_every)

    @functools.cached_property
    def test_prompts(self) -> dict[str, list[Prompt]]:
        """What the final figures are measured on."""
        return evaluation_sets(self.corpus, part="test", count=self.config.test_prompts)

    @functools.cached_property
    def validation_prompts(self) -> dict[str, list[Prompt]]:
        """What a search may choose on."""
        return evaluation_sets(self.corpus, part="validation", count=self.config.test_prompts)

    @functools.cached_property
    def record_prompts(self) -> dict[str, list[Prompt]]:
        """What is measured along training: validation prompts, fewer of them."""
        return evaluation_sets(self.corpus, part="validation", count=self.config.record_prompts)

    def trainer(self) -> Trainer:
        """The trainer, whose data are the blocks of this corpus."""
        return self.reading.trainer(self.model, self.settings, self.devices)


def build(config: MiniPythia) -> Setup:
    """Resolve a configuration; UserError names the flag that cannot be."""
    with user_errors():
        devices = learning.devices(config.devices, config.batch_size)
        corpus = Corpus(
            alpha=config.alpha, num_people=config.num_people, world_seed=config.world_seed
        )
        return Setup(
            config=config,
            model=bridge.Config(
                vocab_size=config.vocab_size,
                num_layers=config.num_layers,
                d_model=config.d_model,
                num_heads=config.num_heads,
                d_ff=4 * config.d_model,
            ),
            settings=training.Settings(
                steps=config.steps,
                learning_rate=config.learning_rate,
                warmup_steps=config.warmup_steps,
                weight_decay=config.weight_decay,
                dtype=config.dtype,
            ),
            corpus=corpus,
            reading=learning.Reading(
                corpus,
                train_tokenizer(corpus, vocab_size=config.vocab_size),
                length=config.length,
                batch_size=config.batch_size,
                block_steps=config.block_steps,
                seed=config.seed,
            ),
            devices=devices,
        )
