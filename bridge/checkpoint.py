"""A language model from a directory, without torch.

checkpoint = bridge.load("pythia-70m")
logits = bridge.logits(checkpoint, tokens)        # [batch, length, vocab]
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from typing import Any

import jax
import ml_dtypes
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from truncated_weights.bridge import families, gguf, module, tokenizer
from truncated_weights.bridge import network as model
from truncated_weights.bridge.config import Config
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.families import layout
from truncated_weights.bridge.formats import special_tokens, weight_sets
from truncated_weights.bridge.formats.stored import FLOATS, StoredTensor
from truncated_weights.bridge.gguf import names
from truncated_weights.truncation import finite
from truncated_weights.truncation.files import telling

DTYPES: dict[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}


@dataclasses.dataclass(frozen=True, repr=False)
class Checkpoint:
    """A model in memory and where it came from.

    params is the tree of bridge.network; stored_dtype is the narrowest that holds all that the
    files do, tensor_dtypes that of each parameter by its path in params; weights the name of
    the file, or index of shards, that was read; ignored the keys of config.json that were not.
    Of a GGUF file directory is the file itself, and quantised says which of its tensors are, and
    how: what was rounded away is not in params.
    """

    config: Config
    params: dict[str, Any]
    directory: pathlib.Path | None = None
    stored_dtype: str = "float32"
    weights: str | None = None
    tensor_dtypes: Mapping[layout.Path, str] = dataclasses.field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    quantised: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        """A line: family, sizes, dtype and where it is from; never its weights."""
        c, some = self.config, jax.tree.leaves(self.params)
        number = sum(leaf.size for leaf in some)
        kind = some[0].dtype if some else self.stored_dtype
        return (
            f"Checkpoint({c.family}, {c.num_layers} layers, d_model {c.d_model}, "
            f"{number:,} parameters, {kind}, from {self.directory or 'memory'})"
        )

    @property
    def name(self) -> str:
        """What to call it in a line to a user: its directory, or its family."""
        return str(self.directory or f"this {self.config.family}")

    def not_finite(
        self,
        tokens: Int[np.ndarray | Array, "batch length"],
        mask: Bool[np.ndarray | Array, "batch length"],
        *,
        what: str,
        dtype: str | None = None,
    ) -> finite.NotFiniteError:
        """What to raise where `what` is not finite; one forward of these tokens finds where."""
        return model.not_finite(
            self.params, self.config, tokens, mask, what=what, dtype=dtype, name=self.name
        )

    @property
    def has_tokenizer(self) -> bool:
        """Whether there is a tokenizer beside the weights."""
        return self.directory is not None and tokenizer.find(self.directory) is not None

    @functools.cached_property
    def tokenizer(self) -> tokenizer.Tokenizer:
        """The tokenizer beside the weights, read when first asked for.

        Raises CheckpointError if there is none, ImportError without the tokenizers library.
        """
        if self.directory is None:
            raise CheckpointError("this checkpoint has no directory with a tokenizer")
        return tokenizer.read(self.directory)

    @functools.cached_property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a text, by all files beside the weights; none where there are none.

        Raises CheckpointError for a damaged file.
        """
        if self.directory is None:
            return ()
        if gguf.place(self.directory):
            return self.tokenizer.ends
        own = special_tokens.read(self.directory).end_ids
        words = self.tokenizer.ends if self.has_tokenizer else ()
        return tuple(dict.fromkeys((*own, *words)))


def _check(
    tensors: Mapping[str, StoredTensor], rules: Mapping[str, layout.Rule], optional: Set[str]
) -> None:
    """Raise one CheckpointError that names everything unexpected, missing or misshapen."""
    faults = []
    for title, wrong in (
        ("missing", [name for name in rules if name not in tensors]),
        ("unexpected", [name for name in tensors if name not in rules and name not in optional]),
        (
            "misshapen",
            [
                f"{name} is {tensors[name].shape}, expected {rule.shape}"
                for name, rule in rules.items()
                if name in tensors and tensors[name].shape != rule.shape
            ],
        ),
        (
            "wrong dtype",
            [
                f"{name} is {tensors[name].dtype}, expected a float"
                for name in rules
                if name in tensors and tensors[name].dtype not in FLOATS.values()
            ],
        ),
    ):
        if wrong:
            faults.append(f"{title}: {telling.some(wrong)}")
    if faults:
        raise CheckpointError("; ".join(faults))


