"""Refusals shared by the theory: each names the argument and what is wrong with it.

Every public function of theory/ passes its arguments through these, which take whatever a user
may give (lists, other number types, nan) and return what the formulas need.
"""

import math
import operator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

# Laws that arrive in float32 sum to one only to about 1e-7 per entry.
SUM_TOLERANCE = 1e-5


def number(name: str, value: Any) -> float:
    """Return `value` as a float, refusing what is no single finite number."""
    found = array(name, value)
    if found.ndim != 0 or not np.isfinite(found):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return float(found)


def open_fraction(name: str, value: Any) -> float:
    """Return `value` as a float, refusing anything outside the open interval (0, 1)."""
    found = array(name, value)
    if found.ndim != 0 or not 0.0 < found < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value!r}")
    return float(found)


def below_one(name: str, value: Any) -> float:
    """Return `value` as a float, refusing anything outside [0, 1)."""
    found = array(name, value)
    if found.ndim != 0 or not 0.0 <= found < 1.0:
        raise ValueError(f"{name} must lie in [0, 1), got {value!r}")
    return float(found)


def within(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """Return `value` as a float, refusing what is not finite or outside [low, high]."""
    found = number(name, value)
    if not low <= found <= high:
        limits = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise ValueError(f"{name} must be {limits}, got {value!r}")
    return found


def positive(name: str, value: Any) -> float:
    """Return `value` as a float, refusing what is not finite or not above zero."""
    found = number(name, value)
    if found <= 0.0:
        raise ValueError(f"{name} must be positive, got {value!r}")
    return found


def at_least(name: str, value: Any, minimum: int) -> int:
    """Return `value` as an int, refusing fractions and anything below `minimum`."""
    try:
        found = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be an integer, got {value!r}") from None
    if found < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {found}")
    return found


def index(name: str, value: Any, size: int) -> int:
    """Return `value` as an int, refusing anything but 0, ..., size - 1."""
    found = at_least(name, value, 0)
    if found >= size:
        raise ValueError(f"{name} must be below {size}, got {found}")
    return found


def array(name: str, values: Any) -> Float[np.ndarray, "..."]:
    """Return `values` in float64, refusing what holds no numbers; nan and infinity pass."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must hold numbers, got {values!r}") from None


def numbers(name: str, values: Any, *shape: int | None) -> Float[np.ndarray, "..."]:
    """Return `values` in float64, refusing what is not finite or of another shape.

    Args:
      name: of the argument.
      values: numbers, as an array, a list or lists of lists.
      shape: one size per dimension; None where any size will do.

    """
    found = array(name, values)
    _refuse_shape(name, found.shape, shape)
    if not np.all(np.isfinite(found)):
        raise ValueError(f"{name} must be finite")
    return found


def positives(name: str, values: Any, *shape: int | None) -> Float[np.ndarray, "..."]:
    """As `numbers`, all above zero."""
    found = numbers(name, values, *shape)
    if np.any(found <= 0.0):
        raise ValueError(f"{name} must be positive")
    return found


def integers(
    name: str, values: Any, *shape: int | None, minimum: int = 0, below: int | None = None
) -> Int[np.ndarray, "..."]:
    """As `numbers`, but whole ones of at least `minimum` and, if given, below `below`."""
    found = numbers(name, values, *shape)
    whole = found.astype(np.int64)
    if np.any(whole != found):
        raise ValueError(f"{name} must hold integers")
    if np.any(whole < minimum) or (below is not None and np.any(whole >= below)):
        limits = f"at least {minimum}" + ("" if below is None else f" and below {below}")
        raise ValueError(f"{name} must be {limits}")
    return whole


def nonnegative_times(times: Any) -> Float[np.ndarray, " n"]:
    """Return `times` in float64, refusing other than one dimension, negative or non-finite."""
    found = array("times", times)
    if found.ndim != 1:
        raise ValueError(f"times must be one-dimensional, got shape {found.shape}")
    if not np.all(np.isfinite(found)) or np.any(found < 0.0):
        raise ValueError("times must be finite and not negative")
    return found


def probabilities(name: str, law: Any) -> Float[np.ndarray, "..."]:
    """Return `law` in float64 with its last axis summing to one to machine precision.

    Raises ValueError if it is empty, an entry is negative or not finite, or a row misses one by
    more than 1e-5.
    """
    found = array(name, law)
    if found.ndim == 0 or found.size == 0:
        raise ValueError(f"{name} must hold probabilities, got shape {found.shape}")
    if not np.all(np.isfinite(found)) or np.any(found < 0.0):
        raise ValueError(f"{name} must hold finite probabilities that are not negative")
    sums = found.sum(axis=-1, keepdims=True)
    worst = float(np.max(np.abs(sums - 1.0)))
    if worst > SUM_TOLERANCE:
        what = "rows must each" if found.ndim > 1 else "must"
        raise ValueError(f"{name} {what} sum to one, off by {worst:.3g}")
    return found / sums


def frequencies(name: str, law: Any) -> Float[np.ndarray, " facts"]:
    """Return a law of at least two facts, none of them without frequency."""
    found = probabilities(name, law)
    if found.ndim != 1 or found.size < 2 or np.any(found == 0.0):
        raise ValueError(f"{name} must be one-dimensional, at least two, all positive")
    return found


def plane(num_inputs: Any, alphas: Any) -> tuple[list[int], list[float]]:
    """Return the sizes and noise probabilities that a phase diagram of the memory is drawn over."""
    sizes = integers("num_inputs", num_inputs, None, minimum=2)
    fractions = numbers("alphas", alphas, None)
    return [int(n) for n in sizes], [open_fraction("alphas", a) for a in fractions]


def language(
    unigram: Any, bigram: Any, trigger: Any
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"], int]:
    """Return the validated unigram law, bigram law and trigger.

    Raises ValueError if the shapes disagree, fewer than three ordinary tokens
    are left (the trigger and two possible outputs), a row does not sum to one,
    or the trigger is not an ordinary token.
    """
    shape = array("unigram", unigram).shape
    if len(shape) != 1 or shape[0] < 3:
        raise ValueError(f"unigram must have shape [N] with N at least 3, got {shape}")
    pairs = array("bigram", bigram)
    if pairs.shape != (shape[0], shape[0]):
        raise ValueError(
            f"bigram must have shape {(shape[0], shape[0])} to match unigram, got {pairs.shape}"
        )
    found = at_least("trigger", trigger, 0)
    if found >= shape[0]:
        raise ValueError(f"trigger must be below {shape[0]}, the number of tokens, got {found}")
    return probabilities("unigram", unigram), probabilities("bigram", bigram), found


def _refuse_shape(name: str, found: tuple[int, ...], shape: tuple[int | None, ...]) -> None:
    fits = len(found) == len(shape) and all(
        want is None or size == want for size, want in zip(found, shape, strict=True)
    )
    if not fits:
        told = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must have shape [{told}], got {list(found)}")
