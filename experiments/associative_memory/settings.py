"""The settings of the associative memory; Memory() is the default run."""

import dataclasses

from truncated_weights.training.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class Memory(Settings):
    """Task, training, measurement."""

    num_inputs: int = setting(2, "N, inputs to remember.", lower=2, upper=4096)
    alpha: float = setting(0.3, "Probability of noise.", lower=0.0, upper=1.0)
    frequencies: str = setting(
        "uniform", "How often each input comes.", choices=("uniform", "zipf", "text")
    )
    exponent: float = setting(1.0, "zipf: rank^-exponent.", lower=0.0, upper=20.0)
    text: str = setting("", "text: file whose most frequent characters are the inputs.")
    shared: float = setting(0.0, "Overlap r of any two inputs.", lower=0.0, upper=0.999)
    d_model: int = setting(
        0, "Width of random embeddings; 0 means orthonormal.", lower=0, upper=65_536
    )
    batch_size: int = setting(
        0, "Samples per step; 0 means the exact population loss.", lower=0, upper=10**7
    )
    time: float = setting(1000.0, "Gradient-flow time at the end.", lower=1e-6, upper=1e9)
    step_size: float = setting(0.05, "Learning rate: flow time per step.", lower=1e-6, upper=1e6)
    seed: int = setting(0, "First seed.", lower=0, upper=2**31)
    num_seeds: int = setting(1, "Seeds trained side by side.", lower=1, upper=65_536)
    interventions: tuple[str, ...] = setting(
        (), "Cuts of 0.fc_in; empty means its top N - 1 values, and all but the top."
    )
