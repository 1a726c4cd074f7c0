"""What was measured along the runs of a sweep, joined, and the table that is read off it.

Every block has an axis run, with the seed, the varied settings and lost_at along it:

    models, spectra, losses    along training [run, step, ...]; NaN where a run has no such step
    first_step                 of the start, where asked for (toy/probes/deviation.py)
    final                      models at a run's last step
    half_steps                 noise: p(noise) on noisy sequences reaches alpha / 2
                               recall: p(correct) on clean sequences reaches half of where it ends
                               attention: that on correct tokens, noisy sequences, reaches 1/2
                               ratio: attention over noise
    noise                      margin by block, feed_forward or attention: what the first step adds
                               to the noise margin. By matrix, at the end: noise_place, which
                               singular component holds most of the noise (1 is the top),
                               noise_share, how much of the noise direction it holds, and
                               noise_over_rest, its singular value over the largest other one

lost_at is the step at which a run left the finite numbers, -1 where it did not. The table has the
last four as columns, SET/MODEL/METRIC, half_step/noise, margin/attention, LAYER.MATRIX/noise_place;
a cell is empty where the thing does not exist: a half that is never reached, all of a lost run.

alpha / 2 and 1/2 are levels by definition: the noise's and attention's limits are known, and a run
that ends short of the half has not come to it.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from truncated_weights.experiments.sweep.plan import Group, varied
from truncated_weights.experiments.sweep.settings import Sweep
from truncated_weights.training.records import (
    FIRST_BAD,
    Name,
    Records,
    cells,
    labelled,
    name,
    spelled,
)
from truncated_weights.training.reductions import crossing_step, half_step

# The blocks whose scalars are columns, in this order.
COLUMNS = ("final", "first_step", "half_steps", "noise")


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """numbers [run, column], with what tells runs apart along run; names: what each column is.

    axes: the settings that vary.
    """

    numbers: xr.DataArray
    names: Mapping[str, Name]
    axes: tuple[str, ...]

    @property
    def lost(self) -> np.ndarray:
        """Whether each run left the finite numbers [run]."""
        return self.numbers.lost_at.values >= 0

    def column(self, label: str) -> xr.DataArray:
        """One column [run]; NaN throughout where the table has none of this name."""
        return self.numbers.reindex(column=[label]).isel(column=0)

    def points(self) -> dict[tuple[Any, ...], np.ndarray]:
        """Places of the runs of each point: its seeds."""
        found: dict[tuple[Any, ...], list[int]] = {}
        for place in range(self.numbers.sizes["run"]):
            point = tuple(self.numbers[axis].values[place].item() for axis in self.axes)
            found.setdefault(point, []).append(place)
        return {point: np.array(places) for point, places in found.items()}

    def lines(self) -> Iterator[dict[str, Any]]:
        """The rows as sweep.csv has them, None where a cell is empty."""
        whole = {label for label, of in self.names.items() if of.variable == "noise_place"}
        for place, row in enumerate(self.numbers.values.tolist()):
            told = {n: self.numbers[n].values[place].item() for n in ("run", *self.axes, "seed")}
            lost = int(self.numbers.lost_at[place])
            yield (
                told
                | {"lost_at": lost if lost >= 0 else None}
                | {
                    label: None if not np.isfinite(v) else int(v) if label in whole else v
                    for label, v in zip(self.names, row, strict=True)
                }
            )


def table(config: Sweep, records: Records) -> Table:
    """The table of these runs."""
    names, values = {}, []
    for block in filter(records.__contains__, COLUMNS):
        for found, column in cells(records[block], "run", empty=block != "final"):
            if not found.dims:
                names[spelled(found, block)] = found
                values.append(column.values.astype(np.float64))
    run = records["final"].run
    numbers = xr.DataArray(
        np.reshape(values, (len(values), run.size)).T,
        {**run.coords, "column": np.array(list(names), np.str_)},
        ("run", "column"),
    )
    return Table(numbers, names, varied(config))


def of_group(group: Group, found: Records) -> Records:
    """What was measured along a group as runs, and what is read off it."""
    runs = [run.index for run in group.runs]
    along = {
        block: data.rename(seed="run").assign_coords(run=runs) for block, data in found.items()
    }
    losses = along.pop("train")
    # As a variable, until the groups are joined.
    lost_at = losses[FIRST_BAD].isel(step=-1, drop=True)
    about = {"seed": [run.seed for run in group.runs]}
    about |= {axis: [run.values[axis] for run in group.runs] for axis in group.runs[0].values}
    blocks = {
        "runs": xr.Dataset({"lost_at": lost_at}).assign({k: ("run", v) for k, v in about.items()}),
        "losses": losses.drop_vars(FIRST_BAD),
        **along,
    }
    # What a lost run recorded before is not where it ends; of a group that was lost, some may not
    # even have been measured.
    if bool((lost_at < 0).any()):
        read = {
            "final": along["models"].isel(step=-1, drop=True),
            "half_steps": _half_steps(group, along["models"]),
            "noise": _noise(along),
        }
        if "first_step" in along:
            read["first_step"] = along["first_step"].isel(step=0, drop=True)
        blocks |= {block: data.where(lost_at < 0) for block, data in read.items()}
    return Records(blocks)


def joined(config: Sweep, groups: Sequence[Records]) -> Records:
    """The runs of all groups, in order; empty blocks where all of them were lost."""
    about = xr.concat([group["runs"] for group in groups], "run").sortby("run")
    coords = {n: about[n] for n in (*varied(config), "seed", "lost_at")}
    found = {}
    for block in dict.fromkeys([*COLUMNS, *(block for group in groups for block in group)]):
        members = [group[block] for group in groups if block in group]
        if block == "runs" or (not members and block == "first_step"):
            continue
        # Axes that are counted, as rank, may be longer in one group than in another.
        counted = {str(d) for data in members for d in data.dims if d not in data.coords}
        padded = [
            data.assign_coords({d: np.arange(data.sizes[d]) for d in counted & {*data.dims}})
            for data in members
        ]
        whole = (
            xr.concat(
                padded, "run", join="outer", data_vars="all", coords="minimal", compat="override"
            )
            if padded
            else xr.Dataset(coords={"run": about.run[:0]})
        )
        whole = whole.drop_vars(counted).reindex(run=about.run)
        found[block] = whole.assign_coords(coords)
    return Records(found)


def _half_steps(group: Group, models: xr.Dataset) -> xr.Dataset:
    clean, noisy = (models.sel(set=part, model="full") for part in ("clean", "noisy"))
    halves = {
        "noise": [
            crossing_step(noisy.p_noise.isel(run=i), run.config.alpha / 2)
            for i, run in enumerate(group.runs)
        ],
        "recall": [half_step(clean.p_correct.isel(run=i)) for i in range(len(group.runs))],
        "attention": [
            crossing_step(noisy.attention_correct.isel(run=i), 0.5) for i in range(len(group.runs))
        ],
    }
    found = xr.Dataset(
        {what: ("run", steps) for what, steps in halves.items()}, {"run": models.run}
    )
    # Where p(noise) begins near its half, the time to it is no time at all.
    timed = (found.noise >= 1) & (found.attention > 0)
    return found.assign(ratio=(found.attention / found.noise).where(timed))


def _noise(along: Mapping[str, xr.Dataset]) -> xr.Dataset:
    margin = along["models"].margin.sel(set="noisy", model="full")
    added = (margin.isel(step=1) - margin.isel(step=0)).astype(np.float64)
    found: dict[Name, np.ndarray] = {}
    for part in ("feed_forward", "attention"):
        layers = [block for block in added.block.values if str(block).startswith(f"{part}_")]
        total = added.sel(block=layers).sum("block", skipna=False)
        found[name("margin", block=part)] = total.values
    spectra = {at.at: data for at, data in cells(along["spectra"], "run", "step")
               if at.variable == "singular_values"}  # fmt: skip
    for at, share in cells(along["spectra"], "run", "step"):
        if at.variable == "noise_share":
            pairs = zip(spectra[at.at].values[:, -1], share.values[:, -1], strict=True)
            ends = [noise_end(values, shares) for values, shares in pairs]
            for variable in ends[0]:
                column = np.array([end[variable] for end in ends], np.float64)
                found[Name(variable, at.at, ())] = column
    return labelled(found, {"run": added.run.values})


def noise_end(values: np.ndarray, share: np.ndarray) -> dict[str, float]:
    """Which end of the spectrum holds the noise: singular values [r] and shares [r], falling.

    NaN behind the last, as in records of matrices of several ranks; NaN if that is all.
    """
    values, share = values[: (there := int(np.isfinite(values).sum()))], share[:there]
    if not np.isfinite(share).all() or not there:
        return dict.fromkeys(("noise_place", "noise_share", "noise_over_rest"), np.nan)
    place = int(np.argmax(share))
    rest = np.delete(values, place).max() if values.size > 1 else np.nan
    return {
        "noise_place": place + 1,
        "noise_share": float(share[place]),
        "noise_over_rest": float(values[place] / rest),
    }
