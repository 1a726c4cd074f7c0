"""The settings of the small Llama that solves word problems."""

import dataclasses

from training.settings import Settings, setting


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
