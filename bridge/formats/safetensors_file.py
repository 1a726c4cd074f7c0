"""The safetensors format: 8 bytes of header length, a JSON header, one gapless payload.

Read here rather than through the safetensors package for three reasons: pages must be
handed back while reading (the package keeps the whole file resident, which doubles the
memory of loading), a name given twice must be an error, and every fault must be one kind
of error. The tests read and write with the package to compare.
"""

import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping

import ml_dtypes
import numpy as np

from truncated_weights.bridge.formats import strict_json
from truncated_weights.bridge.formats.stored import MappedFile, StoredTensor, count, mapped_tensor
from truncated_weights.truncation.files import room

# Of 100,000 tensors; the format's own limit is 100 MB, which would take gigabytes as objects.
LARGEST_HEADER = 16 * 2**20
_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


def _naturals(value: object, limit: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= limit
        and all(type(item) is int and 0 <= item < 2**62 for item in value)
    )


def open_file(path: pathlib.Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by name; CheckpointError if it is not sound."""
    file = MappedFile(path)
    if file.size < 8:
        raise file.fail(f"{file.size} bytes are too few for a safetensors file")
    length = int.from_bytes(file.memory[:8], "little")
    if length > file.size - 8:
        raise file.fail(f"the header claims {length} bytes of a file of {file.size}")
    if length > LARGEST_HEADER:
        raise file.fail(
            f"a header of {room.told(length)} would take up to {room.told(24 * length)} as "
            f"objects; at most {room.told(LARGEST_HEADER)} are read"
        )
    header = strict_json.parse(file.memory[8 : 8 + length], f"{path}: header")
    start = 8 + length
    tensors: dict[str, StoredTensor] = {}
    ranges = []
    for name, entry in header.items():
        if name == "__metadata__":
            if not isinstance(entry, dict) or not all(isinstance(v, str) for v in entry.values()):
                raise file.fail("__metadata__ is not a mapping from strings to strings")
            continue
        where = f"tensor {name[:200]!r}"
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise file.fail(f"{where}: expected exactly dtype, shape and data_offsets")
        shape, offsets = entry["shape"], entry["data_offsets"]
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in _DTYPES:
            raise file.fail(f"{where}: dtype {str(entry['dtype'])[:40]!r} is not supported")
        if not _naturals(shape, 8) or not _naturals(offsets, 2) or len(offsets) != 2:
            raise file.fail(f"{where}: shape or data_offsets are not lists of natural numbers")
        dtype = _DTYPES[entry["dtype"]]
        begin, end = offsets
        if end - begin != count(tuple(shape)) * dtype.itemsize or end > file.size - start:
            raise file.fail(
                f"{where}: {entry['dtype']} {shape} does not fit bytes {begin} to {end} of "
                f"{file.size - start}"
            )
        ranges.append((begin, end))
        tensors[name] = mapped_tensor(file, start + begin, tuple(shape), dtype)
    expected = 0
    for begin, end in sorted(ranges):
        if begin != expected:
            raise file.fail(f"payload bytes {min(begin, expected)} on overlap or are unused")
        expected = end
    if expected != file.size - start:
        raise file.fail(f"the tensors cover {expected} of {file.size - start} payload bytes")
    return tensors


def write_file(
    path: pathlib.Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtypes: np.dtype | Mapping[str, np.dtype],
    contents: Iterable[np.ndarray],
) -> None:
    """Write tensors, taking them one at a time in the order of shapes; dtypes: one, or by name.

    The file is synchronised to disk before this returns. Raises ValueError if a tensor
    that arrives has another shape or dtype than announced.
    """
    of = dict.fromkeys(shapes, dtypes) if isinstance(dtypes, np.dtype) else dtypes
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + count(shape) * of[name].itemsize
        code = next(code for code, known in _DTYPES.items() if known == of[name])
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    arrays: Iterator[np.ndarray] = iter(contents)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            array = next(arrays)
            if array.shape != shape or array.dtype != of[name]:
                raise ValueError(f"{name} is {array.dtype} {array.shape}, not {of[name]} {shape}")
            file.write(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data)
        file.flush()
        os.fsync(file.fileno())
