"""The settings of the benchmark of generation; BenchmarkGeneration() is what the notes quote."""

import dataclasses

from truncated_weights.training.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class BenchmarkGeneration(Settings):
    """The shape of the model, of the prompts, and how often each way is timed."""

    num_layers: int = setting(4, "Layers.", lower=1, upper=1000)
    d_model: int = setting(512, "Width.", lower=8, upper=65_536)
    num_heads: int = setting(8, "Query heads.", lower=1, upper=4096)
    num_groups: int = setting(2, "Key and value heads.", lower=1, upper=4096)
    d_ff: int = setting(1536, "Width of the feed-forward.", lower=1, upper=10**6)
    vocab_size: int = setting(8192, "Tokens.", lower=2, upper=10**6)
    batch_size: int = setting(2, "Prompts side by side.", lower=1, upper=10**5)
    length: int = setting(64, "Tokens of a prompt.", lower=1, upper=10**5)
    shared: int = setting(
        0, "Tokens that all prompts begin with; timed with and without running them once.", lower=0
    )
    whole: bool = setting(True, "Time whole passes too, the slowest of the ways.")
    new_tokens: int = setting(64, "Tokens generated.", lower=1, upper=10**5)
    kept: float = setting(0.1, "Share of the rank kept in factored weights.", lower=0.0, upper=1.0)
    rounds: int = setting(3, "Times everything is measured; medians are told.", lower=1, upper=1000)
    seed: int = setting(0, "Of weights and prompts.", lower=0)
