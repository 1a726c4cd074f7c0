"""Take components out of weight matrices: simulated, predicted, verified, drawn.

    from truncated_weights import bridge, theory, toy, truncation

The packages lie beside this folder, as folders of their own; here are links to them, so that each
has one name which no file of a user can hide.
"""

import importlib
from importlib import metadata
from typing import Any

__all__ = ["bridge", "experiments", "mini_pythia", "theory", "toy", "training", "truncation"]


def __getattr__(name: str) -> Any:
    # On demand, because whoever wants one of them should not wait for the others.
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "__version__":
        return metadata.version("truncated-weights")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
