"""The parts of a study, each kept by itself: an interrupted run measures only what is missing."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import xarray as xr

from truncated_weights.experiments.run import stop
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.program import RunFailedError
from truncated_weights.experiments.run.progress import Progress
from truncated_weights.training import processes
from truncated_weights.training.records import Records


@dataclasses.dataclass(frozen=True)
class Part:
    """name: what it is kept under. measure: its records. size: its share of the work."""

    name: str
    measure: Callable[[], Records]
    size: int = 1


def measured(
    directory: RunDirectory,
    parts: Sequence[Part],
    *,
    label: str = "",
    show: Callable[[Records], dict[str, float]] = lambda found: {},
    progress: Progress | None = None,
) -> Iterator[tuple[Part, Records]]:
    """Each part's records in order, kept before or measured now; stops between parts when asked.

    label: what one unit of size is called beside the bar. show: what it tells of a part.
    progress: the bar, where parts tell how far they are themselves, in units of size. Several
    processes do the same: all measure a part, or none. RunFailedError where one of them does not
    see what another has kept.
    """
    own = progress is None
    progress = progress or Progress(sum(part.size for part in parts), label=label)
    done = 0
    try:
        for part in parts:
            if processes.anywhere(stop.asked()):
                raise stop.Interrupted
            found = directory.kept_records(part.name)
            kept = processes.tell("kept" if found is not None else "")
            if not kept:
                found = part.measure()
                directory.keep_records(part.name, found)
            elif found is not None:
                progress.skip(part.size)
            else:
                raise RunFailedError(
                    f"{directory.path} is not on a file system that all processes of this run share"
                )
            done += part.size
            yield part, found
            if own or show(found):
                progress.update(done, **show(found))
            else:
                progress.tick(done)
    finally:
        progress.close()


def on_grid(blocks: Sequence[xr.Dataset], axes: Mapping[str, Sequence[Any]]) -> xr.Dataset:
    """The blocks of all points of a grid as one with these axes in front; the last runs fastest."""
    found = list(blocks)
    for axis, places in reversed(list(axes.items())):
        index = xr.IndexVariable(axis, list(places))
        found = [
            xr.concat(found[i : i + len(places)], index, join="exact", data_vars="all")
            for i in range(0, len(found), len(places))
        ]
    (whole,) = found
    return whole
