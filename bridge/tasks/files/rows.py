"""Rows of a file in whichever of its published forms: a JSON array, JSON lines, Parquet."""

import pathlib

from truncated_weights.bridge.tasks.files import json_rows, parquet_rows
from truncated_weights.bridge.tasks.files.json_rows import Row


def read(path: pathlib.Path) -> list[Row]:
    """The objects of the file, each with its line (or row, in Parquet).

    A file of the suffix .parquet is Parquet; of the others one that opens with "[" is an
    array, and the rest are JSON lines. Raises TaskError naming file, line and fault.
    """
    if path.suffix == ".parquet":
        return parquet_rows.read(path)
    if json_rows.opening(path) == "[":
        return json_rows.array(path)
    return json_rows.lines(path)
