"""What the small Pythia is trained on and how: next-token loss of packed sequences, AdamW.

The loop is training/loop.py; each step's batch is a row of a block that the corpus makes on the
host (training.loop.Feed).
"""

import dataclasses
import functools
from typing import Any

import jax
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from truncated_weights.bridge import module
from truncated_weights.bridge import network as model
from truncated_weights.bridge.config import Config
from truncated_weights.training import slices
from truncated_weights.training.loop import Shard

# Numbers in the largest activation of a slice of a batch, logits or hidden units, on a processor:
# 4 MB. Attention's scores are not counted; counted, the small Llama would read one sequence at a
# time, whose products are too small to be divided over cores (564 ms a step instead of 368).
SLICE_NUMBERS = 2**20


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train.

    AdamW with Pythia's betas and clipping; decay acts on matrices alone. The learning rate
    rises linearly from 0 over warmup_steps, so that the first step moves nothing and step 1 is
    step 0 again, and falls by a cosine to final_fraction of its peak.
    Activations and their gradients are computed in `dtype`; parameters, moments, norms,
    softmax and loss stay float32. Raises ValueError naming a value out of range.
    """

    steps: int
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    final_fraction: float = 0.02
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be positive, got {self.steps}")
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError(
                f"warmup_steps must be from 0 to steps - 1 = {self.steps - 1}, "
                f"got {self.warmup_steps}"
            )
        for name in ("learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.final_fraction <= 1:
            raise ValueError(f"final_fraction must be in [0, 1], got {self.final_fraction}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype must be float32 or bfloat16, got {self.dtype!r}")


def optimizer(settings: Settings) -> optax.GradientTransformation:
    """Clipping, then AdamW with warm-up and cosine decay."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        decay_steps=settings.steps,
        end_value=settings.final_fraction * settings.learning_rate,
    )
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.adamw(
            schedule,
            b1=0.9,
            b2=0.95,
            eps=1e-8,
            weight_decay=settings.weight_decay,
            mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
        ),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class NextToken:
    """A training problem (see training/trainer.py): every token but the first, given those before.

    seed decides the initial weights, whatever key the loop offers.
    """

    config: Config
    seed: int = 0
    dtype: str = "float32"

    def init(self, key: PRNGKeyArray) -> tuple[Any, dict[str, Any]]:
        """All weights are trained."""
        return module.init_params(self.config, key=jax.random.key(self.seed)), {}

    def loss(
        self, params: Any, frozen: Any, data: Int[Array, "batch length"], shard: Shard
    ) -> Float[Array, ""]:
        """Mean cross-entropy in nats of every token but the first, given those before it."""
        batch_size, length = data.shape
        each = length * max(self.config.vocab_size, self.config.d_ff)
        count = slices.fewest(batch_size, each, SLICE_NUMBERS)
        function = functools.partial(_summed, self.config, self.dtype)
        return slices.summed(function, params, (), data, count) / (batch_size * (length - 1))


def _summed(
    config: Config, dtype: str, params: Any, _rest: Any, tokens: Int[Array, "batch length"]
) -> Float[Array, ""]:
    logits = model.forward(params, config, tokens[:, :-1], dtype=dtype)
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).sum()
