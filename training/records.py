"""Records: labelled arrays of what a run measured, how each is named, spelled and stored.

What is measured together is a block: an xarray Dataset with one variable per quantity, on the
axes step and seed and whatever else tells its numbers apart.

    records["models"].p_noise.sel(set="clean", model="1.mlp@0").mean("seed").plot()

A measure names each of its numbers by variable and coordinates,

    name("p_noise", set="clean", model="1.mlp@0")
    name("singular_values", "rank", matrix="1.fc_in")      # an array along rank

and nothing else in this project writes a name as text or takes one apart: summary.json,
metrics.jsonl and tables get the flat spelling from `spelled`. NaN stands where nothing was
measured.

On disk all blocks are one netCDF 4 file, records.nc, which xarray.open_datatree, netCDF4, MATLAB
and R read; behind the data stands a SHA-256 of it, so that damage is noticed.
"""

import functools
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from truncated_weights.training import reductions

FILE = "records.nc"
# The flat spelling of a name: coordinates of these axes follow the variable, all others precede
# it; coordinates of these blocks have a word in front.
AFTER = ("association", "block", "feed_forward")
PREFIXES = {
    "spectra": "spectrum", "bigrams": "bigram", "train": "train", "logits": "logits",
    "first_step": "first_step", "half_steps": "half_step",
}  # fmt: skip
# In block `train`: the step at which a seed left the finite numbers, -1 where it did not.
FIRST_BAD = "first_bad"
# An attribute of what was the column of a table.
COLUMN = "column"
MARK = b"\nsha256:"
SEALED = {"checksum": "SHA-256 of all bytes before the line that tells it, at the end"}
MOST_BYTES = 8 * 2**30


class DamagedRecordsError(ValueError):
    """A file of records is not what was written, or is none."""


class Name(NamedTuple):
    """The name of a number or array within its block; build it with `name`.

    at: (axis, coordinate) pairs. dims: what the array's own axes are called.
    """

    variable: str
    at: tuple[tuple[str, str], ...]
    dims: tuple[str, ...]

    def within(self, **at: object) -> "Name":
        """The same at more coordinates, which come first."""
        return self._replace(at=(*name("", **at).at, *self.at))


def name(variable: str, *dims: str, **at: object) -> Name:
    """variable at these coordinates; dims name the axes of an array."""
    return Name(variable, tuple((axis, str(where)) for axis, where in at.items()), dims)


class Record(NamedTuple):
    """What was measured at one step: arrays with a leading axis of seeds.

    loss: mean training loss since the stop before; NaN where no step was made.
    measured: by block; empty at a checkpoint where nothing was due.
    first_bad: the step at which each seed left the finite numbers, -1 where it did not.
    """

    step: int
    loss: np.ndarray
    measured: Mapping[str, Mapping[Name, np.ndarray]]
    first_bad: np.ndarray


def spelled(name: Name, block: str = "") -> str:
    """The flat key of a number, as in summary.json: clean/full/p_noise, recall/copy."""
    before = [where for axis, where in name.at if axis not in AFTER]
    after = [where for axis, where in name.at if axis in AFTER]
    prefix = [PREFIXES[block]] if block in PREFIXES else []
    return "/".join((*prefix, *before, name.variable, *after))


