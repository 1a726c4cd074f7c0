"""Refusals shared by the theory: each names the argument and what is wrong with it."""

import operator

import numpy as np
from jaxtyping import Float, Num

# Laws that arrive in float32 sum to one only to about 1e-7 per entry.
SUM_TOLERANCE = 1e-5


def open_fraction(name: str, value: float) -> float:
    """Return `value` as a float, refusing anything outside the open interval (0, 1)."""
    number = float(value)
    if not 0.0 < number < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}")
    return number


def at_least(name: str, value: int, minimum: int) -> int:
    """Return `value` as an int, refusing fractions and anything below `minimum`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be an integer, got {value!r}") from None
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}")
    return number


def nonnegative_times(times: Num[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return `times` in float64, refusing other than one dimension, negative or non-finite."""
    array = np.asarray(times, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"times must be one-dimensional, got shape {array.shape}")
    if not np.all(np.isfinite(array)) or np.any(array < 0.0):
        raise ValueError("times must be finite and not negative")
    return array


def probabilities(name: str, law: Num[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return `law` in float64 with its last axis summing to one to machine precision.

    Raises ValueError if an entry is negative or not finite, or if a row misses
    one by more than 1e-5.
    """
    array = np.asarray(law, dtype=np.float64)
    if not np.all(np.isfinite(array)) or np.any(array < 0.0):
        raise ValueError(f"{name} must hold finite probabilities that are not negative")
    sums = array.sum(axis=-1, keepdims=True)
    worst = float(np.max(np.abs(sums - 1.0)))
    if worst > SUM_TOLERANCE:
        what = "rows must each" if array.ndim > 1 else "must"
        raise ValueError(f"{name} {what} sum to one, off by {worst:.3g}")
    return array / sums


def language(
    unigram: Num[np.ndarray, "..."], bigram: Num[np.ndarray, "..."], trigger: int
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"], int]:
    """Return the validated unigram law, bigram law and trigger.

    Raises ValueError if the shapes disagree, fewer than three ordinary tokens
    are left (the trigger and two possible outputs), a row does not sum to one,
    or the trigger is not an ordinary token.
    """
    shape = np.shape(unigram)
    if len(shape) != 1 or shape[0] < 3:
        raise ValueError(f"unigram must have shape [N] with N at least 3, got {shape}")
    if np.shape(bigram) != (shape[0], shape[0]):
        raise ValueError(
            f"bigram must have shape {(shape[0], shape[0])} to match unigram, "
            f"got {np.shape(bigram)}"
        )
    number = at_least("trigger", trigger, 0)
    if number >= shape[0]:
        raise ValueError(f"trigger must be below {shape[0]}, the number of tokens, got {number}")
    return probabilities("unigram", unigram), probabilities("bigram", bigram), number
