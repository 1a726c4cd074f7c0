import csv

import numpy as np
import pytest

from experiments.plateau import experiment as program
from experiments.plateau.settings import Plateau
from experiments.run.directory import open_run
from experiments.run.program import Place
from theory import plateau
from toy import language, recall

CONFIG = Plateau(
    learning_rates=(0.01, 0.02),
    batch_sizes=(4,),
    momenta=(0.5,),
    num_tokens=5,
    length=8,
    d_model=4,
    settling=5,
    watched=48,
    num_seeds=1,
)


def task():
    return recall.make_task(language.zipf(CONFIG.num_tokens), alpha=CONFIG.alpha, length=8)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = open_run(Place("plateau", str(tmp_path_factory.mktemp("plateau") / "run")), CONFIG)
    return directory, program.run(CONFIG, task(), directory)


def test_every_cell_has_its_row_figure_and_arrays(finished):
    directory, summary = finished
    assert summary["cells"] == 2
    arrays = directory.read_arrays()
    for rate in CONFIG.learning_rates:
        series = arrays[f"batch4/rate{rate:g}/momentum0.5/drawn"]
        assert series.shape == (1, 48)
        row = next(r for r in summary["rows"] if r["rate"] == rate)
        assert row["drawn/deviation"] == pytest.approx(series.std(), rel=1e-6)
        assert row["edge"] == pytest.approx(3 / rate)
    with (directory.path / "plateau.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2
    assert (directory.path / "figures" / "plateau.png").stat().st_size > 10_000


def test_an_interrupted_run_watches_only_what_is_missing(finished, monkeypatch):
    directory, summary = finished
    (directory.path / "summary.json").unlink()
    monkeypatch.setattr(program, "_watch", None)
    assert program.run(CONFIG, task(), directory) == summary


def test_cells_that_follow_the_model_are_found_to(finished):
    """Series made by the autoregression itself, in place of a network's."""
    rng = np.random.default_rng(0)
    arrays = {}
    for size, rate, momentum in program.cells(CONFIG):
        curvatures, weights, labels = np.array([20.0, 60.0]), np.array([0.5, 0.1]), 50.0
        z, v, kept = np.zeros((200, 2)), np.zeros((200, 2)), []
        for _ in range(500):
            strike = np.sqrt(curvatures / labels) * rng.normal(size=(200, 2))
            v = momentum * v - rate * (curvatures * z + strike)
            z = z + v
            kept.append(0.5 + z @ np.sqrt(weights))
        series = np.array(kept[-48:]).T
        found = {"drawn": series, "fair": 0.0 * series} | {
            "sharpness": np.array([[60.0]]), "curvatures": curvatures[None],
            "weights": weights[None], "labels": np.array(labels),
        }  # fmt: skip
        name = program.cell_name(size, rate, momentum)
        arrays |= {f"{name}/{k}": x for k, x in found.items()}
    for row in program.compare(CONFIG, arrays):
        assert not row["beyond_edge"]
        assert row["labels/deviation"] == pytest.approx(row["modes/deviation"], rel=0.03)
        assert row["modes/correlation_gap"] < 0.03
        assert row["edge"] == plateau.edge_of_stability(row["rate"], row["momentum"])
