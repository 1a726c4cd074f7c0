import json
import math

import numpy as np
import pytest

from experiments.phase_diagram import experiment as phase_map
from experiments.phase_diagram.settings import PhaseDiagram
from experiments.run import directory as run_directory
from experiments.run.program import Place
from theory import memory_spectrum


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    config = PhaseDiagram(
        times=(5.0, 500.0), max_inputs=8, resolution=6, points=4, step_size=0.1, seed=1
    )
    out = tmp_path_factory.mktemp("phase") / "run"
    directory = run_directory.open_run(Place("phase_diagram", str(out)), config)
    return config, directory, phase_map.run(config, directory)


def test_trained_points_lie_on_their_side_of_the_predicted_boundary(finished):
    _, directory, summary = finished
    assert summary["disagree"] == 0
    assert summary["points"] == 8
    assert max(summary["t0/largest_error"], summary["t1/largest_error"]) < 0.05
    arrays = directory.read_arrays()
    sides = arrays["points/measured"] > 0
    assert sides.any()
    assert not sides.all()


def test_the_map_is_the_prediction(finished):
    _, directory, _ = finished
    arrays = directory.read_arrays()
    size, alpha = arrays["map/num_inputs"][2], arrays["map/alpha"][3]
    values = memory_spectrum.singular_values(int(size), float(alpha), np.array([500.0]))
    expected = np.log(values.noise / values.signal)[0]
    assert arrays["map/log_ratio"][2, 3, 1] == pytest.approx(expected)
    assert (directory.path / "figures" / "phase_diagram.png").stat().st_size > 10_000
    lines = (directory.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]


def test_an_interrupted_run_trains_only_what_is_missing(finished, monkeypatch):
    config, directory, summary = finished
    # One group was not trained yet, and of another the file is damaged.
    kept = sorted(directory.checkpoints.glob("up_to_*.npz"))
    assert len(kept) == 3
    kept[0].unlink()
    damaged = kept[1]
    damaged.write_bytes(damaged.read_bytes()[:-7])
    (directory.path / "summary.json").unlink()
    trained = []
    real = phase_map.train
    monkeypatch.setattr(
        phase_map, "train", lambda *rest: (trained.append(rest[0].max()), real(*rest))[1]
    )
    assert phase_map.run(config, directory) == summary
    assert len(trained) == 2


def test_a_point_on_the_wrong_side_is_counted():
    arrays = {
        "times": np.array([1.0]),
        "map/log_ratio": np.ones((2, 2, 1)),
        "points/measured": np.array([[0.5], [-0.5], [0.01]]),
        "points/predicted": np.array([[0.4], [0.4], [-0.01]]),
    }
    found = phase_map.summarise(arrays)
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
