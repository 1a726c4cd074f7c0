"""Training into a run directory: continue, record, save, stop when asked; the same for every model.

What was measured is kept with every checkpoint, so that an interrupted run that continues writes
the files of an uninterrupted one: to the bit on the same device with the same number of cores and
flags of XLA, which otherwise take sums in another order.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from experiments.run import stop
from experiments.run.directory import RunDirectory
from experiments.run.program import RunFailedError, UserError
from experiments.run.progress import Part, Progress, say
from training import loop, seeds
from training.checkpoint import CheckpointError, Store
from training.loop import Measurement, NonFiniteError, Record, State, Trainer
from training.trajectory import Trajectory


class AllLostError(RunFailedError):
    """Every run left the finite numbers; arrays: what was recorded until then."""

    def __init__(self, message: str, arrays: dict[str, np.ndarray]):
        super().__init__(message)
        self.arrays = arrays


def follow(
    trainer: Trainer,
    measurements: Sequence[Measurement],
    directory: RunDirectory,
    *,
    checkpoint_steps: Iterable[int],
    show: Callable[[Record], dict[str, float]],
    store: Store | None = None,
    before_save: Callable[[int, State], Any] = lambda step, state: None,
    start: Callable[[], State] | None = None,
    part: str = "",
    progress: Part | None = None,
) -> tuple[dict[str, np.ndarray], State]:
    """Train to the end, from the last checkpoint where there is one.

    show: the figures of a record that the progress line tells; empty shows none.
    store: by default the run's checkpoints/. before_save: called with every state that is stored,
    after the records. start: where to begin instead of trainer.init(). part: the name under which
    the records are kept where this is one of several trainings of a program, which then writes
    metrics.jsonl and trajectory.npz itself. progress: what to tell instead of a bar of its own.
    Returns the arrays of trajectory.npz, with first_bad of training/seeds.py, which the caller may
    add to before writing them, and the last state. Raises UserError where what an interrupted run
    left cannot be continued, AllLostError where every run left the finite numbers, Interrupted
    where a signal asked to stop; the state is stored then.
    """
    directory.own("checkpoints/")
    store = store or Store(directory.checkpoints)
    done = store.steps()[-1] if store.steps() else 0
    name = f"checkpoints/{part}.npz" if part else "trajectory.npz"
    before = directory.read_arrays(name) if store.steps() else None
    if before == {}:
        raise UserError(f"{directory.path} has checkpoints but no {name}; add --overwrite")
    trajectory = Trajectory({k: v for k, v in (before or {}).items() if k != seeds.FIRST_BAD})
    trajectory.cut(done)
    if not part:
        directory.rewrite_metrics(trajectory.lines())
    told = progress or Progress(trainer.num_steps).part(0, 1)
    told.skip(done)
    lost: set[int] = set()

    def report(record: Record) -> None:
        trajectory.add(record)
        if not part:
            directory.append_metrics(trajectory.line(record.step))
        if figures := show(record):
            told.update(record.step, **figures)
        for index in map(int, np.flatnonzero(record.first_bad >= 0)):
            if index not in lost:
                lost.add(index)
                step, seed = record.first_bad[index], trainer.seeds[index]
                say(f"seed {seed} left the finite numbers at step {step}; the others go on")

    def put_away(step: int, state: State) -> None:
        directory.write_arrays(trajectory.arrays(), name)
        before_save(step, state)

    try:
        end = loop.run(
            trainer,
            measurements,
            report=report,
            store=store,
            checkpoint_steps=checkpoint_steps,
            before_save=put_away,
            should_stop=stop.asked,
            tick=told.tick,
            start=start() if start is not None and before is None else None,
        )
    except NonFiniteError as error:
        # What led there is there to be looked at.
        arrays = trajectory.arrays() | {seeds.FIRST_BAD: error.first_bad}
        directory.write_arrays(arrays, name)
        last = store.steps()[-1] if store.steps() else "none"
        raise AllLostError(
            f"{error}; the last good checkpoint is {last} in {store.path.name}/", arrays
        ) from error
    except CheckpointError as error:
        raise UserError(f"--out={directory.path}: {error}; --overwrite begins again") from error
    finally:
        if progress is None:
            told.close()
    if end.stopped:
        # Perhaps it was another process of this run that was asked to stop.
        raise stop.Interrupted
    first_bad = np.asarray(trainer.gather(end.state.first_bad))
    return trajectory.arrays() | {seeds.FIRST_BAD: first_bad}, end.state