class Records(Mapping[str, xr.Dataset]):
    """The blocks of a run by name. A block may be given as a function, called when it is read."""

    def __init__(self, blocks: Mapping[str, xr.Dataset | Callable[[], xr.Dataset]]):
        self._blocks = dict(blocks)

    def __getitem__(self, block: str) -> xr.Dataset:
        found = self._blocks[block]
        if not isinstance(found, xr.Dataset):
            found = self._blocks[block] = found()
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def __getattr__(self, block: str) -> xr.Dataset:
        if not block.startswith("_") and block in self._blocks:
            return self[block]
        raise AttributeError(f"no block {block!r}; there are {', '.join(self)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]

    def __repr__(self) -> str:
        lines = []
        for block, data in self.items():
            sizes = ", ".join(f"{axis} {size}" for axis, size in data.sizes.items())
            lines.append(f"{block} ({sizes}): {_listed(list(map(str, data.data_vars)))}")
        return "\n".join(lines)

    @property
    def lost(self) -> np.ndarray:
        """Seeds that left the finite numbers along training, as coordinates."""
        train = self._blocks.get("train")
        if not isinstance(train, xr.Dataset):
            return np.zeros(0, int)
        # Records of version 0.1 have no first_bad, and tell by their last training loss.
        last = train.isel(step=-1)
        if FIRST_BAD in train:
            gone = last[FIRST_BAD] >= 0
        else:  # A loss over no steps at all is NaN in every seed and says nothing.
            gone = ~np.isfinite(last.loss) & (train.sizes["step"] > 1)
        return train.seed.values[gone.values]

    def surviving(self) -> "Records":
        """These without the seeds that were lost; ValueError where none is left.

        What a lost seed recorded before counts nowhere: a curve whose mean is over other seeds at
        every step is no curve.
        """
        gone = self.lost
        if not gone.size:
            return self

        def without(block: str) -> xr.Dataset:
            data = self[block]
            kept = data.drop_sel(seed=gone) if "seed" in data.coords else data
            if "seed" in data.coords and not kept.sizes["seed"]:
                raise ValueError(f"all {gone.size} seeds left the finite numbers")
            return kept

        return Records({block: functools.partial(without, block) for block in self})

    def with_block(self, block: str, data: xr.Dataset | Callable[[], xr.Dataset]) -> "Records":
        """These and one more, which replaces one of the same name."""
        return Records({**self._blocks, block: data})


class Recorder:
    """Grows by one record of a training at a time; can be cut back to an earlier step."""

    def __init__(self, seeds: Sequence[int], before: Mapping[str, xr.Dataset] | None = None):
        """before: what an interrupted run had recorded, to go on from."""
        self._seeds = np.asarray(seeds)
        self._steps: dict[str, list[int]] = {}
        self._columns: dict[str, dict[Name, list[np.ndarray]]] = {}
        for block, data in (before or {}).items():
            if "step" not in data.dims:
                continue  # made at the end, and made again
            self._steps[block] = data.step.values.tolist()
            self._columns[block] = {
                found: list(values.values) for found, values in cells(data, "step", "seed")
            }

    def add(self, record: Record) -> None:
        """Append what one record measured, each block at its own step."""
        train = {name("loss"): record.loss, name(FIRST_BAD): record.first_bad}
        for block, values in (*record.measured.items(), ("train", train)):
            self._steps.setdefault(block, []).append(record.step)
            columns = self._columns.setdefault(block, {})
            for found, value in values.items():
                columns.setdefault(found, []).append(np.asarray(value))

    def lose(self, first_bad: np.ndarray) -> None:
        """Append that all seeds were lost by the last of these steps."""
        lost = np.full(len(self._seeds), np.nan, np.float32)
        self.add(Record(int(first_bad.max()), lost, {}, first_bad))

    def cut(self, step: int) -> None:
        """Forget everything after a step."""
        for block, steps in self._steps.items():
            kept = [i for i, here in enumerate(steps) if here <= step]
            self._steps[block] = [steps[i] for i in kept]
            self._columns[block] = {
                found: [values[i] for i in kept] for found, values in self._columns[block].items()
            }

    def records(self) -> Records:
        """Everything so far."""
        return Records(
            {
                block: labelled(
                    {found: np.stack(values) for found, values in self._columns[block].items()},
                    {"step": np.asarray(steps), "seed": self._seeds},
                )
                for block, steps in self._steps.items()
                if steps
            }
        )

    def lines(self) -> Iterator[dict[str, Any]]:
        """The flat scalar records of metrics.jsonl, in order of steps."""
        for step in sorted({step for steps in self._steps.values() for step in steps}):
            yield self.line(step)

    def line(self, step: int) -> dict[str, Any]:
        """All scalars of one step, averaged over the seeds whose value is finite.

        seeds_lost: how many have no loss any more, where some have one.
        """
        line: dict[str, Any] = {"step": step}
        for block, steps in sorted(self._steps.items()):
            if step not in steps:
                continue
            index = steps.index(step)
            # Sorted, because records read back have their names in another order.
            named = {spelled(found, block): found for found in self._columns[block]}
            for key, found in sorted(named.items()):
                here = self._columns[block][found][index]
                finite = here[np.isfinite(here)]
                if not found.dims and finite.size and found.variable != FIRST_BAD:
                    line[key] = float(np.mean(finite))
                    if block == "train" and finite.size < self._seeds.size:
                        line["seeds_lost"] = int(self._seeds.size - finite.size)
        return line


def labelled(values: Mapping[Name, Any], leading: Mapping[str, Any]) -> xr.Dataset:
    """Named arrays as one block.

    leading: axes that every array begins with, and their coordinates. The coordinates of the other
    axes are those of the names in order of appearance; what no name covers is NaN, of texts "".
    Arrays of one variable that differ in length along their own axes are filled up with NaN.
    """
    by_variable: dict[str, dict[Name, np.ndarray]] = {}
    coords: dict[str, list[str]] = {}
    for found, value in values.items():
        by_variable.setdefault(found.variable, {})[found] = np.asarray(value)
        for axis, where in found.at:
            if where not in coords.setdefault(axis, []):
                coords[axis].append(where)
    places = {axis: {c: i for i, c in enumerate(found)} for axis, found in coords.items()}
    variables = {}
    for variable, members in by_variable.items():
        first = next(iter(members))
        axes = [axis for axis, _ in first.at]
        own = tuple(np.max([m.shape[len(leading) :] for m in members.values()], axis=0).astype(int))
        shape = (
            *next(iter(members.values())).shape[: len(leading)],
            *(len(coords[axis]) for axis in axes), *own,
        )  # fmt: skip
        gaps = len(members) < np.prod([len(coords[axis]) for axis in axes]) or any(
            m.shape[len(leading) :] != own for m in members.values()
        )
        kind = np.result_type(*members.values())
        text = kind.kind == "U"
        if gaps and not text and not np.issubdtype(kind, np.floating):
            kind = np.dtype(np.float64)
        whole = np.full(shape, "" if text else np.nan, kind) if gaps else np.empty(shape, kind)
        for found, value in members.items():
            at = tuple(places[axis][where] for axis, where in found.at)
            inside = tuple(slice(length) for length in value.shape[len(leading) :])
            place: Any = (*(slice(None) for _ in leading), *at, *inside)
            whole[place] = value
        variables[variable] = ((*leading, *axes, *first.dims), whole)
    edges = {axis: np.asarray(where) for axis, where in {**leading, **coords}.items()}
    return xr.Dataset(variables, coords=edges)


def cells(
    block: xr.Dataset, *leading: str, empty: bool = False
) -> Iterator[tuple[Name, xr.DataArray]]:
    """The names of a block and their arrays, with these axes first: the inverse of `labelled`.

    What was not measured (NaN throughout, or no text) is passed over, unless `empty`.
    """
    for variable, data in block.data_vars.items():
        axes = [d for d in data.dims if d in block.coords and d not in leading]
        own = [d for d in data.dims if d not in block.coords and d not in leading]
        ordered = data.transpose(*leading, *axes, *own, missing_dims="ignore")
        first = [axis for axis in leading if axis in data.dims]
        for place in np.ndindex(*(data.sizes[axis] for axis in axes)):
            value = ordered[(*(slice(None) for _ in first), *place)]
            if not empty and _missing(value.values):
                continue
            at = {str(a): str(block[a].values[i]) for a, i in zip(axes, place, strict=True)}
            yield name(str(variable), *map(str, own), **at), value


def _missing(values: np.ndarray) -> bool:
    if values.dtype.kind in "UO":
        return bool((values == "").all())
    return values.dtype.kind == "f" and bool(np.isnan(values).all())


def summary(block: xr.Dataset, spelled_as: str = "") -> dict[str, float]:
    """Means over seeds of the scalars of a block [seed], flat; see `told`."""
    found: dict[str, float] = {}
    for key, values in cells(block, "seed"):
        if not key.dims:
            found |= told(spelled(key, spelled_as), values)
    return found


def told(key: str, values: xr.DataArray) -> dict[str, float]:
    """A mean over seeds as a summary holds it.

    KEY/sem is the standard error where the mean is of several seeds, KEY/seeds of how many it is
    where these are not all: of 0, the mean is NaN.
    """
    value, error, count = reductions.mean(values)
    found: dict[str, float] = {key: float(value)}
    if count > 1:
        found[f"{key}/sem"] = float(error)
    if count < values.sizes["seed"]:
        found[f"{key}/seeds"] = int(count)
    return found


def counted(records: Records) -> dict[str, int]:
    """What a summary says of all its means: of how many seeds they are, and how many were lost."""
    lost = len(records.lost)
    if "train" not in records:
        return {}
    return {"seeds": records["train"].sizes["seed"] - lost, "seeds_lost": lost}


def of_how_many(summary: Mapping[str, Any], of: str = "") -> str:
    """What a table says of the means under a prefix: 4, or 3 of 4 where one was lost."""
    kept, gone = (int(summary[f"{of}{name}"]) for name in ("seeds", "seeds_lost"))
    return f"{kept} of {kept + gone}" if gone else f"{kept}"


def lost_told(summary: Mapping[str, Any]) -> str:
    """What a program prints where seeds were lost; empty where none was."""
    kept, gone = summary.get("seeds"), summary.get("seeds_lost")
    # Where seeds are counted point by point, there are none of the whole.
    if not gone or kept is None:
        return ""
    return f"means are of {kept} of {kept + gone} seeds; {gone} left the finite numbers"


def of_rows(rows: Sequence[Mapping[str, Any]]) -> xr.Dataset:
    """A table as a block: one variable [row] per column, in order of appearance.

    Numbers are float64 with NaN for None, or int64 and bool where nothing is missing; everything
    else is text, "" for None. A column of lists is [row, place], filled up at the end. netCDF
    knows no / in names: there a column validation/loss is validation_loss.
    """
    width = max((len(v) for row in rows for v in row.values() if isinstance(v, list)), default=0)
    columns: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for column in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(column) for row in rows]
        if any(isinstance(value, list) for value in values):
            room = [[*(value or ()), *[None] * max(width, 1)][: max(width, 1)] for value in values]
            array = _cells([entry for value in room for entry in value])
            columns[column] = ("row", "place"), array.reshape(len(rows), -1)
        else:
            columns[column] = ("row",), _cells(values)
    return xr.Dataset(
        {
            column.replace("/", "_"): (*found, {COLUMN: column} if "/" in column else {})
            for column, found in columns.items()
        }
    )


