"""The settings of the benchmark of prefixes; BenchmarkSearch() is what the notes quote."""

import dataclasses

from training.settings import Settings, setting

# bridge.SIZES, whose import would bring JAX; a test compares the two.
SIZES = ("14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")


@dataclasses.dataclass(frozen=True)
class BenchmarkSearch(Settings):
    """The shape, the prompts, the candidates."""

    size: str = setting("70m", "Whose shape the random weights have.", choices=SIZES)
    num_prompts: int = setting(64, "Prompts.", lower=1, upper=10**6)
    length: int = setting(16, "Tokens of each prompt.", lower=1, upper=2047)
    matrices: tuple[str, ...] = setting(
        ("fc_in", "fc_out"), "Matrices that are cut, in every layer.", required=True
    )
    rhos: tuple[str, ...] = setting(
        ("0.8", "0.6", "0.4", "0.2", "0.1", "0.05", "0"), "Fractions kept.", required=True
    )
    baseline_candidates: int = setting(0, "Time only so many, spread out.", lower=0, upper=10**6)
    memory_gb: float = setting(1.0, "For activations, and for prefixes.", lower=0.01, upper=1e5)
    seed: int = setting(0, "Of weights and prompts.", lower=0, upper=2**31)
