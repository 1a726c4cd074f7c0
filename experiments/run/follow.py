"""Training into a run directory: continue, record, save, stop when asked; the same for every model.

What was measured is kept with every checkpoint, so that an interrupted run that continues writes
the files of an uninterrupted one: to the bit on the same device with the same number of cores and
flags of XLA, which otherwise take sums in another order.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from truncated_weights.experiments.run import stop
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.program import RunFailedError, UserError
from truncated_weights.experiments.run.progress import Part, Progress, say
from truncated_weights.training import loop
from truncated_weights.training.checkpoint import CheckpointError, Store
from truncated_weights.training.loop import Measurement, NonFiniteError, Record, State, Trainer
from truncated_weights.training.records import FILE, Recorder, Records


class AllLostError(RunFailedError):
    """Every run left the finite numbers; records: what was measured until then."""

    def __init__(self, message: str, records: Records):
        super().__init__(message)
        self.records = records


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
) -> tuple[Records, State]:
    """Train to the end, from the last checkpoint where there is one.

    show: the figures of a record that the progress line tells; empty shows none.
    store: by default the run's checkpoints/. before_save: called with every state that is stored,
    after the records. start: where to begin instead of trainer.init(). part: the name under which
    the records are kept where this is one of several trainings of a program, which then writes
    metrics.jsonl and records.nc itself. progress: what to tell instead of a bar of its own.
    Returns the records, which the caller may add to before writing them, and the last state.
    Raises UserError where what an interrupted run left cannot be continued, AllLostError where
    every run left the finite numbers, Interrupted where a signal asked to stop; the state is
    stored then.
    """
    directory.own("checkpoints/")
    store = store or Store(directory.checkpoints)
    done = store.steps()[-1] if store.steps() else 0
    name = f"checkpoints/{part}.nc" if part else FILE
    before = directory.read_records(name) if store.steps() else None
    if before is not None and not before:
        raise UserError(f"{directory.path} has checkpoints but no {name}; add --overwrite")
    # A run killed at its very end also has what it measured then, which is measured again.
    along = {"train", *(one.name for one in measurements)}
    recorder = Recorder(trainer.seeds, {b: x for b, x in (before or {}).items() if b in along})
    recorder.cut(done)
    if not part:
        directory.rewrite_metrics(recorder.lines())
    told = progress or Progress(trainer.num_steps).part(0, 1)
    told.skip(done)
    lost: set[int] = set()

    def report(record: Record) -> None:
        recorder.add(record)
        if not part:
            directory.append_metrics(recorder.line(record.step))
        if figures := show(record):
            told.update(record.step, **figures)
        for index in map(int, np.flatnonzero(record.first_bad >= 0)):
            if index not in lost:
                lost.add(index)
                step, seed = record.first_bad[index], trainer.seeds[index]
                say(f"seed {seed} left the finite numbers at step {step}; the others go on")

    def put_away(step: int, state: State) -> None:
        directory.write_records(recorder.records(), name)
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
        recorder.lose(error.first_bad)
        directory.write_records(recorder.records(), name)
        last = store.steps()[-1] if store.steps() else "none"
        raise AllLostError(
            f"{error}; the last good checkpoint is {last} in {store.path.name}/", recorder.records()
        ) from error
    except CheckpointError as error:
        raise UserError(f"--out={directory.path}: {error}; --overwrite begins again") from error
    finally:
        if progress is None:
            told.close()
    if end.stopped:
        # Perhaps it was another process of this run that was asked to stop.
        raise stop.Interrupted
    return recorder.records(), end.state
