"""Damaged checkpoints by the thousand, seeded: refused, or read as what they were.

Every weight file of the tiny fixture, and its index, is mutated, and one file of every family
with its config.json. A load may only end in
CheckpointError or in a checkpoint. In zip archives, which have checksums, that checkpoint
must be the original. In safetensors and legacy files payload bytes have no checksum, so it
must be the original with the mutated payload bytes: never another shape, name or structure.

    python tests/bridge/formats/fuzz.py formats 150        # mutations per file
    python tests/bridge/formats/fuzz.py families 25 formats 150

prints the counts as JSON.
"""

import functools
import json
import pathlib
import sys
import tempfile
import time

import jax
import numpy as np
from gguf import GGMLQuantizationType

from truncated_weights import bridge
from truncated_weights.bridge import checkpoint, families
from truncated_weights.bridge.formats import weight_sets

sys.path.append(str(pathlib.Path(__file__).parents[1] / "gguf"))
import writer

Q4_1, Q8_0 = GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q8_0

DATA = pathlib.Path(__file__).parents[2] / "data"
TINY = DATA / "tiny_gpt_neox"
# One recorded model per family, as safetensors, with its config.json.
CASES = (
    *("gpt_neox", "gptj", "gpt2", "llama3", "mistral", "qwen2_windows", "phi", "phi3_long"),
    "roberta",
)
FILES = (
    "zip_fp32/pytorch_model.bin",
    "zip_bf16/pytorch_model.bin",
    "legacy_fp32/pytorch_model.bin",
    "safetensors_fp16/model.safetensors",
    "sharded_fp16/pytorch_model-00002-of-00003.bin",
    "sharded_fp16/pytorch_model.bin.index.json",
    "npz/model.npz",
    "npz_compressed/model.npz",
)


def flip(data, rng, where):
    data[where] ^= 1 << int(rng.integers(8))


def overwrite(data, rng, where):
    size = int(rng.integers(1, 9))
    filler = (b"\x00", b"\xff", bytes(rng.integers(0, 256, 1, np.uint8)))[rng.integers(3)]
    piece = data[where : where + size]
    data[where : where + size] = filler * len(piece)


def digit(data, rng, where):
    places = [i for i in range(where, min(where + 400, len(data))) if 48 <= data[i] < 58]
    if places:
        data[places[rng.integers(len(places))]] = 48 + int(rng.integers(10))


def cut(data, rng, where):
    del data[where:]


def remove(data, rng, where):
    del data[where : where + int(rng.integers(1, 65))]


def insert(data, rng, where):
    data[where:where] = bytes(rng.integers(0, 256, int(rng.integers(1, 65)), np.uint8))


def repeat(data, rng, where):
    size = int(rng.integers(1, 129))
    data[where:where] = data[where : where + size]


def transplant(data, rng, where):
    size, source = int(rng.integers(1, 129)), int(rng.integers(len(data)))
    piece = data[source : source + size]
    data[where : where + len(piece)] = piece


MUTATIONS = (flip, flip, overwrite, digit, cut, remove, insert, repeat, transplant)


def sources(name, tmp_path):
    """A fresh directory with the files of this format, and the file to mutate."""
    folder, file = name.rsplit("/", 1)
    if folder.startswith("npz"):
        arrays = {
            key: next(tensor.read(10**6)).copy()
            for key, tensor in originals("zip_fp32/pytorch_model.bin").items()
            if tensor.shape and "attention.bias" not in key
        }
        save = np.savez_compressed if "compressed" in folder else np.savez
        save(tmp_path / file, **arrays)
    else:
        for path in (TINY / folder).iterdir():
            if path.name not in ("config.json", "golden.npz"):
                (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / file


@functools.cache
def config_of(name):
    of_family = name.startswith("../families/")
    return families.read(
        (TINY / name).parent / "config.json" if of_family else TINY / "config.json"
    )


@functools.cache
def originals(name):
    return weight_sets.open_weights(TINY / name)


def payload(path):
    """True at the bytes of a file that are tensor content, and nothing else."""
    inside = np.zeros(path.stat().st_size, bool)
    for tensor in weight_sets.open_weights(path).values():
        for block in tensor.read(10**9):
            base = block
            while isinstance(base.base, np.ndarray):
                base = base.base
            start = np.frombuffer(base.base, np.uint8).__array_interface__["data"][0]
            offset = block.__array_interface__["data"][0] - start
            inside[offset : offset + block.nbytes] = True
    return inside


def same(tree, other):
    leaves = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    return jax.tree.structure(tree) == jax.tree.structure(other) and all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in leaves
    )


def require_one_line(error, path):
    assert str(error).startswith(str(path)), error
    assert "\n" not in str(error), error