def _cells(values: Sequence[Any]) -> np.ndarray:
    kinds = {type(value) for value in values if value is not None}
    if all(issubclass(kind, bool | int | float | np.number | np.bool_) for kind in kinds):
        gaps = any(value is None for value in values)
        return np.array([np.nan if v is None else v for v in values], float if gaps else None)
    return np.array(["" if v is None else str(v) for v in values])


def of_costs(costs: Mapping[str, float | int]) -> Records:
    """What a benchmark found, as block `costs`: value [what]."""
    values = ("what", np.array(list(costs.values()), np.float64))
    return Records({"costs": xr.Dataset({"value": values}, {"what": list(costs)})})


def costs_of(found: Records) -> dict[str, float]:
    """What was given to `of_costs`."""
    block = found["costs"]
    return dict(zip(map(str, block.what.values), block.value.values.tolist(), strict=True))


def below(row: Mapping[str, Any], part: str) -> dict[str, Any]:
    """The columns of a table's row that stand under a part: of test/loss, under test, loss."""
    return {k.removeprefix(f"{part}/"): v for k, v in row.items() if k.startswith(f"{part}/")}


def rows_of(block: xr.Dataset) -> list[dict[str, Any]]:
    """The rows of a table as it was given to `of_rows`; None where a cell is empty."""

    def cell(value: Any) -> Any:
        if isinstance(value, list):
            found = [cell(entry) for entry in value]
            return found[: max((i + 1 for i, v in enumerate(found) if v is not None), default=0)]
        return None if value == "" or (isinstance(value, float) and np.isnan(value)) else value

    columns = {
        values.attrs.get(COLUMN, str(name)): values.values.tolist()
        for name, values in block.data_vars.items()
    }
    return [
        {name: cell(values[i]) for name, values in columns.items()}
        for i in range(block.sizes.get("row", 0))
    ]


