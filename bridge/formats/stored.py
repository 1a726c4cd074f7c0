"""Tensors that lie in files: described at once, read in blocks, never held twice.

Files are memory-mapped. Pages already read are handed back after every block, so that
what stays in memory is the destination and one block.
"""

import dataclasses
import functools
import mmap
import pathlib
from collections.abc import Callable, Iterator

import ml_dtypes
import numpy as np

from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.truncation.files import regular

BLOCK_BYTES = 8 * 2**20
FLOATS = {
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
}


class MappedFile:
    """A file mapped read-only; raises CheckpointError if it cannot be or is empty."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        try:
            with regular.opened(path) as file:
                self.memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(f"{path}: cannot be read ({reason})") from None
        self.size = len(self.memory)

    def fail(self, what: str) -> CheckpointError:
        """The error that says what is wrong with this file."""
        return CheckpointError(f"{self.path}: {what}")

    def release(self) -> None:
        """Hand the pages read so far back to the system; reading them again is allowed."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.memory.madvise(mmap.MADV_DONTNEED)

    def pieces(self, offset: int, size: int) -> Iterator[bytes]:
        """The bytes [offset, offset + size) in blocks."""
        for start in range(offset, offset + size, BLOCK_BYTES):
            yield self.memory[start : min(start + BLOCK_BYTES, offset + size)]
            self.release()


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    read(rows) yields its content in order, in arrays of whole rows whose number is a
    multiple of `rows` (the last may be shorter); a 1-D tensor has one number per row.
    verify() raises CheckpointError if a checksum of the format does not hold.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[int], Iterator[np.ndarray]]
    verify: Callable[[], None] = lambda: None


def rows_per_block(shape: tuple[int, ...], dtype: np.dtype, multiple: int) -> int:
    """How many rows, a multiple of `multiple`, come nearest to BLOCK_BYTES from below."""
    row_bytes = max(1, int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize)
    return max(1, BLOCK_BYTES // row_bytes // multiple) * multiple


def mapped_tensor(
    file: MappedFile,
    offset: int,
    shape: tuple[int, ...],
    dtype: np.dtype,
    strides: tuple[int, ...] | None = None,
    verify: Callable[[], None] = lambda: None,
) -> StoredTensor:
    """The tensor at a byte offset of a mapped file; the caller has checked the bounds.

    strides are in bytes, C order if not given.
    """
    read = functools.partial(_mapped_rows, file, offset, shape, dtype, strides)
    return StoredTensor(shape, dtype, read, verify)


def _mapped_rows(
    file: MappedFile,
    offset: int,
    shape: tuple[int, ...],
    dtype: np.dtype,
    strides: tuple[int, ...] | None,
    multiple: int,
) -> Iterator[np.ndarray]:
    whole: np.ndarray = np.ndarray(shape, dtype, file.memory, offset, strides)
    rows = rows_per_block(shape, dtype, multiple)
    for start in range(0, shape[0] if shape else 0, rows):
        yield whole[start : start + rows]
        file.release()


def count(shape: tuple[int, ...]) -> int:
    """Number of elements, in exact integers: a hostile shape must not wrap around."""
    product = 1
    for size in shape:
        product *= size
    return product
