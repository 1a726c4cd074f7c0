"""The settings of a noisy-recall run; NoisyRecall() is the default one.

    NoisyRecall(alpha=0.3, feed_forward=("none", "none"))

Importing this brings no JAX. The program experiments.noisy_recall has one flag per field.
"""

import dataclasses

from truncated_weights.training.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class NoisyRecall(Settings):
    """Language, task, model, training and measurement, in this order.

    Raises ValueError, naming the setting, for a value of another type or out of bounds.
    Whether the settings go together is found when the run is built.
    """

    language: str = setting("zipf", "Law of the ordinary tokens.", choices=("zipf", "uniform"))
    text: str = setting(
        "",
        "Text file whose characters and pairs are the language instead; shakespeare is Tiny "
        "Shakespeare, whose counts come with the package.",
    )
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
    trigger_offset: int = setting(
        0, "Most frequent tokens passed over when triggers are chosen.", lower=0, upper=10_000
    )
    random_triggers: bool = setting(False, "Every sequence draws triggers of its own.")
    num_noise: int = setting(1, "Noise tokens.", lower=1, upper=10_000)
    noise: tuple[str, ...] = setting((), "Noise tokens by index or symbol, instead of new ones.")
    existing_noise: bool = setting(False, "Noise is the rarest ordinary token, not a new one.")
    outputs: str = setting(
        "others",
        "Correct outputs: tokens but triggers and noise, all, all but the trigger, drawn from the "
        "trigger's bigram row, or three quarters of the others with the rest held out.",
        choices=("others", "all", "not_trigger", "bigram", "heldout"),
    )
    scoring: str = setting("every", "Where the loss is taken.", choices=("every", "final"))

    d_model: int = setting(128, "Width.", lower=1, upper=65_536)
    d_hidden: int = setting(0, "Feed-forward width; 0 means 4 d_model.", lower=0, upper=262_144)
    feed_forward: tuple[str, ...] = setting(
        ("mlp", "mlp"),
        "Per layer: none, linear, mlp, linear_mlp (no ReLU) or relu (no W_out).",
        choices=("none", "linear", "mlp", "linear_mlp", "relu"),
        repeats=True,
    )
    positions: str = setting(
        "gaussian",
        "Position embedding, or rotary queries and keys.",
        choices=("gaussian", "sinusoidal", "learned", "rotary", "none"),
    )
    attention: str = setting(
        "softmax", "From scores to the pattern: softmax, or a function as MODULE:NAME."
    )
    activation: str = setting(
        "relu", "Of feed-forwards: relu, gelu, silu, or a function as MODULE:NAME."
    )
    num_heads: int = setting(1, "Attention heads.", lower=1, upper=1024)
    learned_query: bool = setting(False, "Learn W_Q instead of the identity.")
    identity_value: bool = setting(False, "W_V is the identity.")
    diagonal_value: float = setting(
        0.0, "W_V is the diagonal i^-this, not learned; 0 means it is learned.", lower=0.0
    )
    scaled_scores: bool = setting(True, "Scores over the root of a head's width.")
    scaled_embeddings: bool = setting(False, "Embeddings start with variance 1 / d_model.")
    scaled_logits: bool = setting(False, "Logits over the root of d_model.")
    tied_output: bool = setting(False, "The unembedding is the transposed embedding.")
    parallel: bool = setting(False, "Attention and feed-forward read the same stream.")
    layer_norm: bool = setting(False, "Normalise what attention, feed-forward, unembedding read.")
    attention_residual: bool = setting(True, "Residual connection around attention.")
    feed_forward_residual: bool = setting(True, "Residual connection around feed-forwards.")
    last_residual: bool = setting(
        True, "Residual connection around a last layer without feed-forward."
    )
    last_residual_steps: int = setting(
        0,
        "Steps after which training switches that connection off; 0 means never.",
        lower=0,
        upper=10**9,
    )
    initial_scale: float = setting(
        1.0, "Learned matrices of the layers start at this times their usual size.",
        lower=0.0, upper=1e3,
    )  # fmt: skip
    frozen: tuple[str, ...] = setting((), "Matrices kept at their start, as 0.k_proj,1.fc_in.")
    trained: tuple[str, ...] = setting((), "Also trained: embeddings, unembedding.")

    loss_on: str = setting("triggers", "Positions of the loss.", choices=("triggers", "all"))
    start_from: str = setting("", "Run directory whose last weights are the start.")
    unfreeze: tuple[str, ...] = setting((), "Matrices that learn from a step on, as 1.fc_in:300.")
    steps: int = setting(500, "Optimiser steps.", lower=1, upper=10**9)
    batch_size: int = setting(64, "Sequences per step.", lower=1, upper=10**7)
    optimizer: str = setting("sgd", "Optimiser.", choices=("sgd", "adam", "adamw", "muon"))
    learning_rate: float = setting(0.03, "Peak learning rate.", lower=0.0)
    momentum: float = setting(0.9, "Momentum, Adam's b1, or Muon's beta.", lower=0.0, upper=1.0)
    b2: float = setting(0.999, "Adam's b2.", lower=0.0, upper=1.0)
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
    bigram_batch: int = setting(
        0,
        "Sequences whose loss away from triggers is measured, if any.",
        lower=0,
        upper=10**7,
    )
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
    variants: tuple[str, ...] = setting(
        (),
        "Also measured, the same weights: no_relu (of no layer), 0.no_relu (of one), "
        "no_last_residual.",
    )
    rhos: tuple[str, ...] = setting(
        ("0", "0.01", "0.02", "0.05", "0.1", "0.2", "0.35", "0.5", "0.75", "1"),
        "Fractions of rank in the final truncation curves.",
    )
