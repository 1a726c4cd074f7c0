"""The settings of a noisy-recall run; NoisyRecall() is the demo.

    NoisyRecall(alpha=0.3, feed_forward=("none", "none"))

Importing this brings no JAX. The program experiments.noisy_recall has one flag per field.
"""

import dataclasses

from training.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class NoisyRecall(Settings):
    """Language, task, model, training and measurement, in this order.

    Raises ValueError, naming the setting, for a value of another type or out of bounds.
    Whether the settings go together is found when the run is built.
    """

    language: str = setting("zipf", "Law of the ordinary tokens.", choices=("zipf", "uniform"))
    text: str = setting("", "Text file whose characters and pairs are the language instead.")
    num_tokens: int = setting(64, "Ordinary tokens.", lower=2, upper=10_000)
    zipf_exponent: float = setting(1.0, "Unigram law is rank^-exponent.", lower=0.0, upper=20.0)
    concentration: float = setting(
        8.0, "Rows are Dirichlet(this * unigram).", lower=1e-3, upper=1e6
    )

    alpha: float = setting(0.5, "Probability of noise.", lower=0.0, upper=1.0)
    length: int = setting(128, "Tokens in a sequence.", lower=2, upper=65_536)
    num_triggers: int = setting(1, "Triggers: the most frequent tokens.", lower=1, upper=10_000)
    triggers: tuple[str, ...] = setting(
        (), "Triggers by index or symbol, instead of the most frequent."
    )
    num_noise: int = setting(1, "Noise tokens.", lower=1, upper=10_000)
    existing_noise: bool = setting(False, "Noise is the rarest ordinary token, not a new one.")
    scoring: str = setting("every", "Where the loss is taken.", choices=("every", "final"))

    d_model: int = setting(128, "Width.", lower=1, upper=65_536)
    d_hidden: int = setting(0, "Feed-forward width; 0 means 4 d_model.", lower=0, upper=262_144)
    feed_forward: tuple[str, ...] = setting(
        ("mlp", "mlp"),
        "Per layer: none, linear or mlp.",
        choices=("none", "linear", "mlp"),
        repeats=True,
    )
    positions: str = setting(
        "gaussian",
        "Position embedding.",
        choices=("gaussian", "sinusoidal", "learned", "none"),
    )
    learned_query: bool = setting(False, "Learn W_Q instead of the identity.")
    attention_residual: bool = setting(True, "Residual connection around attention.")
    feed_forward_residual: bool = setting(True, "Residual connection around feed-forwards.")
    frozen: tuple[str, ...] = setting((), "Matrices kept at their start, as 0.k_proj,1.fc_in.")
    trained: tuple[str, ...] = setting((), "Also trained: embeddings, unembedding.")

    steps: int = setting(500, "Optimiser steps.", lower=1, upper=10**9)
    batch_size: int = setting(64, "Sequences per step.", lower=1, upper=10**7)
    optimizer: str = setting("sgd", "Optimiser.", choices=("sgd", "adam", "adamw"))
    learning_rate: float = setting(0.03, "Peak learning rate.", lower=0.0)
    momentum: float = setting(0.9, "Momentum, or Adam's b1.", lower=0.0, upper=1.0)
    weight_decay: float = setting(1e-4, "Weight decay.", lower=0.0)
    schedule: str = setting(
        "constant", "Learning-rate law.", choices=("constant", "cosine", "linear")
    )
    warmup: int = setting(0, "Steps of linear warm-up.", lower=0, upper=10**9)
    seed: int = setting(0, "First seed.", lower=0, upper=2**31)
    num_seeds: int = setting(1, "Seeds trained side by side.", lower=1, upper=65_536)
    devices: int = setting(
        0, "Devices the batch is spread over; 0 means all.", lower=0, upper=65_536
    )
    matmul_precision: str = setting(
        "highest",
        "Of matrix products on accelerators: float32, or what is faster.",
        choices=("highest", "high", "default"),
    )

    eval_every: int = setting(
        50, "Steps between records, beside 1, 2, 4, ...", lower=1, upper=10**9
    )
    eval_batch: int = setting(64, "Sequences per record.", lower=1, upper=10**7)
    final_batch: int = setting(256, "Sequences of the final figures.", lower=1, upper=10**7)
    spectrum_every: int = setting(
        0, "Steps between spectra; 0 means 1, 2, 4, ... only.", lower=0, upper=10**9
    )
    checkpoint_every: int = setting(
        0, "Steps between checkpoints; 0 means 1, 2, 4, ... only.", lower=0, upper=10**9
    )
    interventions: tuple[str, ...] = setting(
        (), "Followed along training; empty means the usual ones."
    )
    rhos: tuple[str, ...] = setting(
        ("0", "0.01", "0.02", "0.05", "0.1", "0.2", "0.35", "0.5", "0.75", "1"),
        "Fractions of rank in the final truncation curves.",
    )
