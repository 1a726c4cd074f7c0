"""The training state on disk, by orbax: what an interrupted run continues from."""

from pathlib import Path
from types import TracebackType

import jax
import orbax.checkpoint as ocp

from mini_pythia.training import State


class StateStore:
    """Keeps the last two states of a run; a kill at any moment leaves whole states only.

    Used as a context manager, so that a save still in the background is finished.
    """

    def __init__(self, folder: Path) -> None:
        """Open or create the folder."""
        options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, state: State, step: int) -> None:
        """Start saving the state after `step` steps; returns before it is all on disk."""
        self._manager.save(step, args=ocp.args.StandardSave(state._asdict()))

    def restore(self, like: State) -> State | None:
        """The last state saved, with the shardings of `like`; None where there is none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        template = jax.tree.map(ocp.utils.to_shape_dtype_struct, like._asdict())
        return State(**self._manager.restore(step, args=ocp.args.StandardRestore(template)))

    @property
    def latest_step(self) -> int | None:
        """The step of the last state saved."""
        return self._manager.latest_step()

    def __enter__(self) -> "StateStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._manager.wait_until_finished()
        self._manager.close()
