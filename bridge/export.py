"""Edited weights back to a directory, dense for Hugging Face tools or in thin factors.

Dense: model.safetensors with the names and layout of the original, config.json and every file
of which a reader makes the tokenizer (bridge.formats.companions), so that any tool that read the
original reads this; of a GGUF file these are made from its metadata. Factored:
factored.safetensors, which only this package reads; its name is one that other tools do not look
for, because they would fill the matrices they miss with random numbers.
"""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from truncated_weights.bridge import families, gguf
from truncated_weights.bridge.checkpoint import DTYPES, Checkpoint, widest
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.families import layout
from truncated_weights.bridge.formats import companions, safetensors_file, strict_json, weight_sets
from truncated_weights.bridge.gguf import tokens


def require_writable(checkpoint: Checkpoint, dtype: str | None = None) -> None:
    """What save refuses about dtypes, to be asked before the work of which it keeps the result.

    Raises ValueError for an unknown dtype, or, where none is given, CheckpointError naming a
    tensor that is stored in one which is not written.
    """
    if dtype is not None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype {dtype!r} is not supported; known are {', '.join(DTYPES)}")
        return
    if checkpoint.stored_dtype in DTYPES:
        return
    wide = (p for p, kind in checkpoint.tensor_dtypes.items() if kind == checkpoint.stored_dtype)
    where = "/".join(map(str, next(wide, ("this checkpoint",))))
    raise CheckpointError(
        f"{where} is stored in {checkpoint.stored_dtype}, which is not written; give a dtype, "
        f"{' or '.join(DTYPES)}"
    )


def _dtype_of(checkpoint: Checkpoint, rule: layout.Rule) -> str:
    """The dtype that a tensor was stored in; of what was not stored, that of its matrix."""
    stored = checkpoint.tensor_dtypes
    found = []
    for path in rule.paths:
        # A matrix that is in factors now or was then, a bias that was added.
        leaves = (path[-1], "kernel", "kernel_in", "kernel_out")
        near = [stored[(*path[:-1], leaf)] for leaf in leaves if (*path[:-1], leaf) in stored]
        found.append(near[0] if near else checkpoint.stored_dtype)
    return widest(found)


def _config_json(checkpoint: Checkpoint, dtype: str) -> dict[str, Any]:
    """The original's config.json where it describes this model, else a fresh one."""
    fresh = families.to_dict(checkpoint.config, dtype)
    if checkpoint.directory is None:
        return fresh
    if gguf.place(checkpoint.directory):
        words = checkpoint.tokenizer
        return fresh | {"bos_token_id": words.bos, "eos_token_id": list(words.ends) or None}
    try:
        original = strict_json.read(checkpoint.directory / "config.json")
        if families.from_dict(original, checkpoint.ignored) != checkpoint.config:
            return fresh
    except CheckpointError:
        return fresh
    return original | {key: dtype for key in ("dtype", "torch_dtype") if key in original}


def _parameter(params: Any, path: layout.Path, dtype: np.dtype) -> np.ndarray:
    """The parameter at path on the host; a dense kernel is formed from factors if need be."""
    for step in path[:-1]:
        params = params[step]
    if path[-1] == "kernel" and "kernel" not in params:
        wide = [np.asarray(params[name], np.float32) for name in ("kernel_in", "kernel_out")]
        array = wide[0] @ wide[1]
    else:
        array = np.asarray(params[path[-1]])
    with np.errstate(over="raise"):
        return array.astype(dtype, copy=False)


def _contents(
    params: Mapping[str, Any], rules: Mapping[str, layout.Rule], dtypes: Mapping[str, np.dtype]
) -> Iterator[np.ndarray]:
    for name, rule in rules.items():
        try:
            parts = [_parameter(params, path, dtypes[name]) for path in rule.paths]
        except FloatingPointError:
            raise CheckpointError(f"{name} holds values too large for {dtypes[name]}") from None
        yield rule.assemble(parts)


def _ranks(params: Mapping[str, Any]) -> dict[tuple[int, str], int]:
    return {
        (index, matrix): linear["kernel_in"].shape[1]
        for index, layer in enumerate(params["layers"])
        for matrix, linear in layer.items()
        if "kernel_in" in linear
    }


@contextlib.contextmanager
def _appearing_whole(target: pathlib.Path, overwrite: bool) -> Iterator[pathlib.Path]:
    """A scratch directory that becomes target only if the block succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        content = scratch / "new"
        content.mkdir()
        yield content
        old = scratch / "old"
        if target.exists() and overwrite:
            target.rename(old)
        try:
            content.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
    finally:
        # Not while it holds what could not be put back.
        if not (scratch / "old").exists() or target.exists():
            shutil.rmtree(scratch, ignore_errors=True)


def save(
    checkpoint: Checkpoint,
    directory: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    factored: bool = False,
    overwrite: bool = False,
) -> pathlib.Path:
    """Write a checkpoint, one tensor at a time, to a directory that appears whole or not.

    dtype is that of every tensor, by default each keeps the one it was stored in. factored keeps
    matrices that are in factors so; otherwise their products are written. Returns the
    directory.

    Raises CheckpointError if the directory exists (unless overwrite) or is a link, if a value
    is too large for dtype, or if factored is asked for without any factors; ValueError for an
    unknown dtype.
    """
    target = pathlib.Path(directory)
    require_writable(checkpoint, dtype)
    if target.is_symlink() and (overwrite or not target.exists()):
        raise CheckpointError(f"{target}: is a link; remove it, or give another directory")
    if target.exists() and not (overwrite and target.is_dir()):
        raise CheckpointError(f"{target}: exists; give another directory, or overwrite it")
    ranks = _ranks(checkpoint.params) if factored else {}
    if factored and not ranks:
        raise CheckpointError(f"{target}: no matrix is in factors, so write it dense")
    rules = layout.rules(families.of(checkpoint.config), checkpoint.config, ranks)
    shapes = {name: rule.shape for name, rule in rules.items()}
    dtypes = {n: DTYPES[dtype or _dtype_of(checkpoint, rule)] for n, rule in rules.items()}
    # Who loads everything in the one dtype that config.json names must not round any of it.
    said = dtype or checkpoint.stored_dtype
    with _appearing_whole(target, overwrite) as scratch:
        config = json.dumps(_config_json(checkpoint, said), indent=2, sort_keys=True) + "\n"
        (scratch / "config.json").write_text(config, encoding="utf-8")
        if checkpoint.directory is not None and gguf.place(checkpoint.directory):
            metadata = gguf.read(checkpoint.directory).metadata
            for name, text in tokens.files(checkpoint.tokenizer.library, metadata).items():
                (scratch / name).write_text(text, encoding="utf-8")
        elif checkpoint.directory is not None:
            for file in companions.of(checkpoint.directory):
                copy = scratch / file.relative_to(checkpoint.directory)
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, copy)
        safetensors_file.write_file(
            scratch / (weight_sets.FACTORED_FILE if factored else "model.safetensors"),
            shapes,
            dtypes,
            _contents(checkpoint.params, rules, dtypes),
        )
    return target
