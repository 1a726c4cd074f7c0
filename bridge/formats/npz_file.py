"""NumPy's .npz archives: one .npy per tensor, stored or deflated, under its stored name."""

import functools
import io
import pathlib
from collections.abc import Iterator

import numpy as np

from truncated_weights.bridge.formats import zip_file
from truncated_weights.bridge.formats.stored import (
    FLOATS,
    StoredTensor,
    count,
    mapped_tensor,
    rows_per_block,
)

_LARGEST_HEADER = 4096
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _header(entry: zip_file.Entry) -> tuple[tuple[int, ...], np.dtype, bool, int]:
    """(shape, dtype, fortran order, bytes of header) of the .npy in an entry."""
    start = b""
    for piece in entry.pieces():
        start += piece
        if len(start) >= _LARGEST_HEADER:
            break
    stream = io.BytesIO(start[:_LARGEST_HEADER])
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran, dtype = _HEADERS[version](stream, max_header_size=_LARGEST_HEADER)
    except Exception as error:  # the header is a Python literal: many kinds of fault
        raise entry.fail(f"not a .npy ({type(error).__name__})") from None
    if dtype.hasobject:
        raise entry.fail("holds Python objects, which are never read")
    if len(shape) > 8 or any(type(size) is not int or size < 0 for size in shape):
        raise entry.fail("its shape is not a tuple of natural numbers")
    if count(shape) * dtype.itemsize != entry.size - stream.tell():
        raise entry.fail(f"{entry.size - stream.tell()} bytes do not fit {dtype} {shape}")
    return shape, dtype, fortran, stream.tell()


def _streamed_rows(
    entry: zip_file.Entry, shape: tuple[int, ...], dtype: np.dtype, skip: int, multiple: int
) -> Iterator[np.ndarray]:
    """What StoredTensor.read gives of an entry that is decompressed as it is read."""
    rows = rows_per_block(shape, dtype, multiple)
    size = rows * count(shape[1:]) * dtype.itemsize
    pending, first = bytearray(), True
    for piece in entry.pieces():
        pending += piece
        if first and len(pending) >= skip:
            del pending[:skip]
            first = False
        while not first and size and len(pending) > size:
            yield np.frombuffer(bytes(pending[:size]), dtype).reshape(rows, *shape[1:])
            del pending[:size]
    if pending:
        yield np.frombuffer(bytes(pending), dtype).reshape(-1, *shape[1:])


def open_file(path: pathlib.Path) -> dict[str, StoredTensor]:
    """The tensors of a .npz file by name; CheckpointError if it is not sound.

    Raises CheckpointError too for bfloat16 arrays, which .npy stores as nameless bytes.
    """
    tensors: dict[str, StoredTensor] = {}
    for name, entry in zip_file.open_entries(path).items():
        if not name.endswith(".npy") or "/" in name:
            raise entry.fail("only .npy files are expected in a .npz")
        shape, dtype, fortran, skip = _header(entry)
        if dtype.kind == "V":
            raise entry.fail("holds raw bytes; store bfloat16 arrays as float32 in a .npz")
        if dtype.newbyteorder("<") in FLOATS.values() and dtype not in FLOATS.values():
            raise entry.fail("big-endian numbers are not supported")
        if entry.is_stored:
            strides = None
            if fortran:
                sizes = [dtype.itemsize]
                for size in shape[:-1]:
                    sizes.append(sizes[-1] * size)
                strides = tuple(sizes)
            tensor = mapped_tensor(
                entry.file, entry.offset + skip, shape, dtype, strides, entry.verify
            )
        elif fortran and len(shape) > 1:
            raise entry.fail("compressed in Fortran order; save it in C order")
        else:
            read = functools.partial(_streamed_rows, entry, shape, dtype, skip)
            tensor = StoredTensor(shape, dtype, read, entry.verify)
        tensors[name.removesuffix(".npy")] = tensor
    return tensors
