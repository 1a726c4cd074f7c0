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
import xarray as xr

from truncated_weights.experiments.report import execute, page, verdicts
from truncated_weights.experiments.report.pictures import pictures
from truncated_weights.experiments.report.plan import plan
from truncated_weights.experiments.report.reading import Found
from truncated_weights.experiments.report.runs import RUNS
from truncated_weights.experiments.report.subjects import SUBJECTS
from truncated_weights.training import records

DATA = Path(__file__).parents[2] / "data" / "report"


# Large blocks that no claim and no picture of the page reads, and runs of which one is enough.
UNREAD = {"mini_dynamics": ("scores",), "mini_cuts": ("scores",), "sweep": ("spectra",)}
ALONE = {"theory": ("table",)}


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
    """A run whose summary is watched."""

    def __init__(self, path):
        super().__init__(path)
        self.summary = Watched(self.summary)

    def write(self, folder):
        folder.mkdir(parents=True)
        numbers = {key: self.summary[key] for key in self.summary if key in self.summary.read}
        (folder / "summary.json").write_text(json.dumps(numbers, indent=0) + "\n")
        (folder / "config.json").write_text(json.dumps(self.config, indent=0) + "\n")
        if self.records:
            kept = {k: v for k, v in self.records.items() if k not in UNREAD.get(folder.name, ())}
            if folder.name in ALONE:
                kept = {k: self.records[k] for k in ALONE[folder.name]}
            lean_records = records.Records({k: lean(k, v) for k, v in kept.items()})
            (folder / records.FILE).write_bytes(records.encoded(lean_records))
        for name in self._tables:
            shutil.copyfile(self.path / name, folder / name)


def lean(block: str, data: xr.Dataset) -> xr.Dataset:
    """What figures and claims read of a block, in single precision."""
    if block == "spectra" and "noise_share" in data:
        shown = [m for m in ("1.fc_in", "1.fc_out", "1.ov") if m in data.matrix]
        data = data[["singular_values", "noise_share"]].sel(matrix=shown)
    if block in ("models", "final"):
        read = ("p_", "loss", "accuracy", "attention_correct", "attention_noise",
                "attention_previous", "margin", "first_bad")  # fmt: skip
        data = data[[v for v in data if str(v).startswith(read)]]
    used = [d for d in data.coords if any(d in data[v].coords for v in data)]
    data = data[list(data)].drop_vars([d for d in data.coords if d not in used])
    return data.map(lambda v: v.astype(np.float32) if v.dtype == np.float64 else v, keep_attrs=True)


def main(report: Path) -> None:
    plans = [
        plan(SUBJECTS, RUNS, report / "runs", quick=quick, package="m") for quick in (True, False)
    ]
    planned, done = execute.look(*plans)
    # What needs a user's own weights is not repeated from a clone alone.
    found = {
        name: Watching(one.path)
        for name, one in planned.items()
        if done[name].finished and "model" not in one.run.asks()
    }
    judged = verdicts.judge(SUBJECTS, done, found)
    told = page.Report(SUBJECTS, judged, planned, done, found, "record")
    page.build(told, pictures(SUBJECTS, found))
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
