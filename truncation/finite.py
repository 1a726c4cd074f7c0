"""Numbers that stopped being finite: NaN and infinity are no figures.

A comparison with NaN is false and argmax takes NaN for the largest, so a model that says NaN would
have nothing above its answer: accuracy 1, rank 1. Therefore the model itself is refused
(NotFiniteError), and a candidate cut of it has no figures: all its scores are NaN, its rows hold
None, no rule chooses it, and the outcome counts it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class NotFiniteError(FloatingPointError):
    """A model, or what is computed of it, is NaN or infinite; the message is one line."""


def hits(
    logits: Float[Array, "*batch classes"], tokens: Int[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """1 where the token is the most probable, 0 where it is not, NaN where that is not finite."""
    index, known = top(logits)
    return where_known(known, index == tokens)


def where_known(known: Bool[Array, "*batch"], answers: Array) -> Float[Array, "*batch"]:
    """Answers as numbers, NaN where they are not known."""
    # Not a product with NaN: XLA makes a choice of a product with a truth value.
    return jnp.where(known, answers.astype(jnp.float32), jnp.nan)


def top(
    values: Float[Array, "*batch classes"],
) -> tuple[Int[Array, "*batch"], Bool[Array, "*batch"]]:
    """Where the largest value is, and whether it is finite."""
    index = jnp.argmax(values, axis=-1)
    # The first NaN is taken for the largest, and so is plus infinity.
    largest = jnp.take_along_axis(values, index[..., None], axis=-1)[..., 0]
    return index, jnp.isfinite(largest)


def all_finite(tree: Any, real: Bool[Array, "..."] | None = None) -> bool:
    """Whether all numbers of a tree are finite; real says at which places of a stream to look."""
    for leaf in jax.tree.leaves(tree):
        found = jnp.isfinite(leaf)
        if real is not None:
            found |= ~real.reshape(real.shape + (1,) * (leaf.ndim - real.ndim))
        if not bool(jnp.all(found)):
            return False
    return True


def place(streams: Iterable[Any], real: Bool[Array, "..."] | None = None) -> str:
    """Which of the streams before each layer and after the last is the first not finite.

    In words, with its dtype; where all of them are finite, it is the end of the network.
    """
    dtype = ""
    for index, stream in enumerate(streams):
        dtype = next((f", in {leaf.dtype}" for leaf in jax.tree.leaves(stream)), "")
        if not all_finite(stream, real):
            first = f"layer {index - 1}" if index else "the embedding"
            return f"{first} is the first whose output is not{dtype}"
    return f"every layer's output is finite, what follows the last is not{dtype}"


def lost(
    scores: Mapping[str, Float[np.ndarray, "*candidates examples answers"]],
    weights: Float[np.ndarray, "examples answers"],
) -> Bool[np.ndarray, "*candidates"]:
    """Of which candidates a score that counts is not finite."""
    counted = np.asarray(weights) > 0
    each = [np.any(~np.isfinite(v) & counted, axis=(-2, -1)) for v in scores.values()]
    return np.asarray(np.any(each, axis=0))


def void(
    scores: Mapping[str, Float[np.ndarray, "*candidates examples answers"]],
    weights: Float[np.ndarray, "examples answers"],
) -> dict[str, Float[np.ndarray, "*candidates examples answers"]]:
    """The scores, all of them NaN of candidates of which one is not finite."""
    gone = lost(scores, weights)
    if not gone.any():
        return dict(scores)
    return {
        name: np.where(gone[..., None, None], np.float32(np.nan), v) for name, v in scores.items()
    }


def or_none(value: Any) -> float | None:
    """A figure as rows hold it: None where it is not finite."""
    number = float(value)
    return number if np.isfinite(number) else None
