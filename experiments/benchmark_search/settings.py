"""The settings of the benchmark of prefixes; BenchmarkSearch() is what the notes quote."""

import dataclasses

from truncated_weights.training.settings import Settings, setting

# bridge.SIZES, whose import would bring JAX, with "pythia-" in front; a test compares the two.
PYTHIA = ("14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")
OTHERS = ("llama-70m", "gptj-350m")
SHAPES = (*(f"pythia-{size}" for size in PYTHIA), *OTHERS)
BASELINES = ("batched", "one_by_one")


@dataclasses.dataclass(frozen=True)
class BenchmarkSearch(Settings):
    """The shape, the prompts, the candidates, and what they are compared with."""

    shape: str = setting("pythia-70m", "Whose shape the random weights have.", choices=SHAPES)
    num_prompts: int = setting(64, "Prompts.", lower=1, upper=10**6)
    timed_prompts: int = setting(
        0, "Time both on about so many of them, in whole batches as the search of all would make; "
        "0: all.", lower=0, upper=10**6,
    )  # fmt: skip
    prompts: str = setting(
        "random", "Random tokens, facts as long and as alike as CounterFact's, or these and, two "
        "thirds of all, paraphrases behind an unrelated sentence, as LASER asks.",
        choices=("random", "facts", "paraphrases"),
    )  # fmt: skip
    length: int = setting(16, "Tokens of each random prompt.", lower=1, upper=2047)
    matrices: tuple[str, ...] = setting(
        ("fc_in", "fc_out"), "Matrices that are cut, in every layer.", required=True
    )
    layers: tuple[int, ...] = setting((), "Layers that are cut; empty: all.", lower=0)
    rhos: tuple[str, ...] = setting(
        ("0.8", "0.6", "0.4", "0.2", "0.1", "0.05", "0"), "Fractions kept.", required=True
    )
    baseline: str = setting(
        "batched", "Full forwards of all prompts together, or of one after another as the public "
        "loops have it.", choices=BASELINES,
    )  # fmt: skip
    baseline_candidates: int = setting(0, "Time only so many, spread out.", lower=0, upper=10**6)
    baseline_prompts: int = setting(0, "Time one_by_one on so many; 0: all.", lower=0, upper=10**6)
    memory_gb: float = setting(1.0, "For activations, and for prefixes.", lower=0.01, upper=1e5)
    dtype: str = setting(
        "float32", "Of parameters and activations, on both sides.",
        choices=("float32", "bfloat16", "float16"),
    )  # fmt: skip
    seed: int = setting(0, "Of weights and prompts.", lower=0, upper=2**31)
