"""Rows of a Parquet file, in which most public copies of a data set are kept.

Read through pyarrow, an optional extra: nothing else here needs it.
"""

import os
import pathlib
from typing import Any, BinaryIO

from truncated_weights.bridge.tasks.example import TaskError
from truncated_weights.bridge.tasks.files.json_rows import Row
from truncated_weights.truncation.files import regular, room

# What one value costs as a Python object beside its own bytes: itself and its place in a row.
_OBJECT = 100
_BLOCK = 2**26


def read(path: pathlib.Path) -> list[Row]:
    """The rows of the file, numbered from 1.

    Raises TaskError, naming the file, where it cannot be read, holds no rows, would take too much
    memory, or pyarrow is not there.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise TaskError(
            f"{path}: reading Parquet needs the pyarrow library: pip install pyarrow"
        ) from None
    try:
        # Through an open file: given a path, the reader would take a directory for a data set.
        with regular.opened(path) as file:
            values = _values(pyarrow.parquet.ParquetFile(file), file)
    except FileNotFoundError:
        raise TaskError(f"{path}: no such file") from None
    except room.TooLargeError as error:
        raise TaskError(f"{path}: {error}") from None
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        first = str(error).partition("\n")[0]
        raise TaskError(f"{path}: not a Parquet file ({first})") from None
    except OSError as error:
        raise TaskError(f"{path}: {error.strerror or error}") from None
    if not values:
        raise TaskError(f"{path}: no examples in it")
    return [Row(path, number, value, "row") for number, value in enumerate(values, start=1)]


def _values(parquet: Any, file: BinaryIO) -> list[dict[str, Any]]:
    """The rows; TooLargeError before they take more memory than the file can be worth.

    What the file says of itself is a lower bound: a text that a million rows share is stored once.
    So rows are read in blocks that cannot be large, and what all would take is known from those
    that were read.
    """
    stored, rows = os.fstat(file.fileno()).st_size, parquet.metadata.num_rows
    groups = [parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    objects = _OBJECT * sum(column.num_values for column in columns)
    unpacked = sum(column.total_uncompressed_size for column in columns)
    what = f"its {rows:,} rows"
    room.require(objects + unpacked, what, stored=stored)
    # No value is larger than its whole column.
    largest = max((column.total_uncompressed_size for column in columns), default=0)
    values: list[dict[str, Any]] = []
    taken = 0
    for batch in parquet.iter_batches(max(1, min(4096, _BLOCK // max(1, largest)))):
        taken += batch.get_total_buffer_size()
        room.require(
            objects + taken * max(1, rows / (len(values) + len(batch))), what, stored=stored
        )
        values += batch.to_pylist()
    return values
