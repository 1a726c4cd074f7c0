"""Parts of a network that a user may bring: named, or a function by its import path.

    toy.train(attention=linear)                     # a function
    --attention=mypackage.mymodule:linear           # the same on a command line

A function is recorded as MODULE:NAME, so that a run is opened again wherever the module is found.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Attention = Callable[[Any, Any], Any]
Activation = Callable[[Any], Any]


def softmax(
    scores: Float[Array, "batch heads queries keys"], causal: Bool[Array, "*batch queries keys"]
) -> Float[Array, "batch heads queries keys"]:
    """Weights that add up to one over the keys that a query may see."""
    return jax.nn.softmax(jnp.where(causal, scores, -jnp.inf), axis=-1)


ATTENTIONS: dict[str, Attention] = {"softmax": softmax}
ACTIVATIONS: dict[str, Activation] = {"relu": jax.nn.relu, "gelu": jax.nn.gelu, "silu": jax.nn.silu}


def spelled(part: str | Callable[..., Any]) -> str:
    """The name of a part as it is recorded; ValueError for a function that no import finds."""
    if isinstance(part, str):
        return part
    path = f"{part.__module__}:{getattr(part, '__qualname__', '')}"
    if "<" in path or not callable(part):
        raise ValueError(f"{path}: give a function of a module, which can be imported again")
    return path


def attention(name: str) -> Attention:
    """(scores, causal) -> pattern, both [batch, heads, queries, keys].

    causal is true at keys that a query may see; a pattern may be anything that is zero elsewhere.
    Scores are divided by the root of a head's width already. Raises ValueError for an unknown name.
    """
    return _found(name, "attention", ATTENTIONS)


def activation(name: str) -> Activation:
    """The nonlinearity of feed-forwards, entry by entry; ValueError for an unknown name."""
    return _found(name, "activation", ACTIVATIONS)


def _found(name: str, what: str, known: dict[str, Any]) -> Any:
    if name in known:
        return known[name]
    module, colon, inside = name.partition(":")
    if not colon:
        raise ValueError(
            f"{what} {name!r} is not known; known are {', '.join(known)}, or MODULE:FUNCTION"
        )
    try:
        found = functools.reduce(getattr, inside.split("."), importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{what} {name!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(f"{what} {name!r} is no function")
    return found
