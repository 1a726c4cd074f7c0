"""The numbers of a run that its claims speak of, by set, model and step."""

from typing import Any

from truncated_weights.experiments.run.claim import At


def clean(metric: str, model: str = "full", **at: Any) -> At:
    """On clean sequences: at the end of training, or with a step at that record along it."""
    return At(metric, "models" if "step" in at else "final", set="clean", model=model, **at)


def noisy(metric: str, model: str = "full", **at: Any) -> At:
    """The same on noisy sequences."""
    return At(metric, "models" if "step" in at else "final", set="noisy", model=model, **at)


def recalled(association: str, step: int = -1) -> At:
    """The share that one of the memories of the circuit recalls."""
    return At("recall", "mechanisms", association=association, step=step)
