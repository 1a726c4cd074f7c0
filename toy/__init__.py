"""The small world, where the truth is known: languages, recall task, models, training, probes."""

from typing import Any

__all__ = ["Run", "open", "train"]


def __getattr__(name: str) -> Any:
    # On demand, because whoever only reads settings should not wait for JAX.
    if name in __all__:
        import importlib

        return getattr(importlib.import_module("truncated_weights.toy.run"), name)
    raise AttributeError(f"module 'toy' has no attribute {name!r}")
