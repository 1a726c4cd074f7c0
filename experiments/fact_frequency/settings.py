"""The settings of the comparison of facts by frequency with the memory's prediction."""

import dataclasses

from truncated_weights.training.settings import Settings, setting
from truncated_weights.truncation.notation import LASER_RHOS


@dataclasses.dataclass(frozen=True)
class FactFrequency(Settings):
    """The runs, what a cut may be, the memory, and how the two are compared."""

    runs: tuple[str, ...] = setting((), "Run directories of train_mini_pythia.", required=True)
    steps: tuple[int, ...] = setting(
        (), "Steps to compare; empty: all from the 64th on.", lower=0, upper=10**7
    )
    search: str = setting("grid", "How the best cut is found.", choices=("grid", "greedy"))
    matrices: tuple[str, ...] = setting(
        ("fc_in", "fc_out", "out_proj"), "Matrices that may be cut.", required=True
    )
    rhos: tuple[str, ...] = setting(
        (*LASER_RHOS, "-0.02"), "Fractions of rank that are tried.", required=True
    )
    shared: tuple[float, ...] = setting(
        (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        "The r among which the memory's is fitted.", lower=0.0, upper=0.99, required=True,
    )  # fmt: skip
    longest: float = setting(
        50_000.0, "Last time of the memory, were facts the whole text.", lower=10.0, upper=1e6
    )
    bins: int = setting(10, "Bins of frequency in the figure.", lower=2, upper=100, drawing=True)
    bootstrap: int = setting(1000, "Resamples of the intervals.", lower=100, upper=10**6)
    seed: int = setting(0, "Of the resamples.", lower=0, upper=2**31)
