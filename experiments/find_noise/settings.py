"""The settings of the comparison of rules; FindNoise() looks into the default run."""

import dataclasses

from truncated_weights.training.settings import Settings, setting
from truncated_weights.truncation.notation import LASER_RHOS

# LASER's fractions of rank, and three that drop the top of the spectrum.
RHOS = (*LASER_RHOS, "-0.01", "-0.02", "-0.05")


@dataclasses.dataclass(frozen=True)
class FindNoise(Settings):
    """The run that is looked into, and what the rules may see of it."""

    run: str = setting(
        "runs/noisy_recall", "Run directory of experiments.noisy_recall.", required=True
    )
    step: int = setting(
        -1, "Checkpoint the rules are compared at; -1 means the last.", lower=-1, upper=10**9
    )
    along: int = setting(
        0,
        "Also follow grid, guidance and the data-free rules at this many checkpoints.",
        lower=0,
        upper=10**6,
    )
    max_seeds: int = setting(5, "At most so many seeds of the run.", lower=1, upper=65_536)
    rhos: tuple[str, ...] = setting(RHOS, "Candidates per matrix; at least eight.", required=True)
    objective: str = setting(
        "loss", "What validation picks by.", choices=("loss", "accuracy", "p_correct")
    )
    select_on: str = setting(
        "clean", "Validation sequences; test is clean.", choices=("clean", "noisy")
    )
    validation: int = setting(64, "Validation sequences.", lower=4, upper=10**7)
    test: int = setting(512, "Test sequences.", lower=4, upper=10**7)
    batch_size: int = setting(128, "Sequences evaluated at once.", lower=1, upper=10**7)
    together: int = setting(1, "Candidates evaluated at once.", lower=1, upper=10**5)
