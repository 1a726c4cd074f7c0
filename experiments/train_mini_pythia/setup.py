"""What the settings of the small Pythia resolve to: the objects a run is made of."""

import dataclasses
import functools

import jax
import numpy as np
from tokenizers import Tokenizer

import bridge
from experiments.run.program import UserError, user_errors
from experiments.train_mini_pythia.settings import MiniPythia
from mini_pythia import training
from mini_pythia.corpus import Corpus, packed_block
from mini_pythia.prompts import Prompt, evaluation_sets
from mini_pythia.schedule import checkpoint_steps, record_steps
from mini_pythia.tokenizer import train_tokenizer
from training.loop import Feed, Trainer


@dataclasses.dataclass(frozen=True)
class Setup:
    """A configuration resolved into the objects a run is made of."""

    config: MiniPythia
    model: bridge.Config
    settings: training.Settings
    corpus: Corpus
    tokenizer: Tokenizer
    devices: tuple[jax.Device, ...]

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
        config = self.config
        return Trainer(
            training.NextToken(self.model, config.seed, config.dtype),
            training.optimizer(self.settings),
            (config.seed,),
            self.devices,
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


def build(config: MiniPythia) -> Setup:
    """Resolve a configuration; UserError names the flag that cannot be."""
    present = jax.devices()
    used = config.devices or len(present)
    if used > len(present):
        raise UserError(f"--devices={used}, but there are only {len(present)}")
    if config.batch_size % used:
        raise UserError(f"--batch_size={config.batch_size} is not a multiple of {used} devices")
    with user_errors():
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
            tokenizer=train_tokenizer(corpus, vocab_size=config.vocab_size),
            devices=tuple(present[:used]),
        )
