import json
import math

import numpy as np
import pytest
import xarray as xr

from truncated_weights.experiments.phase_diagram import measure as phase_map
from truncated_weights.experiments.phase_diagram.settings import PhaseDiagram
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.program import Place
from truncated_weights.theory import memory_spectrum
from truncated_weights.training.records import Records

CONFIG = PhaseDiagram(
    times=(5.0, 500.0), max_inputs=8, resolution=6, points=4, step_size=0.1, seed=1
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("phase") / "run"
    assert study.run(phase_map.STUDY, CONFIG, Place("phase_diagram", str(out))) == 0
    return RunDirectory(out), json.loads((out / "summary.json").read_text())


def test_trained_points_lie_on_their_side_of_the_predicted_boundary(finished):
    directory, summary = finished
    assert summary["disagree"] == 0
    assert summary["points"] == 8
    assert max(summary["t0/largest_error"], summary["t1/largest_error"]) < 0.05
    sides = directory.read_records().points.measured > 0
    assert sides.any()
    assert not sides.all()


def test_the_map_is_the_prediction(finished):
    directory, _ = finished
    here = directory.read_records().map.log_ratio.sel(time=500.0).isel(num_inputs=2, alpha=3)
    values = memory_spectrum.singular_values(
        int(here.num_inputs), float(here.alpha), np.array([500.0])
    )
    assert float(here) == pytest.approx(np.log(values.noise / values.signal)[0])
    assert (directory.path / "figures" / "phase_diagram.png").stat().st_size > 10_000
    lines = (directory.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]


def test_an_interrupted_run_trains_only_what_is_missing(finished, monkeypatch):
    directory, summary = finished
    # One group was not trained yet, and of another the file is damaged.
    kept = sorted(directory.checkpoints.glob("up_to_*.nc"))
    assert len(kept) == 3
    kept[0].unlink()
    damaged = kept[1]
    damaged.write_bytes(damaged.read_bytes()[:-7])
    trained = []
    real = phase_map.train
    monkeypatch.setattr(
        phase_map, "train", lambda *rest: (trained.append(rest[0].max()), real(*rest))[1]
    )
    plan = phase_map.prepare(CONFIG)
    records = phase_map.measure(plan, RunDirectory(directory.path, owned=["checkpoints/"]))
    assert phase_map.summarise(plan, records) == summary
    assert len(trained) == 2


def test_a_point_on_the_wrong_side_is_counted():
    axes = {"num_inputs": [2, 3], "alpha": [0.1, 0.2], "time": [1.0]}
    measured, predicted = (("point", "time"), [[0.5], [-0.5], [0.01]]), [[0.4], [0.4], [-0.01]]
    records = Records(
        {
            "map": xr.Dataset({"log_ratio": (tuple(axes), np.ones((2, 2, 1)))}, axes),
            "points": xr.Dataset(
                {"measured": measured, "predicted": (("point", "time"), predicted)},
                {"time": [1.0]},
            ),
        }
    )
    found = phase_map.summarise(phase_map.prepare(CONFIG), records)
    assert (found["disagree"], found["undecided"]) == (1.0, 1.0)


@pytest.mark.parametrize("times", [(-1.0, 2.0), (math.inf,), (1e9,), (1.0, 1.0), ()])
def test_bad_times_are_named(times):
    with pytest.raises(ValueError, match="times is"):
        PhaseDiagram(times=times)


def test_the_program_answers_and_refuses(drive, tmp_path):
    tiny = ["--times=4,40", "--max_inputs=4", "--resolution=3", "--points=2"]
    runs = [
        [*tiny, f"--out={tmp_path / 'run'}"],
        [*tiny, f"--out={tmp_path / 'run'}"],
        ["--times=0"],
        ["--step_size=2", f"--out={tmp_path / 'never'}"],
        ["--points=many"],
    ]
    found = drive("phase_diagram", *runs)
    assert [run["code"] for run in found] == [0, 2, 2, 2, 2]
    assert "0 of 4 points disagree" in found[0]["out"]
    assert "holds a finished run" in found[1]["err"]
    assert found[2]["err"] == "error: flag --times=0: for 0.0: it must lie in [1e-06, 1e+07]\n"
    assert "--step_size=2" in found[3]["err"]
    assert "points" in found[4]["err"]
    assert not (tmp_path / "never").exists()
