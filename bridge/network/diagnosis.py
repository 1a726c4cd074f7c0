"""Where a model leaves the finite numbers: one forward more, run only after that was seen."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from bridge.config import Config
from bridge.network.whole import residual_streams
from truncation.finite import NotFiniteError, place


def not_finite(
    params: Any,
    config: Config,
    tokens: Int[np.ndarray | Array, "batch length"],
    mask: Bool[np.ndarray | Array, "batch length"],
    *,
    told: str,
    dtype: str | None = None,
    name: str = "",
) -> NotFiniteError:
    """What to raise of a model for which `told` is not finite on these tokens.

    The line names the model, the dtype of its activations and the first layer to blame.
    """
    real = jnp.asarray(mask)
    streams = residual_streams(params, config, jnp.asarray(tokens), real, dtype)
    name = name or f"this {config.family} of {config.num_layers} layers"
    return NotFiniteError(f"{name}: {told} are not finite; {place(streams, real)}")