def encoded(records: Records) -> bytes:
    """The content of records.nc."""
    tree = xr.DataTree.from_dict(dict(records))
    tree.attrs = SEALED
    data = bytes(tree.to_netcdf(engine="h5netcdf"))
    return data + MARK + hashlib.sha256(data).hexdigest().encode()


def decoded(content: bytes, *, most: int = MOST_BYTES) -> Records:
    """What `encoded` wrote, or any netCDF 4 file with a group per block.

    most: bytes that it may unpack to. Raises DamagedRecordsError where it is neither, or where its
    checksum says that it was changed.
    """
    data, mark, digest = content.rpartition(MARK)
    if mark and hashlib.sha256(data).hexdigest().encode() != digest:
        raise DamagedRecordsError("its checksum does not fit its content")
    try:
        with xr.open_datatree(io.BytesIO(content), engine="h5netcdf") as tree:
            # Compressed, a small file may hold a large array: asked before anything is read.
            if tree.nbytes > most:
                raise DamagedRecordsError(f"it unpacks to {tree.nbytes / 2**30:.3g} GB")
            if tree.attrs == SEALED and not mark:
                raise DamagedRecordsError("its checksum is gone")
            return Records(
                {block: node.to_dataset().load() for block, node in tree.children.items()}
            )
    except DamagedRecordsError:
        raise
    except Exception as error:  # HDF5 and xarray have an exception for every damage
        raise DamagedRecordsError("it is no netCDF file of records") from error


