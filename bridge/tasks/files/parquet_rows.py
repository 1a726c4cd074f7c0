"""Rows of a Parquet file, in which most public copies of a data set are kept.

Read through pyarrow, an optional extra: nothing else here needs it.
"""

import pathlib

from bridge.tasks.example import TaskError
from bridge.tasks.files.json_rows import Row


def read(path: pathlib.Path) -> list[Row]:
    """The rows of the file, numbered from 1.

    Raises TaskError, naming the file, where it cannot be read, holds no rows, or pyarrow is
    not there.
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
        with path.open("rb") as file:
            values = pyarrow.parquet.read_table(file).to_pylist()
    except FileNotFoundError:
        raise TaskError(f"{path}: no such file") from None
    except OSError as error:
        raise TaskError(f"{path}: {error.strerror or error}") from None
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        first = str(error).partition("\n")[0]
        raise TaskError(f"{path}: not a Parquet file ({first})") from None
    if not values:
        raise TaskError(f"{path}: no examples in it")
    return [Row(path, number, value, "row") for number, value in enumerate(values, start=1)]
