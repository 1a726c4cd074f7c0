"""The container: metadata, a list of tensors, and their data, quantised in blocks.

Little-endian, versions 2 and 3:

    "GGUF"  version u32  tensors u64  keys u64
    keys x (name, type u32, value)
    tensors x (name, dimensions u32, sizes u64..., type u32, offset u64)
    padding to general.alignment (32), data

A text is its length (u64) and bytes, an array its type, length (u64) and items. Sizes are given
from the fastest axis to the slowest. Every length is checked against what is left of the file
before anything is made of it. Numbers are unpacked by the gguf library, block by block, so that
what stays in memory is the destination and one block.
"""

import dataclasses
import functools
import itertools
import pathlib
import re
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.formats.stored import (
    MappedFile,
    StoredTensor,
    count,
    mapped_tensor,
    rows_per_block,
)
from truncated_weights.truncation.files import telling

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8",
    11: "<i8", 12: "<f8",
}  # fmt: skip
_TEXT, _ARRAY = 8, 9
# Beyond any model there is; what a file of this size could claim would take gigabytes as objects.
_MOST = {"keys": 4096, "tensors": 2**16, "items of an array": 2**21, "bytes of a text": 2**24}
_PLAIN = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 28: np.dtype("<f8"),
          30: np.dtype(ml_dtypes.bfloat16)}  # fmt: skip
# Type -> its name, numbers a block, bytes a block, levels: how many values an entry may take
# between the least and the largest of its block.
QUANTISED = {
    2: ("Q4_0", 32, 18, 16), 3: ("Q4_1", 32, 20, 16), 6: ("Q5_0", 32, 22, 32),
    7: ("Q5_1", 32, 24, 32), 8: ("Q8_0", 32, 34, 256), 10: ("Q2_K", 256, 84, 4),
    11: ("Q3_K", 256, 110, 8), 12: ("Q4_K", 256, 144, 16), 13: ("Q5_K", 256, 176, 32),
    14: ("Q6_K", 256, 210, 64), 20: ("IQ4_NL", 32, 18, 16), 23: ("IQ4_XS", 256, 136, 16),
}  # fmt: skip
_SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")


@dataclasses.dataclass(frozen=True)
class Contents:
    """What one file, or all parts of a split one, hold.

    metadata: numbers, truth values, texts, lists of texts and arrays of numbers by key. tensors
    by their names in the file, shapes [slowest, ..., fastest]. quantised: the type of those that
    are, by name.
    """

    metadata: dict[str, Any]
    tensors: dict[str, StoredTensor]
    quantised: dict[str, str]


class _Cursor:
    """A place in a mapped file from which things are read, each inside what is left."""

    def __init__(self, file: MappedFile) -> None:
        self.file, self.at = file, 0

    def bytes(self, size: int, what: str) -> bytes:
        if size > self.file.size - self.at:
            raise self.file.fail(
                f"{what} claims {size} bytes, {self.file.size - self.at} are left of the file"
            )
        self.at += size
        return self.file.memory[self.at - size : self.at]

    def number(self, form: str, what: str) -> int:
        return struct.unpack(form, self.bytes(struct.calcsize(form), what))[0]

    def many(self, what: str) -> int:
        found = self.number("<Q", what)
        if found > _MOST[what]:
            raise self.file.fail(f"{found} {what} are more than {_MOST[what]}")
        return found

    def text(self, what: str) -> str:
        size = self.many("bytes of a text")
        try:
            return self.bytes(size, what).decode()
        except UnicodeDecodeError:
            raise self.file.fail(f"{what} is no UTF-8") from None

    def scalars(self, kind: int, number: int, what: str) -> np.ndarray:
        if kind not in _SCALARS:
            raise self.file.fail(f"{what} has the unknown type {kind}")
        dtype = np.dtype(_SCALARS[kind])
        return np.frombuffer(self.bytes(number * dtype.itemsize, what), dtype)

    def value(self, what: str) -> Any:
        kind = self.number("<I", what)
        if kind == _TEXT:
            return self.text(what)
        if kind != _ARRAY:
            one = self.scalars(kind, 1, what)[0]
            # The shortest decimal that is the same float32: 1e-05, not 9.999999747378752e-06.
            return float(str(one)) if one.dtype == np.float32 else one.item()
        inner, number = self.number("<I", what), self.many("items of an array")
        if inner == _ARRAY:
            raise self.file.fail(f"{what} is an array of arrays, which no model needs")
        if inner == _TEXT:
            if 8 * number > self.file.size - self.at:
                raise self.file.fail(f"{what} claims {number} texts, which the file cannot hold")
            return [self.text(what) for _ in range(number)]
        return self.scalars(inner, number, what)