def _listed(names: Sequence[str], most: int = 6) -> str:
    more = f", ... ({len(names)})" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def of_arrays(arrays: Mapping[str, np.ndarray], seeds: Sequence[int] | None = None) -> Records:
    """The records of a noisy-recall run from the trajectory.npz of version 0.1.

    Arrays were called BLOCK/KEY with axes [records, seeds], and BLOCK/steps; `final` had no
    records.
    """
    blocks: dict[str, dict[Name, np.ndarray]] = {}
    for key, value in arrays.items():
        block, _, rest = key.partition("/")
        if rest and rest != "steps":
            blocks.setdefault(block, {})[_of_before(rest, value, block)] = value
    found = {}
    for block, values in blocks.items():
        some = next(iter(values.values()))
        steps = {"step": arrays[f"{block}/steps"]} if f"{block}/steps" in arrays else {}
        count = some.shape[len(steps)]
        found[block] = labelled(values, {**steps, "seed": np.asarray(seeds or range(count))})
    return Records(found)


def _of_before(key: str, value: np.ndarray, block: str) -> Name:
    parts = key.split("/")
    if block in PREFIXES and parts[0] == PREFIXES[block]:
        parts = parts[1:]
    if block == "spectra":
        dims = ("rank",) if parts[1] in ("singular_values", "noise_share") else ()
        return name(parts[1], *dims, matrix=parts[0])
    if block == "mechanisms":
        axis = "association" if parts[0] == "recall" else "feed_forward"
        return name("_".join((parts[0], *parts[2:])), **{axis: parts[1]})
    if block in ("models", "final"):
        at = {"set": parts[0]} | ({"model": parts[1]} if len(parts) > 2 else {})
        variable = parts[min(2, len(parts) - 1)]
        at |= {"block": parts[3]} if len(parts) > 3 else {}
        return name(variable, *(("predicted", "label") if variable == "confusion" else ()), **at)
    return name("_".join(parts), *(f"axis{i}" for i in range(value.ndim - 2)))
