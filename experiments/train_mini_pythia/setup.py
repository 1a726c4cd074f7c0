"""What the settings of a small language model resolve to, by what it reads: stories or problems."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import jax

from truncated_weights import bridge
from truncated_weights.experiments.train_mini_pythia.settings import MiniPythia, WordProblemSettings
from truncated_weights.mini_pythia import learning, training, word_problems
from truncated_weights.mini_pythia.corpus import Corpus
from truncated_weights.mini_pythia.prompts import Prompt, evaluation_sets, write_prompts
from truncated_weights.mini_pythia.schedule import checkpoint_steps, record_steps
from truncated_weights.mini_pythia.tokenizer import train_tokenizer
from truncated_weights.training.loop import Trainer
from truncated_weights.training.records import Name, name

Sets = Callable[[], dict[str, list[Prompt]]]


@dataclasses.dataclass(frozen=True)
class Setup:
    """A configuration resolved into the objects a run is made of.

    recorded, tested: prompts by task, measured along training and at its end. saved, stops: steps
    that are saved, and measured. write: leaves in `folder` what other programs read. asked: the
    task in which " the" competes with the answer, which is called `answer`. shown: what the
    progress line tells.
    """

    config: MiniPythia | WordProblemSettings
    model: bridge.Config
    settings: training.Settings
    reading: learning.Reading
    devices: tuple[jax.Device, ...]
    recorded: Sets
    tested: Sets
    saved: tuple[int, ...]
    stops: tuple[int, ...]
    folder: str
    write: Callable[[Path], None]
    asked: str
    answer: str
    shown: Mapping[str, Name]

    def trainer(self) -> Trainer:
        """The trainer, whose data are the blocks of this corpus."""
        return self.reading.trainer(self.model, self.settings, self.devices)


def stories(config: MiniPythia) -> Setup:
    """A GPT-NeoX on stories, facts and sums; ValueError names the flag that cannot be."""
    devices = learning.devices(config.devices, config.batch_size)
    corpus = Corpus(alpha=config.alpha, num_people=config.num_people, world_seed=config.world_seed)
    saved = checkpoint_steps(config.steps, config.checkpoint_every)
    sets = functools.partial(evaluation_sets, corpus)
    tested = functools.cache(functools.partial(sets, part="test", count=config.test_prompts))

    def write(folder: Path) -> None:
        write_prompts(sets(part="validation", count=config.test_prompts), folder / "validation")
        write_prompts(tested(), folder / "test")

    return Setup(
        config,
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
        reading=learning.Reading(
            corpus,
            train_tokenizer(corpus, vocab_size=config.vocab_size),
            length=config.length,
            batch_size=config.batch_size,
            block_steps=config.block_steps,
            seed=config.seed,
        ),
        devices=devices,
        recorded=functools.partial(sets, part="validation", count=config.record_prompts),
        tested=tested,
        saved=saved,
        stops=record_steps(saved, config.record_every),
        folder="prompts",
        write=write,
        asked="story",
        answer="name",
        shown={"p_the": name("p_the", task="story"), "p_name": name("p_answer", task="story")},
    )


def problems(config: WordProblemSettings) -> Setup:
    """A Llama on word problems; ValueError names the flag that cannot be."""
    corpus = word_problems.WordProblems(config.alpha)
    saved = {*range(0, config.steps, config.checkpoint_every), config.steps}
    sets = functools.partial(word_problems.prompts, config.alpha, seed=config.seed)
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
        settings=training.Settings(
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
        recorded=functools.partial(sets, split="validation", count=config.record_problems),
        tested=functools.partial(sets, split="test", count=config.test_problems),
        saved=tuple(sorted(saved)),
        stops=tuple(sorted({*range(0, config.steps, config.record_every), *saved})),
        folder="problems",
        write=functools.partial(word_problems.write, count=config.test_problems, seed=config.seed),
        asked="conclusion",
        answer="number",
        shown={place: name("accuracy", task=place) for place in ("first", "second", "conclusion")},
    )