def parts(path: pathlib.Path) -> list[pathlib.Path]:
    """The file, or all parts of the split one whose first it is; CheckpointError if one is gone."""
    split = _SPLIT.fullmatch(path.name)
    if split is None:
        return [path]
    stem, part, number = split.group(1), int(split.group(2)), int(split.group(3))
    if part != 1:
        raise CheckpointError(f"{path}: part {part} of {number}; give the first, {stem}-00001-of-*")
    found = [path.with_name(f"{stem}-{i:05}-of-{number:05}.gguf") for i in range(1, number + 1)]
    if missing := [one.name for one in found if not one.is_file()]:
        raise CheckpointError(f"{path}: parts missing: {telling.some(missing)}")
    return found


def read(paths: Sequence[pathlib.Path]) -> Contents:
    """The contents of a file, or of all parts of a split one.

    Raises CheckpointError, opening with the path, for anything unsound.
    """
    found = [_read_one(path) for path in paths]
    tensors: dict[str, StoredTensor] = {}
    for path, one in zip(paths, found, strict=True):
        if twice := tensors.keys() & one.tensors.keys():
            raise CheckpointError(f"{path}: {min(twice)[:200]} is in two parts")
        tensors |= one.tensors
    quantised = {key: kind for one in found for key, kind in one.quantised.items()}
    return Contents(found[0].metadata, tensors, quantised)


