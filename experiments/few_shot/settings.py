"""The settings of few-shot word problems, full model against cuts."""

import dataclasses

from truncated_weights.experiments.run.inputs.model_settings import DTYPES, IGNORE_KEYS
from truncated_weights.training.settings import Settings, setting

STYLES = ("thought", "plain")


@dataclasses.dataclass(frozen=True)
class FewShot(Settings):
    """Problems and examples, the cuts, and how answers are generated."""

    model: str = setting("", "Checkpoint directory with its tokenizer.", required=True)
    problems: str = setting("", "GSM8K's test file, or the like.", required=True)
    exemplars: str = setting("", "Worked examples, for --style=thought.")
    train: str = setting("", "Training rows, for --style=plain.")
    style: str = setting("thought", "Worked examples or plain training rows.", choices=STYLES)
    shots: tuple[int, ...] = setting(
        (0, 1, 2, 4, 8), "How many examples stand before a problem.", lower=0, required=True
    )
    interventions: tuple[str, ...] = setting((), "Cuts beside the full model, 11.fc_out@0.1.")
    num_examples: int = setting(0, "Problems at most, drawn by seed; 0: all.", lower=0)
    ignore_keys: tuple[str, ...] = setting((), IGNORE_KEYS)
    new_tokens: int = setting(256, "Tokens of an answer at most.", lower=1)
    batch: int = setting(16, "Prompts that are answered together.", lower=1)
    bos: bool = setting(False, "Begin prompts with BOS where the tokenizer itself does not.")
    dtype: str = setting("float32", "Of parameters and activations.", choices=DTYPES)
    memory_gb: float = setting(1.0, "For the activations of a scored batch.", lower=0.001)
    bootstrap: int = setting(2000, "Resamples of the intervals.", lower=100)
    seed: int = setting(0, "Of drawn problems and examples.", lower=0)
