"""The settings of the plateau's study; Plateau() is the default one."""

import dataclasses

from truncated_weights.training.settings import Settings, setting

LAGS = 24
KINDS = ("drawn", "fair")


@dataclasses.dataclass(frozen=True)
class Plateau(Settings):
    """Every learning rate runs with every batch and every momentum."""

    learning_rates: tuple[float, ...] = setting(
        (0.015, 0.03, 0.06), "Learning rates.", lower=1e-6, upper=100.0, required=True
    )
    batch_sizes: tuple[int, ...] = setting(
        (16, 32, 64), "Sequences per step.", lower=1, upper=10**6, required=True
    )
    momenta: tuple[float, ...] = setting(
        (0.8, 0.9), "Momenta.", lower=0.0, upper=0.999, required=True
    )
    kinds: tuple[str, ...] = setting(
        KINDS, "Labels as they are drawn, or replaced by their law.", choices=KINDS, required=True
    )
    num_tokens: int = setting(16, "Ordinary tokens, Zipf.", lower=3, upper=10_000)
    alpha: float = setting(0.5, "Probability of noise.", lower=0.01, upper=0.99)
    length: int = setting(32, "Tokens in a sequence.", lower=4, upper=65_536)
    d_model: int = setting(32, "Width.", lower=2, upper=4096)
    settling: int = setting(600, "Steps before p(noise) is watched.", lower=1, upper=10**6)
    watched: int = setting(400, "Steps that it is watched.", lower=2 * LAGS, upper=10**6)
    seed: int = setting(0, "First seed.", lower=0, upper=2**31)
    num_seeds: int = setting(2, "Seeds of every setting.", lower=1, upper=1000)
