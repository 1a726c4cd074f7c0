"""The rotary embedding: angles position * f_i, in the forms that the families use.

f_i = base^(-2i / r) over the r rotated dimensions of a head, dimension i against i + r / 2;
the rest of the head passes. Frequencies and angles are float32, as in the reference
implementations: float64 ones miss those by 1.5e-5 of a logit at 4,096 tokens.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from truncated_weights.bridge.config import Config, Llama3Rope, LongRope


def frequencies(config: Config) -> Float[np.ndarray, " r_2"]:
    """f_i of texts within the original length, after the config's scaling."""
    plain = _plain(config)
    scaling = config.rope_scaling
    if isinstance(scaling, Llama3Rope):
        # How many turns a frequency makes within the original length.
        turns = plain * np.float32(scaling.original / (2 * np.pi))
        ramp = np.clip((turns - scaling.low) / (scaling.high - scaling.low), 0, 1)
        return (plain * ramp + (1 - ramp) * plain / scaling.factor).astype(np.float32)
    if isinstance(scaling, LongRope):
        return plain / np.asarray(scaling.short, np.float32)
    return plain


def _plain(config: Config) -> Float[np.ndarray, " r_2"]:
    exponents = np.arange(0, config.rotary_dim, 2, dtype=np.float32) / config.rotary_dim
    if len(config.rope_bases) > 1 or len(config.rope_factors) > 1:
        raise ValueError("layers have ropes of their own: use config.of_layer(index)")
    base = config.rope_bases[0] if config.rope_bases else config.rotary_base
    found = 1 / np.float32(base) ** exponents
    return (found / np.float32((config.rope_factors or (1.0,))[0])).astype(np.float32)


def rotate(
    x: Float[Array, "batch n heads head_dim"],
    positions: Int[Array, "batch n"],
    lengths: Int[Array, "batch _"],
    config: Config,
) -> Float[Array, "batch n heads head_dim"]:
    """x with its leading rotary_dim dimensions turned by the angles of its positions.

    lengths are the real tokens of each sequence, or of that which each x stands in: with a
    LongRope they decide between the short factors and the long ones, for each by itself.
    """
    half = config.rotary_dim // 2
    if half == 0 or config.rope_bases == (0.0,):
        return x
    f = jnp.asarray(frequencies(config))[None, None]
    scaling, scale = config.rope_scaling, 1.0
    if isinstance(scaling, LongRope):
        long = _plain(config) / np.asarray(scaling.long, np.float32)
        is_long = (lengths > scaling.original)[:, :, None]
        f, scale = jnp.where(is_long, jnp.asarray(long)[None, None], f), scaling.scale
    angles = positions[:, :, None].astype(jnp.float32) * f
    # Made before they are used: fused with what follows they would be computed for every head.
    turns = jax.lax.optimization_barrier((scale * jnp.cos(angles), scale * jnp.sin(angles)))
    cos, sin = (jnp.broadcast_to(g[:, :, None], (*x.shape[:3], half)) for g in turns)
    first, second, rest = jnp.split(x, (half, 2 * half), axis=-1)
    first, second = first.astype(jnp.float32), second.astype(jnp.float32)
    rotated = (first * cos - second * sin, second * cos + first * sin)
    return jnp.concatenate([part.astype(x.dtype) for part in rotated] + [rest], axis=-1)