def mutate(whole, structure, rng):
    data = bytearray(whole)
    for _ in range(int(rng.integers(1, 3))):
        # Half of the places in what describes the tensors, a small part of the file.
        pick = structure[rng.integers(len(structure))]
        where = int(pick if rng.integers(2) else rng.integers(len(whole)))
        MUTATIONS[rng.integers(len(MUTATIONS))](data, rng, min(where, len(data) - 1))
        if not data:
            break
    return bytes(data)


def fuzz_weights(name, directory, mutations):
    """(refused, read) of the mutated files of one format."""
    rng = np.random.default_rng(sum(name.encode()))
    path = sources(name, directory)
    whole = path.read_bytes()
    load = functools.partial(bridge.load, directory, config=config_of(name))
    original = load().params
    checked = "legacy" not in name and "safetensors" not in name
    inside = None if checked else payload(path)
    structure = np.arange(len(whole)) if checked else np.flatnonzero(~inside)
    refused = 0
    for index in range(mutations):
        data = mutate(whole, structure, rng)
        path.write_bytes(data)
        start = time.monotonic()
        try:
            accepted = load().params
        except bridge.CheckpointError as error:
            refused += 1
            require_one_line(error, directory)
        else:
            expected = original
            if not checked:
                mended = np.frombuffer(whole, np.uint8).copy()
                mended[inside] = np.frombuffer(data, np.uint8)[payload(path)]
                path.write_bytes(mended.tobytes())
                expected = load().params
            assert same(accepted, expected), f"{name}: mutation {index} changed what was read"
        assert time.monotonic() - start < 5, f"{name}: mutation {index} took too long"
    return refused, mutations - refused


def fuzz_config(source, directory, mutations):
    """(refused, read) of mutated configurations beside a directory's weights, if it has any.

    One that is read with its weights has found exactly the tensors it expects.
    """
    rng = np.random.default_rng(sum(source.name.encode()))
    whole = (source / "config.json").read_bytes()
    path, refused = directory / "config.json", 0
    weights = (source / "model.safetensors").is_file()
    if weights:
        (directory / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    for index in range(mutations):
        path.write_bytes(mutate(whole, np.arange(len(whole)), rng))
        start = time.monotonic()
        try:
            checkpoint.check(directory) if weights else families.read(path)
        except bridge.CheckpointError as error:
            refused += 1
            require_one_line(error, directory)
        assert time.monotonic() - start < 5, f"{source.name}: mutation {index} took too long"
    return refused, mutations - refused


def fuzz_gguf(directory, mutations):
    """(refused, read) of mutated GGUF files, of mixed types, with a tokenizer.

    There is no checksum: what is read is a checkpoint of the architecture that the file claims.
    """
    rng = np.random.default_rng(7)
    kinds = {"attn_q": Q4_1, "ffn_up": Q8_0}
    path = writer.write(
        directory / "model.gguf", "llama2", words=True,
        kinds=lambda name: kinds.get(name.removesuffix(".weight").split(".")[-1]),
    )  # fmt: skip
    whole, refused = path.read_bytes(), 0
    described = np.arange(
        len(whole) - sum(a.nbytes for a in jax.tree.leaves(bridge.load(path).params)) // 3
    )
    for index in range(mutations):
        path.write_bytes(mutate(whole, described, rng))
        start = time.monotonic()
        try:
            found = bridge.load(path)
            assert jax.tree.structure(found.params) == jax.tree.structure(
                bridge.module.shapes(found.config)
            )
            _ = found.tokenizer
        except bridge.CheckpointError as error:
            refused += 1
            require_one_line(error, directory)
        assert time.monotonic() - start < 5, f"mutation {index} took too long"
    return refused, mutations - refused


def counts_of(kind, mutations):
    counts = {}
    if kind == "gguf":
        with tempfile.TemporaryDirectory() as scratch:
            return {"model.gguf": fuzz_gguf(pathlib.Path(scratch), mutations)}
    names = FILES if kind == "formats" else [f"../families/{c}/model.safetensors" for c in CASES]
    folders = [TINY] if kind == "formats" else [DATA / "families" / case for case in CASES]
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            directory = pathlib.Path(scratch) / str(len(counts))
            directory.mkdir()
            counts[name] = fuzz_weights(name, directory, mutations)
        for source in folders:
            directory = pathlib.Path(scratch) / str(len(counts))
            directory.mkdir()
            counts[f"{source.name}/config.json"] = fuzz_config(source, directory, mutations)
    return counts


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    wanted = zip(sys.argv[1::2], map(int, sys.argv[2::2]), strict=True)
    print(json.dumps({kind: counts_of(kind, mutations) for kind, mutations in wanted}))
