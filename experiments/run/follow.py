"""Training into a run directory: continue, record, save, stop when asked; the same for every model.

What was measured is kept with every checkpoint, so that an interrupted run that continues writes
the files of an uninterrupted one, to the bit.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from experiments.run import stop
from experiments.run.directory import RunDirectory
from experiments.run.program import RunFailedError, UserError
from experiments.run.progress import Progress
from experiments.run.trajectory import Trajectory
from training import loop
from training.checkpoint import CheckpointError, Store
from training.loop import Measurement, NonFiniteError, Record, State, Trainer


def follow(
    trainer: Trainer,
    measurements: Sequence[Measurement],
    directory: RunDirectory,
    *,
    num_steps: int,
    checkpoint_steps: Iterable[int],
    show: Callable[[Record], dict[str, float]],
) -> tuple[dict[str, np.ndarray], State]:
    """Train to the end, from the last checkpoint where there is one.

    show: the figures of a record that the progress line tells; empty shows none. Returns the
    arrays of trajectory.npz, which the caller may add to before writing them, and the last state.
    Raises UserError where what an interrupted run left cannot be continued, RunFailedError where
    training leaves the finite numbers.
    """
    saves = frozenset(checkpoint_steps)
    directory.own("checkpoints/")
    store = Store(directory.checkpoints)
    done = store.steps()[-1] if store.steps() else 0
    before = directory.read_arrays() if store.steps() else None
    if before == {}:
        raise UserError(f"{directory.path} has checkpoints but no trajectory.npz; add --overwrite")
    trajectory = Trajectory(before)
    trajectory.cut(done)
    directory.rewrite_metrics(trajectory.lines())
    progress = Progress(num_steps, start=done)
    try:
        for record in loop.run(
            trainer, measurements, num_steps=num_steps, checkpoint_steps=saves, store=store
        ):
            stop.check()
            trajectory.add(record)
            directory.append_metrics(trajectory.line(record.step))
            if record.step in saves:
                directory.write_arrays(trajectory.arrays())
            if figures := show(record):
                progress.update(record.step, **figures)
    except NonFiniteError as error:
        last = store.steps()[-1] if store.steps() else "none"
        raise RunFailedError(
            f"{error}; the last good checkpoint is {last} in {directory.checkpoints.name}/"
        ) from error
    except CheckpointError as error:
        raise UserError(f"--out={directory.path}: {error}; --overwrite begins again") from error
    finally:
        progress.close()
        store.wait()
    state = store.restore(trainer.abstract())
    if state is None:
        raise RunFailedError(f"{directory.checkpoints} vanished while the run was going on")
    return trajectory.arrays(), state
