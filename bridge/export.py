"""Edited weights back to a directory, dense for Hugging Face tools or in thin factors.

Dense: model.safetensors with the names and layout of the original, config.json and the
tokenizer's files, so that any tool that read the original reads this. Factored:
factored.safetensors, which only this package reads; its name is one that other tools do
not look for, because they would fill the matrices they miss with random numbers.
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

from bridge import families
from bridge.checkpoint import DTYPES, Checkpoint
from bridge.errors import CheckpointError
from bridge.families import layout
from bridge.formats import safetensors_file, strict_json, weight_sets

COPIED = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json"),
    *("merges.txt", "generation_config.json"),
)


def _config_json(checkpoint: Checkpoint, dtype: str) -> dict[str, Any]:
    """The original's config.json where it describes this model, else a fresh one."""
    fresh = families.to_dict(checkpoint.config, dtype)
    if checkpoint.directory is None:
        return fresh
    try:
        original = strict_json.read(checkpoint.directory / "config.json")
        if families.from_dict(original) != checkpoint.config:
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
    params: Mapping[str, Any], rules: Mapping[str, layout.Rule], dtype: np.dtype
) -> Iterator[np.ndarray]:
    for name, rule in rules.items():
        try:
            parts = [_parameter(params, path, dtype) for path in rule.paths]
        except FloatingPointError:
            raise CheckpointError(f"{name} holds values too large for {dtype}") from None
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
        if target.exists() and overwrite:
            target.rename(scratch / "old")
        content.rename(target)
    finally:
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

    dtype is that of the file, by default the one the original was stored in. factored keeps
    matrices that are in factors so; otherwise their products are written. Returns the
    directory.

    Raises CheckpointError if the directory exists (unless overwrite), if a value is too
    large for dtype, or if factored is asked for without any factors; ValueError for an
    unknown dtype.
    """
    target = pathlib.Path(directory)
    dtype = dtype or checkpoint.stored_dtype
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not supported; known are {', '.join(DTYPES)}")
    if target.exists() and not (overwrite and target.is_dir()):
        raise CheckpointError(f"{target}: exists; give another directory, or overwrite it")
    ranks = _ranks(checkpoint.params) if factored else {}
    if factored and not ranks:
        raise CheckpointError(f"{target}: no matrix is in factors, so write it dense")
    rules = layout.rules(families.of(checkpoint.config), checkpoint.config, ranks)
    shapes = {name: rule.shape for name, rule in rules.items()}
    with _appearing_whole(target, overwrite) as scratch:
        config = json.dumps(_config_json(checkpoint, dtype), indent=2, sort_keys=True) + "\n"
        (scratch / "config.json").write_text(config, encoding="utf-8")
        for name in COPIED:
            if checkpoint.directory is not None and (checkpoint.directory / name).is_file():
                shutil.copyfile(checkpoint.directory / name, scratch / name)
        safetensors_file.write_file(
            scratch / (weight_sets.FACTORED_FILE if factored else "model.safetensors"),
            shapes,
            DTYPES[dtype],
            _contents(checkpoint.params, rules, DTYPES[dtype]),
        )
    return target
