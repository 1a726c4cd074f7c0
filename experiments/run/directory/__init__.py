"""The directory a run leaves behind, the same for every program.

    config.json      the program, every resolved setting, digests of what it read, versions, device,
                     what random numbers are drawn with, cores and flags of XLA
    metrics.jsonl    one flat line per logged step, slash-named scalars
    records.nc       the same and more as labelled arrays, enough to redraw every figure
    checkpoints/     what an interrupted run continues from
    figures/         *.png and *.pdf
    summary.json     one flat dictionary of final figures; written last, it marks a finished run
    manifest.json    every file that the run wrote, and so may remove

Every file is written beside its place and moved there, so that a kill at any moment leaves the old
file or the new one, never half of one. One process at a time may have a directory open. JSON is
strict: what is not a finite number is null. Nothing here follows a link that lies in the directory,
and nothing is removed that the run did not write.
"""

from truncated_weights.experiments.run.directory.files import RunDirectory
from truncated_weights.experiments.run.directory.opening import open_finished, open_run
from truncated_weights.experiments.run.directory.reading import (
    read_config,
    require_same_stream,
    settings_of,
)
from truncated_weights.experiments.run.directory.strict import plain

__all__ = [
    "RunDirectory",
    "open_finished",
    "open_run",
    "plain",
    "read_config",
    "require_same_stream",
    "settings_of",
]
