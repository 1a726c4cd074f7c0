"""What the programs on language models share: the checkpoints and tasks that settings name."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from truncated_weights import bridge
from truncated_weights.bridge import (
    encoding,
    gguf,
    sharding,
    surgery,
    tasks,
    tokenizer,
)
from truncated_weights.bridge.checkpoint import architecture
from truncated_weights.bridge.families import laser
from truncated_weights.bridge.tasks import frequency
from truncated_weights.bridge.tasks import protocol as protocols
from truncated_weights.bridge.tasks.protocol import HONEST, Protocol
from truncated_weights.experiments.run import provenance
from truncated_weights.experiments.run import ram as memory
from truncated_weights.experiments.run.inputs.model_settings import ModelSettings
from truncated_weights.experiments.run.program import UserError, user_errors
from truncated_weights.experiments.run.study import Input
from truncated_weights.truncation.notation import Intervention
from truncated_weights.truncation.search.cache import Cache
from truncated_weights.truncation.search.scorer import ExtraScores, Scorer

GIGABYTE = 2**30


@dataclasses.dataclass(frozen=True, eq=False)
class Questions:
    """A task as arrays, and which of its examples are for choosing and for testing.

    closed and marking are the task's; protocol says how the two were divided, and what its
    results are to be told with.
    """

    name: str
    encoded: encoding.Encoded
    validation: np.ndarray
    test: np.ndarray
    notes: tuple[str, ...]
    closed: tuple[str, ...] = ()
    marking: tasks.Marking = dataclasses.field(default_factory=tasks.Marking)
    protocol: Protocol = HONEST


def read_architecture(directory: str, ignore: Sequence[str] = ()) -> bridge.Config:
    """The architecture of a checkpoint directory, read without its weights.

    ignore: keys of config.json that are read past.
    """
    with user_errors():
        if not Path(directory).is_dir() and gguf.place(directory) is None:
            raise UserError(
                f"{directory} is not a directory; --model wants a checkpoint directory, or a "
                "GGUF file"
            )
        return architecture(directory, ignore)


def read_tokenizer(config: ModelSettings, directory: str) -> tokenizer.Tokenizer:
    """The tokenizer of --tokenizer, or beside the checkpoint."""
    try:
        with user_errors():
            return tokenizer.read(config.tokenizer or directory)
    except ImportError as error:
        raise UserError(str(error)) from error


def load_checkpoint(config: ModelSettings, directory: str) -> bridge.Checkpoint:
    """The checkpoint, split over --devices where there are several."""
    architecture = read_architecture(directory, config.ignore_keys)
    place = gguf.place(directory)
    stored = sum(
        file.stat().st_size
        for file in (Path(directory).iterdir() if place is None else [place])
        if file.suffix in (".safetensors", ".npz", gguf.SUFFIX) and file.is_file()
    )
    memory.require(stored / config.devices, "the size of the model, or raise --devices")
    with user_errors():
        if config.devices == 1:
            return bridge.load(directory, dtype=config.dtype, ignore=config.ignore_keys)
        mesh = sharding.make_mesh(model=config.devices)
        shardings = sharding.param_shardings(architecture, mesh)
        return bridge.load(
            directory, dtype=config.dtype, shardings=shardings, ignore=config.ignore_keys
        )


def read_questions(
    config: ModelSettings,
    architecture: bridge.Config,
    words: tokenizer.Tokenizer,
    task: str,
    *,
    test_task: str = "",
    validation: float = 0.2,
    protocol: str = "honest",
    paper: str = "",
    counts: str = "",
) -> Questions:
    """The examples of a task, tokenised and divided.

    With a test_task its examples are the test ones and all of task's the validation ones;
    without, the protocol divides them: honest takes whole items at random, the share
    `validation` for choosing; published what the paper took; both is honest with the prompts of
    the paper. paper says which one where the task's card does not. counts is a file of how
    often facts are told.
    """
    with user_errors():
        if protocol == "both":
            bos = protocols.of("published", tasks.card_of(task), paper).bos
            rules = dataclasses.replace(HONEST, bos=bos)
        else:
            rules = protocols.of(protocol, tasks.card_of(task), paper)
        found = [
            tasks.load(
                text,
                words,
                count=config.num_examples or None,
                seed=config.seed,
                add_space=config.add_space,
            )
            for text in (task, test_task)
            if text
        ]
        if counts:
            found = [frequency.join(part, Path(counts)) for part in found]
        asked = config.bos or rules.bos
        # Encoded apart, so that it is known which part lost examples.
        parts = [
            encoding.encode_examples(
                part.examples,
                words,
                num_tokens=min(words.size, architecture.vocab_size),
                max_length=min(config.max_length, architecture.max_positions),
                max_distractors=config.max_distractors,
                **words.around(architecture.masked, asked),
            )
            for part in found
        ]
        notes = beginnings(words, [e for part in found for e in part.examples], asked)
        notes += [note for part in found for note in part.dropped]
        notes += [note for part in parts for note in part.dropped]
        if len(parts) == 1:
            encoded = parts[0]
            share = None if protocol == "published" else validation
            chosen, held_out = rules.split(encoded.examples, validation=share, seed=config.seed)
        else:
            encoded = encoding.concatenate(parts)
            chosen = np.arange(len(parts[0]))
            held_out = np.arange(len(parts[0]), len(encoded))
    one = found[0]
    return Questions(
        one.name, encoded, chosen, held_out, tuple(notes), one.closed, one.marking, rules
    )


def beginnings(
    words: tokenizer.Tokenizer, examples: Sequence[tasks.Example], bos: bool
) -> list[str]:
    """What stands before every prompt, by which file, and how many have it already: lines."""
    told, before = [words.begins(bos)], words.prefix(bos)
    carried = sum(e.prompt.startswith(words.decode(before)) for e in examples) if before else 0
    if carried:
        told.append(f"{carried} of {len(examples)} prompts begin so already, and get no second")
    return told


def endings(checkpoint: bridge.Checkpoint) -> str:
    """Which tokens end generated text, in one line."""
    if not checkpoint.ends:
        return "no file names a token that ends a text: generation stops at its texts alone"
    words = checkpoint.tokenizer if checkpoint.has_tokenizer else None
    names = [str(end) if words is None else repr(words.decode([end])) for end in checkpoint.ends]
    return f"generated text ends at {' '.join(names)}"


def make_scorer(
    config: ModelSettings,
    checkpoint: bridge.Checkpoint,
    encoded: encoding.Encoded,
    *,
    cache: Cache | None = None,
    progress: bool = False,
    extra_scores: ExtraScores | None = None,
) -> Scorer:
    """A Scorer within the memory of the flags."""
    return surgery.scorer(
        checkpoint,
        encoded,
        memory=int(config.memory_gb * GIGABYTE),
        prefix_memory=int(config.prefix_gb * GIGABYTE),
        prefixes_on_host=config.prefixes_on_host,
        cache=cache,
        progress=progress,
        extra_scores=extra_scores,
    )


def parse_interventions(
    texts: tuple[str, ...], architecture: bridge.Config
) -> tuple[Intervention, ...]:
    """Interventions of --interventions, checked against the architecture."""
    with user_errors():
        return tuple(surgery.interventions(texts, architecture))


def parse_keys(
    matrices: tuple[str, ...], layers: tuple[int, ...], architecture: bridge.Config
) -> tuple[tuple[int, str], ...]:
    """Every layer's matrices, or those of the layers named; -1 is the last layer."""
    with user_errors():
        matrices = tuple(laser.name(name, architecture) for name in matrices)
    names = (*architecture.matrices, *architecture.products)
    if unknown := [name for name in matrices if name not in names]:
        raise UserError(f"--matrices names {unknown[0]!r}; known are {' '.join(names)}")
    total = architecture.num_layers
    chosen = []
    for given in layers or range(total):
        layer = given + (total if given < 0 else 0)
        if not 0 <= layer < total:
            raise UserError(f"--layers names {given}, the model has layers 0-{total - 1}")
        chosen.append(layer)
    if twice := [layer for layer in chosen if chosen.count(layer) > 1]:
        raise UserError(f"--layers names layer {twice[0]} twice")
    return tuple((layer, name) for layer in sorted(chosen) for name in matrices)


def inputs(config: ModelSettings, *texts: str) -> dict[str, Input]:
    """The files that tasks are read from, and --tokenizer; a model's own is among its files."""
    files = {f"tasks {name}": Input(name) for text in texts for name in tasks.files(text)}
    return {"tokenizer": Input(config.tokenizer, _of_tokenizer), **files}


def _of_tokenizer(path: str) -> str:
    return provenance.of_files(path if Path(path).is_file() else Path(path) / "tokenizer.json")
