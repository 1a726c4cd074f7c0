"""What the programs on Pythia share: flags, and the checkpoints and tasks they name."""

import dataclasses
from pathlib import Path

import numpy as np
from absl import flags

import bridge
from bridge import encoding, families, scoring, sharding, surgery, tasks, tokenizer
from experiments.run.program import UserError, user_errors
from truncation import intervention
from truncation.intervention import Intervention
from truncation.search import statistics
from truncation.search.cache import Cache
from truncation.search.scorer import Scorer

GIGABYTE = 2**30


@dataclasses.dataclass(frozen=True)
class PythiaConfig:
    """The flags of define_flags."""

    tokenizer: str
    num_examples: int
    add_space: bool
    bos: bool
    max_length: int
    max_distractors: int
    dtype: str
    memory_gb: float
    prefix_gb: float
    prefixes_on_host: bool
    devices: int
    seed: int


def define_flags() -> None:
    """Flags about how examples are read and a model is run, the same in every program."""
    flags.DEFINE_string("tokenizer", "", "tokenizer.json, or its directory; empty: the model's.")
    flags.DEFINE_integer("num_examples", 0, "Examples at most; 0: all, or 256.", lower_bound=0)
    flags.DEFINE_bool("add_space", True, "Put a missing space before answers read from a file.")
    flags.DEFINE_bool("bos", False, "Put <|endoftext|> before every prompt.")
    flags.DEFINE_integer("max_length", 2048, "Longer examples are dropped.", lower_bound=2)
    flags.DEFINE_integer("max_distractors", 8, "Distractors used per example.", lower_bound=0)
    flags.DEFINE_enum("dtype", "float32", list(scoring.DTYPES), "Of parameters and activations.")
    flags.DEFINE_float("memory_gb", 1.0, "For the activations of a batch.", lower_bound=0.001)
    flags.DEFINE_float("prefix_gb", 1.0, "For kept streams below a cut.", lower_bound=0.0)
    flags.DEFINE_bool("prefixes_on_host", False, "Keep those in the host's memory.")
    flags.DEFINE_integer("devices", 1, "Devices a model is split over.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of drawn examples and of splits.", lower_bound=0)


@dataclasses.dataclass(frozen=True, eq=False)
class Questions:
    """A task as arrays, and which of its examples are for choosing and for testing."""

    name: str
    encoded: encoding.Encoded
    validation: np.ndarray
    test: np.ndarray
    notes: tuple[str, ...]


def read_architecture(directory: str) -> bridge.Config:
    """The architecture of a checkpoint directory, read without its weights."""
    if not Path(directory).is_dir():
        raise UserError(f"{directory} is not a directory; --model wants a checkpoint directory")
    with user_errors():
        return families.read(Path(directory) / "config.json")


def read_tokenizer(config: PythiaConfig, directory: str) -> tokenizer.Tokenizer:
    """The tokenizer of --tokenizer, or beside the checkpoint."""
    try:
        with user_errors():
            return tokenizer.read(config.tokenizer or directory)
    except ImportError as error:
        raise UserError(str(error)) from error


def load_checkpoint(config: PythiaConfig, directory: str) -> bridge.Checkpoint:
    """The checkpoint, split over --devices where there are several."""
    architecture = read_architecture(directory)
    with user_errors():
        if config.devices == 1:
            return bridge.load(directory, dtype=config.dtype)
        mesh = sharding.make_mesh(model=config.devices)
        shardings = sharding.param_shardings(architecture, mesh)
        return bridge.load(directory, dtype=config.dtype, shardings=shardings)


def read_questions(
    config: PythiaConfig,
    architecture: bridge.Config,
    words: tokenizer.Tokenizer,
    task: str,
    *,
    test_task: str = "",
    validation: float = 0.2,
) -> Questions:
    """The examples of a task, tokenised and divided.

    With a test_task its examples are the test ones and all of task's the validation ones;
    without, a random share `validation` of the task is for choosing.
    """
    with user_errors():
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
        # Encoded apart, so that it is known which part lost examples.
        parts = [
            encoding.encode_examples(
                part.examples,
                words,
                num_tokens=min(words.size, architecture.vocab_size),
                max_length=min(config.max_length, architecture.max_positions),
                max_distractors=config.max_distractors,
                prefix=words.prefix(config.bos),
            )
            for part in found
        ]
        notes = [note for part in found for note in part.dropped]
        notes += [note for part in parts for note in part.dropped]
        if len(parts) == 1:
            encoded = parts[0]
            chosen, held_out = statistics.split(
                len(encoded), validation=validation, seed=config.seed
            )
        else:
            encoded = encoding.concatenate(parts)
            chosen = np.arange(len(parts[0]))
            held_out = np.arange(len(parts[0]), len(encoded))
        overflow = int(encoded.batch.tokens.max())
        if overflow >= architecture.vocab_size:
            raise ValueError(
                f"the tokenizer gives id {overflow}, the model has {architecture.vocab_size} rows"
            )
    return Questions(found[0].name, encoded, chosen, held_out, tuple(notes))


def make_scorer(
    config: PythiaConfig,
    checkpoint: bridge.Checkpoint,
    encoded: encoding.Encoded,
    *,
    cache: Cache | None = None,
    progress: bool = False,
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
    )


def parse_interventions(
    texts: tuple[str, ...], architecture: bridge.Config
) -> tuple[Intervention, ...]:
    """Interventions of --interventions, checked against the architecture."""
    with user_errors():
        found = tuple(intervention.parse(text) for text in texts)
        for one in found:
            intervention.resolve(one, surgery.matrices(architecture))
    return found


def parse_keys(
    matrices: tuple[str, ...], layers: tuple[str, ...], architecture: bridge.Config
) -> tuple[tuple[int, str], ...]:
    """Every layer's matrices, or those of the layers named; -1 is the last layer."""
    names = architecture.matrices
    if unknown := [name for name in matrices if name not in names]:
        raise UserError(f"--matrices names {unknown[0]!r}; known are {' '.join(names)}")
    chosen = []
    for text in layers or tuple(map(str, range(architecture.num_layers))):
        if not text.lstrip("-").isdigit():
            raise UserError(f"--layers names {text!r}; expected numbers")
        layer = int(text) + (architecture.num_layers if int(text) < 0 else 0)
        if not 0 <= layer < architecture.num_layers:
            raise UserError(
                f"--layers names {text}, the model has layers 0-{architecture.num_layers - 1}"
            )
        chosen.append(layer)
    return tuple((layer, name) for layer in sorted(set(chosen)) for name in matrices)