def _read_one(path: pathlib.Path) -> Contents:
    file = MappedFile(path)
    cursor = _Cursor(file)
    if file.size < 24 or cursor.bytes(4, "the head") != MAGIC:
        raise file.fail("not a GGUF file")
    version = cursor.number("<I", "version")
    if version not in _VERSIONS:
        turned = int.from_bytes(version.to_bytes(4, "little"), "big")
        big = turned in _VERSIONS
        raise file.fail(
            "is big-endian, which is not read" if big else f"version {version} is not supported"
        )
    number, keys = cursor.many("tensors"), cursor.many("keys")
    metadata: dict[str, Any] = {}
    for _ in range(keys):
        key = cursor.text("a key")
        if key in metadata:
            raise file.fail(f"{key[:200]!r} is there twice")
        metadata[key] = cursor.value(f"key {key[:200]!r}")
    listed = [_entry(cursor) for _ in range(number)]
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment not in {2**i for i in range(3, 17)}:
        raise file.fail(f"general.alignment is {str(alignment)[:40]}; expected a power of two")
    start = -(-cursor.at // alignment) * alignment
    tensors, quantised, ranges = {}, {}, []
    for name, shape, kind, offset in listed:
        where = f"tensor {name[:200]!r}"
        if name in tensors:
            raise file.fail(f"{where} is there twice")
        if kind not in _PLAIN and kind not in QUANTISED:
            known = ", ".join(["F32", "F16", "F64", "BF16", *(q[0] for q in QUANTISED.values())])
            raise file.fail(f"{where} has type {kind}, which is not read; known are {known}")
        size = _bytes(shape, kind)
        if size is None:
            raise file.fail(
                f"{where}: rows of {shape[-1]} are no whole blocks of {QUANTISED[kind]}"
            )
        if offset % alignment or offset + size > file.size - start:
            raise file.fail(
                f"{where}: {size} bytes at {offset} do not lie in the {file.size - start} of data"
            )
        ranges.append((offset, offset + size, name))
        if kind in _PLAIN:
            tensors[name] = mapped_tensor(file, start + offset, shape, _PLAIN[kind])
        else:
            quantised[name] = QUANTISED[kind][0]
            reading = functools.partial(_unpacked, file, start + offset, shape, kind)
            tensors[name] = StoredTensor(shape, np.dtype("<f4"), reading)
    ranges.sort()
    for (_, end, one), (begin, _, other) in itertools.pairwise(ranges):
        if begin < end:
            raise file.fail(f"tensors {one[:200]!r} and {other[:200]!r} overlap")
    return Contents(metadata, tensors, quantised)


def _entry(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name = cursor.text("a tensor's name")
    where = f"tensor {name[:200]!r}"
    axes = cursor.number("<I", where)
    if not 1 <= axes <= 4:
        raise cursor.file.fail(f"{where} has {axes} axes; expected 1 to 4")
    sizes = tuple(cursor.number("<Q", where) for _ in range(axes))
    if not all(0 < size < 2**40 for size in sizes) or count(sizes) > 2**48:
        raise cursor.file.fail(f"{where} claims the shape {sizes}")
    return name, sizes[::-1], cursor.number("<I", where), cursor.number("<Q", where)


def _bytes(shape: tuple[int, ...], kind: int) -> int | None:
    """The bytes of a tensor; None where its rows are no whole number of blocks."""
    if kind in _PLAIN:
        return count(shape) * _PLAIN[kind].itemsize
    _, numbers, size, _ = QUANTISED[kind]
    return None if shape[-1] % numbers else count(shape) // numbers * size


def _unpacked(
    file: MappedFile, offset: int, shape: tuple[int, ...], kind: int, multiple: int
) -> Iterator[np.ndarray]:
    """Blocks of rows in float32; a tensor of one axis is one row of as many numbers."""
    quants, types = _library()
    rows = shape[0] if len(shape) > 1 else 1
    row_bytes = (_bytes(shape, kind) or 0) // rows
    step = rows_per_block(shape, np.dtype("<f4"), multiple) if len(shape) > 1 else 1
    for first in range(0, rows, step):
        last = min(first + step, rows)
        data = np.frombuffer(file.memory, np.uint8, (last - first) * row_bytes,
                             offset + first * row_bytes)  # fmt: skip
        # A hostile scale is infinite; what comes of it is refused where it is used.
        with np.errstate(all="ignore"):
            numbers = quants.dequantize(data.reshape(last - first, row_bytes), types(kind))
        yield numbers.reshape(last - first, *shape[1:]) if len(shape) > 1 else numbers.reshape(-1)
        del data
        file.release()


@functools.cache
def _library() -> tuple[Any, Any]:
    try:
        from gguf import GGMLQuantizationType, quants
    except ImportError:
        raise CheckpointError(
            "reading quantised GGUF needs the gguf library: pip install gguf"
        ) from None
    return quants, GGMLQuantizationType


def rounding(tensor: StoredTensor, kind: str) -> float:
    """The standard deviation of an entry's rounding error, from the range of its blocks.

    Levels of one block lie about evenly between its least and largest entry, and what was there
    before is anywhere between two of them: step / sqrt(12). An estimate: K types give their
    blocks of 16 or 32 scales of their own, which is the length taken here.
    """
    levels = next(found[3] for found in QUANTISED.values() if found[0] == kind)
    squares, number = 0.0, 0
    for block in tensor.read(1):
        rows = block.reshape(-1, 16 if kind in ("Q2_K", "Q3_K", "Q6_K") else 32)
        squares += float(np.sum(np.ptp(rows, axis=1).astype(np.float64) ** 2))
        number += len(rows)
    return float(np.sqrt(squares / max(number, 1) / 12) / (levels - 1))
