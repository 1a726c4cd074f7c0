"""Where a model leaves the finite numbers: one forward more, run only after that was seen."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from truncated_weights.bridge.config import Config
from truncated_weights.bridge.network.whole import residual_streams
from truncated_weights.truncation.finite import NotFiniteError, place


def not_finite(
    params: Any,
    config: Config,
    tokens: Int[np.ndarray | Array, "batch length"],
    mask: Bool[np.ndarray | Array, "batch length"],
    *,
    what: str,
    dtype: str | None = None,
    name: str = "",
) -> NotFiniteError:
    """What to raise of a model whose `what`, as "logits", are not finite on these tokens.

    The line names the model, the dtype of its activations and the first layer to blame.
    """
    real = jnp.asarray(mask)
    streams = residual_streams(params, config, jnp.asarray(tokens), real, dtype)
    name = name or f"this {config.family} of {config.num_layers} layers"
    return NotFiniteError(f"{name}: {what} are not finite; {place(streams, real)}")
