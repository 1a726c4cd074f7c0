"""Records along training, kept as arrays: what trajectory.npz holds and figures are drawn from.

Arrays are named GROUP/NAME and have leading axes [records, seeds]; GROUP/steps [records] says
when. Groups are measured at different steps.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from training.loop import Record


class Trajectory:
    """Grows by one record at a time; can be cut back to an earlier step."""

    def __init__(self, arrays: Mapping[str, np.ndarray] | None = None):
        self._columns: dict[str, list[np.ndarray]] = {
            name: list(values) for name, values in (arrays or {}).items()
        }

    def add(self, record: Record) -> None:
        """Append what one record measured, each group at its own step."""
        groups = {**record.measured, "train": {"loss": record.loss}}
        for group, values in groups.items():
            self._columns.setdefault(f"{group}/steps", []).append(np.asarray(record.step))
            for name, value in values.items():
                self._columns.setdefault(f"{group}/{name}", []).append(np.asarray(value))

    def cut(self, step: int) -> None:
        """Forget everything after a step."""
        for group in self._groups():
            kept = [i for i, s in enumerate(self._columns[f"{group}/steps"]) if s <= step]
            for name in [n for n in self._columns if n.split("/", 1)[0] == group]:
                self._columns[name] = [self._columns[name][i] for i in kept]

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, stacked."""
        return {name: np.stack(values) for name, values in self._columns.items() if values}

    def lines(self) -> Iterator[dict[str, Any]]:
        """The flat scalar records of metrics.jsonl, in order of steps."""
        steps = sorted({int(s) for g in self._groups() for s in self._columns[f"{g}/steps"]})
        for step in steps:
            yield self.line(step)

    def line(self, step: int) -> dict[str, Any]:
        """All scalars of one step, averaged over the runs whose value is finite.

        seeds_lost: how many have no loss any more, where some have one.
        """
        line: dict[str, Any] = {"step": step}
        for group in self._groups():
            times = [int(s) for s in self._columns[f"{group}/steps"]]
            if step not in times:
                continue
            index = times.index(step)
            for name, values in self._columns.items():
                if name.startswith(f"{group}/") and name != f"{group}/steps":
                    value = values[index]
                    finite = value[np.isfinite(value)] if value.ndim == 1 else value[:0]
                    if finite.size:
                        label = name if group == "train" else name.split("/", 1)[1]
                        line[label] = float(np.mean(finite))
                        if name == "train/loss" and finite.size < value.size:
                            line["seeds_lost"] = int(value.size - finite.size)
        return line

    def _groups(self) -> list[str]:
        return sorted(n.rsplit("/", 1)[0] for n in self._columns if n.endswith("/steps"))