def _resolve_names(
    tensors: Mapping[str, StoredTensor], family: families.Family, known: Set[str]
) -> dict[str, StoredTensor]:
    resolved: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        proper = layout.canonical(family, name, known)
        if proper in resolved:
            raise CheckpointError(f"{proper} is there under two names")
        resolved[proper] = tensor
    return resolved


def _allocate(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    # Aligned to 64 bytes, so that the CPU backend adopts the array instead of copying it.
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def _fill(tensor: StoredTensor, rule: layout.Rule, dtype: np.dtype) -> list[np.ndarray]:
    tensor.verify()
    parameters = [_allocate(shape, dtype) for shape in rule.parameter_shapes]
    row = 0
    with np.errstate(over="raise", invalid="ignore"):
        for block in tensor.read(1):
            rule.place(parameters, row, block)
            row += len(block)
    return parameters


def _check_copy(name: str, copied: StoredTensor, original: StoredTensor) -> None:
    """A tied head may be stored again; then it must be the same, or one of the two is lost."""
    copied.verify()
    same = copied.shape == original.shape and copied.dtype == original.dtype
    if not same or not all(
        np.array_equal(a, b) for a, b in zip(copied.read(1), original.read(1), strict=True)
    ):
        raise CheckpointError(f"tie_word_embeddings is true, but {name} differs")


def _set(tree: Any, path: layout.Path, value: Any) -> None:
    for step in path[:-1]:
        tree = tree[step]
    tree[path[-1]] = value


def _get(tree: Any, path: layout.Path) -> Any:
    for step in path:
        tree = tree[step]
    return tree


@dataclasses.dataclass(frozen=True)
class _Opened:
    """A directory whose weights have been found complete, and not yet read."""

    config: Config
    weights: str
    tensors: dict[str, StoredTensor]
    rules: dict[str, layout.Rule]
    ranks: dict[tuple[int, str], int]
    quantised: Mapping[str, str] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
    """Errors open with the path of what they are about."""
    try:
        yield
    except CheckpointError as error:
        prefix = "" if str(error).startswith(str(path.parent)) else f"{path}: "
        raise CheckpointError(f"{prefix}{error}") from None


def _open(
    directory: pathlib.Path,
    weights: str | None,
    config: Config | None,
    ignore: Collection[str] = (),
) -> _Opened:
    if (file := gguf.place(directory)) is not None:
        return _open_gguf(file, config)
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: not a directory")
    config = config or families.read(directory / "config.json", ignore)
    family = families.of(config)
    chosen = weights or weight_sets.choose(directory)
    with _naming(directory / chosen):
        tensors = weight_sets.open_weights(directory / chosen)
        # Before anything is built by the number of layers that a damaged config.json claims.
        if len(tensors) < config.num_layers:
            raise CheckpointError(f"{len(tensors)} tensors, too few for {config.num_layers} layers")
        ranks = {}
        if chosen == weight_sets.FACTORED_FILE:
            shapes = {name: tensor.shape for name, tensor in tensors.items()}
            ranks = layout.stored_ranks(family, config, shapes)
        rules = layout.rules(family, config, ranks)
        optional = layout.buffers(family, config) | layout.copies(family, config).keys()
        tensors = _resolve_names(tensors, family, optional | rules.keys())
        _check(tensors, rules, optional)
    return _Opened(config, chosen, tensors, rules, ranks)


def _open_gguf(file: pathlib.Path, config: Config | None) -> _Opened:
    with _naming(file):
        contents = gguf.read(file)
        config = config or names.describe(contents)
        family = families.of(config)
        if len(contents.tensors) < config.num_layers:
            many = len(contents.tensors)
            raise CheckpointError(f"{many} tensors, too few for {config.num_layers} layers")
        tensors, rules = names.tensors(contents, config), layout.rules(family, config)
        _check(tensors, rules, layout.buffers(family, config))
    return _Opened(config, file.name, tensors, rules, {}, contents.quantised)


def architecture(path: str | os.PathLike[str], ignore: Collection[str] = ()) -> Config:
    """The architecture of a directory or GGUF file, read without its weights.

    ignore: keys of config.json that are read past. Raises CheckpointError.
    """
    if (file := gguf.place(path)) is None:
        return families.read(pathlib.Path(path) / "config.json", ignore)
    with _naming(file):
        return names.describe(gguf.read(file))


def check(
    path: str | os.PathLike[str], *, weights: str | None = None, ignore: Collection[str] = ()
) -> Config:
    """The architecture of a directory whose weights are complete, without reading them.

    Names, shapes and dtypes are checked as load does, checksums of payloads are not.
    Raises CheckpointError.
    """
    return _open(pathlib.Path(path), weights, None, ignore).config


def load(
    path: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    weights: str | None = None,
    config: Config | None = None,
    shardings: Any = None,
    ignore: Collection[str] = (),
) -> Checkpoint:
    """The checkpoint in a directory or GGUF file, its parameters cast one tensor at a time.

    dtype is float32, bfloat16 or float16. A directory holds config.json (or `config` is
    given) and weights as safetensors, .bin or .npz, or one GGUF file alone; `weights` names the
    file or index to read when the preference of bridge.formats.weight_sets is not meant. shardings
    is a tree like
    params (bridge.sharding.param_shardings) that places each tensor as it is read. ignore names
    keys of config.json to be read past: what is not known is refused by name, because it might
    change the result, and here is said that it does not.

    Peak memory on the host is the parameters in dtype plus a few blocks of 8 MiB on the
    CPU backend, and one tensor plus blocks where devices have memory of their own.

    Raises CheckpointError (a ValueError) for anything wrong with the files, ValueError for
    an unknown dtype.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not supported; known are {', '.join(DTYPES)}")
    directory = gguf.place(path) or pathlib.Path(path)
    opened = _open(directory, weights, config, ignore)
    if opened.ranks and shardings is not None:
        raise CheckpointError(
            f"{directory / opened.weights}: matrices in factors cannot be spread over a mesh; "
            "export them dense"
        )
    tensors, params = opened.tensors, module.shapes(opened.config)
    for layer, matrix in opened.ranks:
        del params["layers"][layer][matrix]["kernel"]
    with _naming(directory if opened.quantised else directory / opened.weights):
        family = families.of(opened.config)
        for name, original in layout.copies(family, opened.config).items():
            if name in tensors:
                _check_copy(name, tensors[name], tensors[original])
        for name, rule in opened.rules.items():
            try:
                filled = _fill(tensors[name], rule, DTYPES[dtype])
            except FloatingPointError:
                raise CheckpointError(f"{name} holds values too large for {dtype}") from None
            for target, array in zip(rule.paths, filled, strict=True):
                where = None if shardings is None else _get(shardings, target)
                _set(params, target, jax.device_put(array, where))
            del filled, array
        for name in tensors.keys() - opened.rules.keys():
            tensors[name].verify()
    kinds = {kind: name for name, kind in FLOATS.items()}
    stored = {
        path: kinds[tensors[name].dtype]
        for name, rule in opened.rules.items()
        for path in rule.paths
    }
    return Checkpoint(
        opened.config,
        params,
        directory,
        widest(stored.values()),
        opened.weights,
        stored,
        tuple(ignore),
        opened.quantised,
    )


def widest(dtypes: Iterable[str]) -> str:
    """The narrowest dtype, by name, that holds every value of these."""
    found = set(dtypes)
    if len(found) == 1:
        return found.pop()
    # Neither of float16 and bfloat16 holds the other; float32 holds both.
    return "float64" if "float64" in found else "float32"


def logits(
    checkpoint: Checkpoint,
    tokens: Int[Array | np.ndarray, "batch length"],
    *,
    mask: Bool[Array | np.ndarray, "batch length"] | None = None,
) -> Float[Array, "batch length vocab"]:
    """float32 logits at every position; mask is true at real tokens (padding on any side).

    Computed in the dtype the checkpoint was loaded in. Without a mask every token is real,
    except a RoBERTa's padding id. Raises ValueError for tokens
    outside the vocabulary or a length beyond the model's positions, NotFiniteError for a model
    that says NaN or infinity at a real token.
    """
    config = checkpoint.config
    host = np.asarray(tokens)
    if mask is None and config.pad_id is not None:
        mask = host != config.pad_id
    model.check_tokens(config, host, None if mask is None else np.asarray(mask, bool))
    real = None if mask is None else jax.numpy.asarray(mask)
    found = model.forward(checkpoint.params, config, jax.numpy.asarray(host), real)
    # Under a transformation of parameters there is no number yet to look at.
    if not isinstance(found, jax.core.Tracer) and not finite.all_finite(found, real):
        ones = np.ones(host.shape, bool) if real is None else real
        raise checkpoint.not_finite(host, ones, what="logits")
    return found
