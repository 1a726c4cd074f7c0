"""The settings of the export: which run, for whom."""

import dataclasses

from truncated_weights.training.settings import Settings, setting

TARGETS = ("tensorboard", "wandb", "csv")


@dataclasses.dataclass(frozen=True)
class ExportMetrics(Settings):
    """A run directory and the reader it is turned into."""

    run: str = setting("", "Run directory of any program.", required=True)
    to: str = setting("csv", "Who is to read it.", choices=TARGETS)
    project: str = setting("truncated-weights", "wandb: the project.", required=True)
