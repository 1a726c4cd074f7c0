"""The settings of the report; Report() runs all that needs no data from elsewhere."""

import dataclasses

from truncated_weights.experiments.report.subjects import SUBJECTS
from truncated_weights.training.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class Report(Settings):
    """What is run, or where it was run before."""

    quick: bool = setting(False, "Smaller runs: under twenty minutes on two CPU cores.")
    from_: str = setting("", "A report, or a folder of runs, to draw from; nothing is run.")
    subjects: tuple[str, ...] = setting(
        tuple(SUBJECTS), "Claims to look into.", choices=tuple(SUBJECTS), required=True
    )
    models: tuple[str, ...] = setting((), "Checkpoint directories of language models.")
