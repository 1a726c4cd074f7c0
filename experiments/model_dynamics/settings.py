"""The settings of measurements along the training of a language model."""

import dataclasses

from truncated_weights.experiments.run.inputs.model_settings import ModelSettings
from truncated_weights.training.settings import setting


@dataclasses.dataclass(frozen=True)
class ModelDynamics(ModelSettings):
    """The checkpoints, the task, what is cut and whose spectra are kept."""

    checkpoints: str = setting("", "Directory with stepN/ directories.", required=True)
    steps: tuple[int, ...] = setting((), "Steps to measure; empty: all there are.", lower=0)
    task: str = setting("indirect_object", "Task, as in bridge/tasks/registry.py.", required=True)
    interventions: tuple[str, ...] = setting(
        (), "Followed along training; empty: the last feed-forward's."
    )
    spectra: tuple[str, ...] = setting(
        (), "Matrices whose spectra are kept, as 5.fc_in; empty: the last's."
    )
    bootstrap: int = setting(1000, "Resamples of the intervals.", lower=100, upper=10**6)
