"""NumPy's .npz archives of records, sized from their headers before anything is unpacked."""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from truncated_weights.truncation.files import regular, room

MOST_ARRAYS = 100_000


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays by name, of a regular file, no Python objects among them.

    Raises room.TooLargeError where they would take too much memory, OSError where the file cannot
    be read, and exceptions of zipfile, zlib and numpy for every kind of damage: checksums are
    verified as the arrays are read.
    """
    with regular.opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            if len(infos) > MOST_ARRAYS:
                raise ValueError(f"{len(infos)} arrays are more than {MOST_ARRAYS}")
            unpacked = sum(info.file_size for info in infos)
            room.require(unpacked, f"{Path(path).name}: unpacking it", stored=size)
            for info in infos:
                # numpy allocates what the header claims before it reads.
                with archive.open(info) as entry:
                    _require_whole(entry, info)
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)


def _require_whole(entry: Any, info: zipfile.ZipInfo) -> None:
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(entry)
    if version not in readers:
        raise ValueError(f"{info.filename[:80]!r}: a .npy of version {version}")
    shape, _, dtype = readers[version](entry)
    claimed = dtype.itemsize
    for length in shape:
        claimed *= length
    if claimed != info.file_size - entry.tell():
        raise ValueError(f"{info.filename[:80]!r}: its bytes do not fit {dtype} {shape}")
