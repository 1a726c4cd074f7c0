"""How a small language model of ours is trained, followed and written, whatever it is told.

A corpus has documents (mini_pythia/corpus.py); prompts have a known law at their end
(mini_pythia/prompts.py). The two together make a run of training/loop.py.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer

from truncated_weights import bridge
from truncated_weights.bridge import export
from truncated_weights.mini_pythia import training
from truncated_weights.mini_pythia.corpus import Documents, packed_block
from truncated_weights.mini_pythia.measure import measure, tokenize_prompts
from truncated_weights.mini_pythia.prompts import Prompt
from truncated_weights.training.loop import Feed, Measure, State, Trainer
from truncated_weights.training.records import Name, name


@dataclasses.dataclass(frozen=True)
class Reading:
    """What is read at each step: batch_size sequences of `length` tokens, block_steps at a time."""

    corpus: Documents
    tokenizer: Tokenizer
    length: int
    batch_size: int
    block_steps: int
    seed: int = 0

    def block(self, index: int) -> Int[np.ndarray, "steps batch length"]:
        """The sequences of block `index`."""
        rows = packed_block(
            self.corpus,
            self.tokenizer,
            seed=self.seed,
            index=index,
            num_sequences=self.block_steps * self.batch_size,
            length=self.length,
        )
        return rows.reshape(self.block_steps, self.batch_size, self.length)

    def trainer(
        self, model: bridge.Config, settings: training.Settings, devices: Sequence[jax.Device]
    ) -> Trainer:
        """The trainer of one model on these blocks."""
        return Trainer(
            training.NextToken(model, self.seed, settings.dtype),
            training.optimizer(settings),
            (self.seed,),
            tuple(devices),
            num_steps=settings.steps,
            feed=Feed(self.block, self.block_steps),
        )


def devices(count: int, batch_size: int) -> tuple[jax.Device, ...]:
    """The first `count` devices, 0 for all; ValueError where a batch cannot be divided so."""
    present = jax.devices()
    used = count or len(present)
    if used > len(present):
        raise ValueError(f"--devices={used}, but there are only {len(present)}")
    if batch_size % used:
        raise ValueError(f"--batch_size={batch_size} is not a multiple of {used} devices")
    return tuple(present[:used])


def followed(
    sets: Mapping[str, Sequence[Prompt]], tokenizer: Tokenizer, model: bridge.Config
) -> Measure:
    """Each figure by task along training: means over the prompts of each set."""
    prompts = tokenize_prompts(sets, tokenizer)

    def of(_problem: Any, params: Any, _frozen: Any, _key: Any) -> dict[Name, jax.Array]:
        found = measure(params, model, prompts.batch, prompts.the)
        return {
            name(figure, task=task): jnp.mean(values[where])
            for task, where in prompts.slices.items()
            for figure, values in found.items()
        }

    return of


def publish(model: bridge.Config, state: State, folder: Path, step: int) -> None:
    """Write the weights as folder/stepN in the family's layout; whatever reads it reads these."""
    params = jax.tree.map(lambda leaf: leaf[0], jax.device_get(state.params))
    checkpoint = bridge.Checkpoint(config=model, params=params, directory=folder)
    export.save(checkpoint, folder / f"step{step}", dtype="float32", overwrite=True)
