"""Record the runs of a report as tests/data/report: of each only what the page reads.

    python -m experiments.report --quick --out=report
    python -m tests.experiments.report.record report

Run it again when a claim or a picture reads something new; the test of the recorded runs says so.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np

from experiments.report import execute, page, verdicts
from experiments.report.claims import SUBJECTS
from experiments.report.plan import plan
from experiments.report.reading import Found
from experiments.report.runs import RUNS

DATA = Path(__file__).parents[2] / "data" / "report"


class Watched(dict):
    """A dictionary that knows which of its keys were read."""

    def __init__(self, values):
        super().__init__(values)
        self.read = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        return self[key] if key in self.keys() else default


class Watching(Found):
    """A run whose summary and arrays are watched."""

    def __init__(self, path):
        super().__init__(path)
        self._summary = Watched(self._summary)
        # A cached property: this stands in its place.
        self.__dict__["arrays"] = Watched(self.arrays) if (path / "trajectory.npz").exists() else {}

    def write(self, folder):
        folder.mkdir(parents=True)
        numbers = {key: self._summary[key] for key in self._summary if key in self._summary.read
                   and key != "rows_of_table"}  # fmt: skip
        (folder / "summary.json").write_text(json.dumps(numbers, indent=0) + "\n")
        config = json.dumps(self.config, indent=0)
        (folder / "config.json").write_text(config + "\n")
        if arrays := {key: self.arrays[key] for key in sorted(getattr(self.arrays, "read", ()))}:
            single = {k: v.astype(np.float32) if v.dtype == np.float64 else v
                      for k, v in arrays.items()}  # fmt: skip
            np.savez_compressed(folder / "trajectory.npz", **single)
        for name in ("table.json", "dynamics.jsonl"):
            if (self.path / name).exists():
                shutil.copyfile(self.path / name, folder / name)


def main(report: Path) -> None:
    plans = [plan(SUBJECTS, RUNS, report / "runs", quick=quick) for quick in (True, False)]
    planned, done = execute.look(*plans)
    # What needs a text or weights is not repeated from a clone alone.
    found = {
        name: Watching(one.path)
        for name, one in planned.items()
        if done[name].finished and not one.run.asks()
    }
    judged = verdicts.judge(SUBJECTS, done, found)
    told = page.Report(SUBJECTS, judged, planned, done, found, "record")
    page.build(told, page.drawn(told))
    shutil.rmtree(DATA, ignore_errors=True)
    for name, run in found.items():
        run.write(DATA / name)
        seconds = report / "runs" / f"{name}.json"
        if seconds.exists():
            shutil.copyfile(seconds, DATA / seconds.name)
    size = sum(file.stat().st_size for file in DATA.rglob("*") if file.is_file())
    print(f"{len(found)} runs, {size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
