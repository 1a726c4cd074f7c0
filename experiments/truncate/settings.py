"""The settings of a truncation; Truncate() cuts the default run as it was followed."""

import dataclasses

from truncated_weights.training.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class Truncate(Settings):
    """The run and checkpoints that are cut, the cuts, and what they are measured on."""

    run: str = setting(
        "runs/noisy_recall", "Run directory of experiments.noisy_recall.", required=True
    )
    steps: tuple[int, ...] = setting((), "Checkpoints to cut; empty means the last.", lower=0)
    interventions: tuple[str, ...] = setting(
        (), "What to cut, as 1.fc_in@0.1; empty: the run's own."
    )
    curves: tuple[str, ...] = setting(
        (), "Matrices with a curve over rho, as 1.fc_in; none: no curves."
    )
    rhos: tuple[str, ...] = setting(
        ("0", "0.01", "0.02", "0.05", "0.1", "0.2", "0.35", "0.5", "0.75", "1"),
        "Fractions kept, and dropped, along the curves.",
        required=True,
    )
    num_sequences: int = setting(512, "Sequences per measurement.", lower=2, upper=10**7)
