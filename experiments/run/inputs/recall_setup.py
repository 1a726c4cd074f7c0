"""Reading a run of noisy_recall back: its setup and the state of any checkpoint."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from truncated_weights.experiments.run import provenance, stop
from truncated_weights.experiments.run.directory import (
    read_config,
    require_same_stream,
    settings_of,
)
from truncated_weights.experiments.run.program import UserError, user_errors
from truncated_weights.experiments.run.progress import stage
from truncated_weights.toy.settings import NoisyRecall
from truncated_weights.toy.setup import Setup as Setup
from truncated_weights.toy.setup import build
from truncated_weights.training.checkpoint import Store
from truncated_weights.training.loop import State


def read_setup(path: str | Path) -> Setup:
    """The setup of a run directory; UserError where it is not one of noisy_recall.

    Its language is drawn again from its seed, so the random stream must be the one it had.
    """
    settings = settings_of(path, "noisy_recall", NoisyRecall)
    require_same_stream(path)
    with user_errors():
        return build(settings)


def digest(path: str | Path, steps: Sequence[int | None]) -> str:
    """Digest of the settings and of the weights at these steps (None: the last)."""
    found = [str(read_config(path))]
    for step in steps:
        stage(
            f"reading {'the last checkpoint' if step is None else f'checkpoint {step}'} of {path}"
        )
        stop.check()
        _, _, state = restore(path, step)
        found.append(provenance.of_tree((state.params, state.frozen)))
    return provenance.of_text(" ".join(found))


def left(state: State) -> list[int]:
    """The places of the seeds that had not left the finite numbers by then, at least one."""
    return [int(place) for place in np.flatnonzero(np.asarray(state.first_bad) < 0)]


def on_one_device(setup: Setup) -> Setup:
    """The same, on however many devices it was trained."""
    return dataclasses.replace(setup, config=dataclasses.replace(setup.config, devices=1))


def restore(path: str | Path, step: int | None = None) -> tuple[Setup, int, State]:
    """A run's setup and the state of one checkpoint (the last by default), on one device."""
    setup = on_one_device(read_setup(path))
    with user_errors():
        state = Store(Path(path) / "checkpoints").restore(setup.trainer().abstract(), step)
    if state is None:
        raise UserError(f"{path} has no checkpoint")
    return setup, int(state.step), state
