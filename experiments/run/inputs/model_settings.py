"""The settings that programs on language models share: how examples are read, a model is run."""

import dataclasses

from truncated_weights.training.settings import Settings, setting

DTYPES = ("float32", "bfloat16")
IGNORE_KEYS = "Keys of the model's config.json to read past, where they change nothing."


@dataclasses.dataclass(frozen=True)
class ModelSettings(Settings):
    """Examples, then the model and its memory."""

    tokenizer: str = setting("", "tokenizer.json, or its directory; empty: the model's.")
    num_examples: int = setting(0, "Examples at most; 0: all, or 256.", lower=0, upper=10**8)
    add_space: bool = setting(True, "Put a missing space before answers read from a file.")
    bos: bool = setting(False, "Begin prompts with BOS where the tokenizer does not.")
    ignore_keys: tuple[str, ...] = setting((), IGNORE_KEYS)
    max_length: int = setting(2048, "Longer examples are dropped.", lower=2, upper=10**6)
    max_distractors: int = setting(8, "Distractors used per example.", lower=0, upper=10_000)
    dtype: str = setting("float32", "Of parameters and activations.", choices=DTYPES)
    memory_gb: float = setting(1.0, "For the activations of a batch.", lower=0.001, upper=1e5)
    prefix_gb: float = setting(1.0, "For kept streams below a cut.", lower=0.0, upper=1e5)
    prefixes_on_host: bool = setting(False, "Keep those in the host's memory.")
    devices: int = setting(1, "Devices a model is split over.", lower=1, upper=65_536)
    seed: int = setting(0, "Of drawn examples and of splits.", lower=0, upper=2**31)
