"""Checkpoints of a training state, through orbax: written beside their place, then moved."""

import contextlib
import errno
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from truncated_weights.training import processes


class CheckpointError(ValueError):
    """A checkpoint that is not there or cannot be read."""


class Store:
    """The checkpoints of one run, one per step.

    keep: how many of the last are kept; None keeps all. Raises FileNotFoundError where the folder
    of the run is not there.
    """

    def __init__(self, path: str | Path, *, keep: int | None = None):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self.path = Path(path).absolute()
        if processes.first() and not self.path.parent.is_dir():
            # orbax would make it: a run that was removed meanwhile is not begun again here.
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path.parent))
        self._manager = ocp.CheckpointManager(self.path, options=options)

    def steps(self) -> tuple[int, ...]:
        """Steps with a complete checkpoint, ascending."""
        return tuple(sorted(self._manager.all_steps()))

    def save(self, step: int, state: Any) -> None:
        """Copy the state to the host and write it in the background.

        Raises OSError, here or in a later call, where the disk refuses; CheckpointError where a
        link would have it written, or an old checkpoint removed, somewhere else.
        """
        self._refuse_links()
        whole = {"state": state, "checksum": _checksum(state)}
        with self._disk_errors():
            self._manager.save(step, args=ocp.args.StandardSave(whole))

    def restore(self, abstract: Any, step: int | None = None) -> Any | None:
        """The state of a step (the last one by default) in the form of `abstract`.

        None where there is no checkpoint at all. Raises CheckpointError where this step has none,
        where the checkpoint cannot be read, or where its bits are not those that were saved.
        """
        steps = self.steps()
        if not steps:
            return None
        step = steps[-1] if step is None else step
        if step not in steps:
            raise CheckpointError(f"no checkpoint of step {step}; there are {steps}")
        # The storage below would wait for a pipe.
        for path in (self.path / str(step)).rglob("*"):
            if not (path.is_file() or path.is_dir()):
                raise CheckpointError(
                    f"checkpoint {step} cannot be read: {path.name!r} is not a regular file"
                )
        whole = {"state": abstract, "checksum": np.zeros((), np.uint32)}
        try:
            found = self._manager.restore(step, args=ocp.args.StandardRestore(whole))
        # Whatever it is: orbax raises a bare Exception where one array of several cannot be read.
        except Exception as error:
            raise CheckpointError(
                f"checkpoint {step} cannot be read: {' '.join(str(error).split())[:200]}"
            ) from error
        if int(_checksum(found["state"])) != int(found["checksum"]):
            raise CheckpointError(f"checkpoint {step} cannot be read: its bits have changed")
        return found["state"]

    def delete(self, step: int) -> None:
        """Remove one checkpoint, once those being written are complete."""
        self.wait()
        self._refuse_links()
        self._manager.delete(step)

    def wait(self) -> None:
        """Return when everything is on disk; OSError where the disk refuses."""
        with self._disk_errors():
            self._manager.wait_until_finished()

    def _refuse_links(self) -> None:
        for path in (self.path, *self.path.iterdir()):
            if path.is_symlink():
                raise CheckpointError(
                    f"{path} is a link; checkpoints are written into their own folder"
                )

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        # tensorstore reports a failed write as a ValueError, the system's code only in its text.
        try:
            yield
        except ValueError as error:
            found = re.search(r"os_error_code='(\d+)'", str(error))
            if not found:
                raise
            code = int(found[1])
            raise OSError(code, os.strerror(code), str(self.path)) from error


def _checksum(state: Any) -> np.ndarray:
    """CRC of every bit of a state: the storage below has no checksum of its own."""
    found = 0
    for leaf in jax.tree.leaves(state):
        # Of the whole array, wherever its parts live: the same on any number of devices.
        found = zlib.crc32(np.ascontiguousarray(processes.whole(leaf)).tobytes(), found)
    return np.asarray(found, np.uint32)
