"""A finished run as the claims, the pictures and the charts read it."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from truncated_weights.experiments.report.runs import PROGRAMS
from truncated_weights.experiments.run.directory import RunDirectory, settings_of
from truncated_weights.experiments.run.drawing.panel import Panel
from truncated_weights.experiments.run.program import UserError, one_line
from truncated_weights.training.records import Records, of_arrays
from truncated_weights.truncation.files import strict


class Found:
    """One run; UserError where a file of it is missing or damaged.

    summary: summary.json. config: config.json.
    """

    def __init__(self, path: Path):
        self.path, self._tables = path, dict[str, list[dict[str, Any]]]()
        try:
            self.summary = strict.read(path / "summary.json")
            self.config = strict.read(path / "config.json")
            if not (isinstance(self.summary, dict) and isinstance(self.config["flags"], dict)):
                raise TypeError("no dictionary")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is no finished run, or damaged: {one_line(error)}") from error

    @functools.cached_property
    def records(self) -> Records:
        """Its blocks of labelled arrays, without the seeds that were lost."""
        directory = RunDirectory(self.path)
        found = directory.read_records()
        if not found and self.config.get("program") == "noisy_recall":
            # As version 0.1 left them.
            flags = self.config["flags"]
            seeds = range(flags["seed"], flags["seed"] + flags["num_seeds"])
            found = of_arrays(directory.read_arrays(), seeds)
        return found.surviving()

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of one of its tables, NAME.json or .jsonl; UserError where it is damaged."""
        if name not in self._tables:
            file = self.path / name
            try:
                rows = strict.read(file) if file.suffix == ".json" else strict.lines(file)
                if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
                    raise TypeError("no table")
            except (OSError, ValueError, TypeError) as error:
                raise UserError(f"{file} is missing or damaged: {one_line(error)}") from error
            self._tables[name] = rows
        return self._tables[name]

    def panels(self) -> Sequence[Panel]:
        """Every panel that its program draws of it; none where the program has no study."""
        program = PROGRAMS[self.config["program"]]
        draw = program.study().figures if program.study else None
        if draw is None:
            return ()
        settings = settings_of(self.path, program.name, program.settings)
        figures = draw(settings, self.records)
        # One panel may stand in several figures.
        shown = [panel for figure in figures for panel in figure.panels if panel is not None]
        return list({panel.name: panel for panel in shown}.values())
