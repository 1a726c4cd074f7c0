"""What is written while the small Pythia trains: measurements, checkpoints, progress."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

import bridge
from bridge import export
from experiments.run.directory import RunDirectory
from experiments.run.program import RunFailedError, UserError
from experiments.run.progress import Progress
from experiments.train_mini_pythia.setup import Setup
from mini_pythia.measure import by_task, measure, tokenize_prompts
from mini_pythia.store import StateStore
from mini_pythia.training import State

# Before this step starting over is as quick as continuing.
FIRST_STORED_STEP = 64


class Recorder:
    """Measures and saves at the stops, each while the device is already past it.

    `records` holds a flat dictionary per stop: the step, the mean training loss since the
    stop before, and TASK/FIGURE, means over the recorded prompts.
    """

    def __init__(self, setup: Setup, directory: RunDirectory, store: StateStore, step: int):
        """Keep the records of an earlier run up to `step`; those beyond will be made again."""
        self._setup, self._directory, self._store = setup, directory, store
        self._prompts = tokenize_prompts(setup.record_prompts, setup.tokenizer)
        self._pending: tuple[int, State, Mapping[str, jax.Array]] | None = None
        self._progress = Progress(setup.config.steps, start=step)
        self.records: list[dict[str, Any]] = []
        if step:
            if (kept := directory.kept("records")) is None:
                raise UserError(f"--out={directory.path}: the records are lost; add --overwrite")
            self.records = [record for record in kept[1] if record["step"] <= step]
        directory.rewrite_metrics(self.records)

    def stop(self, step: int, state: State) -> None:
        """Ask for the measurements of this stop, and write those of the stop before it."""
        prompts = self._prompts
        figures = measure(state.params, self._setup.model, prompts.batch, prompts.the)
        previous, self._pending = self._pending, (step, state, figures)
        if previous is not None:
            self._write(*previous)

    def finish(self) -> None:
        """Write the last stop."""
        if self._pending is not None:
            self._write(*self._pending)
        self._progress.close()

    def _write(self, step: int, state: State, figures: Mapping[str, jax.Array]) -> None:
        since = self.records[-1]["step"] if self.records else 0
        losses = np.asarray(state.losses)[since:step]
        self._require_finite(losses, since)
        record: dict[str, Any] = {"step": step}
        if step > since:
            record["loss"] = float(losses.mean(dtype=np.float64))
        for task, values in by_task(figures, self._prompts.slices).items():
            for name, value in values.items():
                record[f"{task}/{name}"] = float(value.mean(dtype=np.float64))
        self.records.append(record)
        self._directory.append_metrics(record)
        if step in self._setup.checkpoints:
            self._save(step, state)
        self._progress.update(
            step,
            loss=record.get("loss", float("nan")),
            p_the=record["story/p_the"],
            p_name=record["story/p_answer"],
        )

    def _require_finite(self, losses: np.ndarray, since: int) -> None:
        finite = np.isfinite(losses)
        if not finite.all():
            kept = self._store.latest_step
            raise RunFailedError(
                f"the loss of step {since + int(np.argmin(finite)) + 1} is not finite; the last "
                f"good checkpoint is {'none' if kept is None else f'step{kept}'} in "
                f"{self._directory.checkpoints.name}/"
            )

    def _save(self, step: int, state: State) -> None:
        folder = self._directory.checkpoints
        checkpoint = bridge.Checkpoint(
            config=self._setup.model, params=jax.device_get(state.params), directory=folder
        )
        export.save(checkpoint, folder / f"step{step}", dtype="float32", overwrite=True)
        if step >= FIRST_STORED_STEP:
            # Before the state: who continues from a state finds every record up to it.
            self._directory.keep("records", {}, self.records)
            self._store.save(state, step)
