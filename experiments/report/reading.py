"""What a claim or a figure reads of a finished run: its summary, and any array at any step.

Beside the keys of summary.json these are known:

    mechanisms/recall/copy at the end         an array [records, seeds], mean over seeds
    models/clean/full/p_noise at step 4
    spectra/spectrum/1.fc_out/noise_share[0] at the end    of an array [records, seeds, ranks]
    story/test/<story/chosen>/p_the_change    a key whose part is the text under another key
    rows_of_table                             verify_theory's table.json
"""

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.run.directory import RunDirectory
from experiments.run.program import UserError, one_line
from training import seeds
from truncation.files import strict

ALONG = re.compile(r"(?P<name>.+?)(\[(?P<index>\d+)\])? at (the end|step (?P<step>\d+))")


class Found(Mapping[str, Any]):
    """A finished run, read; UserError where a file of it is missing or damaged."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._summary = strict.read(path / "summary.json")
            self.config = strict.read(path / "config.json")
            if not (isinstance(self._summary, dict) and isinstance(self.config["flags"], dict)):
                raise TypeError("no dictionary")
            if (table := path / "table.json").exists():
                self._summary["rows_of_table"] = strict.read(table)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is no finished run, or damaged: {one_line(error)}") from error

    @functools.cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """trajectory.npz, without the seeds that were lost."""
        return seeds.surviving(RunDirectory(self.path).read_arrays())

    def steps(self, name: str) -> np.ndarray:
        """The training steps of an array's records [records]: the nearest array called steps."""
        parts = name.split("/")
        for length in range(len(parts) - 1, -1, -1):
            if (found := "/".join((*parts[:length], "steps"))) in self.arrays:
                return self.arrays[found]
        raise KeyError(name)

    def curve(self, name: str) -> np.ndarray:
        """Mean over seeds [records, ...] of an array [records, seeds, ...], or [records]."""
        values = np.asarray(self.arrays[name], np.float64)
        return values if values.ndim < 2 else values.mean(axis=1)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of one of its .jsonl files; UserError where it is missing or damaged."""
        return RunDirectory(self.path).read_rows(name)

    def __getitem__(self, key: str) -> Any:
        if key in self._summary:
            return self._summary[key]
        filled = re.sub("<(.+?)>", lambda found: str(self._summary[found[1]]), key)
        if filled in self._summary:
            return self._summary[filled]
        values = self._seeds(filled.removesuffix("/sem"))
        if not filled.endswith("/sem"):
            return float(values.mean())
        if len(values) < 2:
            raise KeyError(key)
        return float(values.std(ddof=1) / np.sqrt(len(values)))

    def __contains__(self, key: object) -> bool:
        try:
            self[str(key)]
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._summary)

    def __len__(self) -> int:
        return len(self._summary)

    def _seeds(self, key: str) -> np.ndarray:
        """One number per seed [seeds]; KeyError where there is none."""
        found = ALONG.fullmatch(key)
        if found is None or found["name"] not in self.arrays:
            raise KeyError(key)
        values = np.asarray(self.arrays[found["name"]], np.float64)
        record = -1
        if found["step"] is not None:
            places = np.flatnonzero(self.steps(found["name"]) == int(found["step"]))
            if not places.size:
                raise KeyError(key)
            record = int(places[0])
        values = values[record]
        if found["index"] is not None:
            if int(found["index"]) >= values.shape[-1]:
                raise KeyError(key)
            values = values[..., int(found["index"])]
        return np.atleast_1d(values)
