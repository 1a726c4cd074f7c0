"""The settings of small language models in which the truth is known, by what they read.

MiniPythia() is the preset `tiny`.
"""

import dataclasses

from truncated_weights.training.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class MiniPythia(Settings):
    """Model, corpus, training, measurement."""

    num_layers: int = setting(4, "Layers.", lower=1, upper=48)
    d_model: int = setting(128, "Width of the residual stream.", lower=8, upper=65_536)
    num_heads: int = setting(4, "Attention heads per layer.", lower=1, upper=4096)
    vocab_size: int = setting(1536, "Token ids at most.", lower=1024, upper=10**6)
    length: int = setting(128, "Tokens in a sequence.", lower=8, upper=2048)
    alpha: float = setting(0.4, 'Probability of " the".', lower=0.0, upper=0.99)
    num_people: int = setting(320, "Invented people.", lower=1, upper=400)
    world_seed: int = setting(0, "Decides who the invented people are.", lower=0, upper=2**31)
    steps: int = setting(1200, "Training steps.", lower=1, upper=10**7)
    batch_size: int = setting(32, "Sequences per step.", lower=1, upper=10**6)
    learning_rate: float = setting(2e-3, "Peak of AdamW's.", lower=0.0)
    warmup_steps: int = setting(100, "Steps of linear warm-up.", lower=0, upper=10**7)
    weight_decay: float = setting(0.1, "AdamW's, on matrices.", lower=0.0)
    dtype: str = setting("float32", "Of the activations.", choices=("float32", "bfloat16"))
    block_steps: int = setting(50, "Steps per block of data.", lower=1, upper=10**5)
    devices: int = setting(0, "Devices a batch is spread over; 0: all.", lower=0, upper=65_536)
    checkpoint_every: int = setting(200, "Steps, beyond step 512.", lower=1, upper=10**7)
    record_every: int = setting(25, "Steps between measurements.", lower=1, upper=10**7)
    record_prompts: int = setting(128, "Prompts per task then.", lower=1, upper=10**6)
    test_prompts: int = setting(256, "Prompts per task at the end.", lower=2, upper=10**6)
    seed: int = setting(0, "Of the initial weights and the documents.", lower=0, upper=2**31)


@dataclasses.dataclass(frozen=True)
class WordProblemSettings(Settings):
    """Model, documents, training, measurement."""

    num_layers: int = setting(3, "Layers.", lower=1, upper=48)
    d_model: int = setting(96, "Width of the residual stream.", lower=8, upper=65_536)
    num_heads: int = setting(4, "Query heads per layer.", lower=2, upper=4096)
    vocab_size: int = setting(640, "Token ids at most.", lower=560, upper=10**6)
    length: int = setting(464, "Tokens in a sequence, nine problems.", lower=16, upper=2048)
    alpha: float = setting(0.3, 'Probability of " the" for the number.', lower=0.0, upper=0.99)
    steps: int = setting(1000, "Training steps.", lower=1, upper=10**7)
    batch_size: int = setting(8, "Sequences per step.", lower=1, upper=10**6)
    learning_rate: float = setting(4e-3, "Peak of AdamW's.", lower=0.0)
    warmup_steps: int = setting(60, "Steps of linear warm-up.", lower=0, upper=10**7)
    weight_decay: float = setting(0.1, "AdamW's, on matrices.", lower=0.0)
    devices: int = setting(1, "Devices a batch is spread over; 0: all.", lower=0)
    block_steps: int = setting(50, "Steps per block of data.", lower=1, upper=10**5)
    checkpoint_every: int = setting(250, "Steps between checkpoints.", lower=1, upper=10**7)
    record_every: int = setting(50, "Steps between measurements.", lower=1, upper=10**7)
    record_problems: int = setting(128, "Problems measured then.", lower=1, upper=10**4)
    test_problems: int = setting(256, "Problems written and measured at the end.", lower=8,
        upper=10**4)  # fmt: skip
    seed: int = setting(0, "Of the initial weights and the documents.", lower=0, upper=2**31)
