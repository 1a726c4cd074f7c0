import csv
import dataclasses
import json

import numpy as np
import pytest
import xarray as xr

from tests.experiments.drawn import require_drawn
from truncated_weights.experiments.plateau import measure as program
from truncated_weights.experiments.plateau.compare import axes, compare, grid
from truncated_weights.experiments.plateau.settings import Plateau
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.parts import on_grid
from truncated_weights.experiments.run.program import Place, RunFailedError
from truncated_weights.theory import plateau
from truncated_weights.training.records import Records

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


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("plateau") / "run"
    study.run(program.STUDY, CONFIG, Place("plateau", str(out)))
    return RunDirectory(out), json.loads((out / "summary.json").read_text())


def test_every_cell_has_its_row_figures_and_series(finished):
    directory, summary = finished
    assert summary["cells"] == 2
    records = directory.read_records()
    with (directory.path / "plateau.csv").open() as file:
        rows = {float(row["rate"]): row for row in csv.DictReader(file)}
    assert list(rows) == list(CONFIG.learning_rates)
    for rate in CONFIG.learning_rates:
        cell = {"batch": 4, "rate": rate, "momentum": 0.5}
        series = records.watched.p_noise.sel(kind="drawn", **cell)
        np.testing.assert_array_equal(series.step, np.arange(6, 54))
        assert series.sizes["seed"] == 1
        found = records.cells.sel(cell)
        assert float(found.deviation.sel(kind="drawn")) == pytest.approx(
            float(series.std()), rel=1e-6
        )
        assert float(found.edge) == pytest.approx(3 / rate)
        deviation = summary[f"batch4/rate{rate:g}/momentum0.5/drawn/deviation"]
        assert deviation == float(found.deviation.sel(kind="drawn"))
        assert deviation == float(rows[rate]["drawn/deviation"])
    for name in ("plateau", "watched"):
        assert (directory.path / "figures" / f"{name}.png").stat().st_size > 10_000


def test_an_interrupted_run_watches_only_what_is_missing(finished, monkeypatch):
    directory, summary = finished
    monkeypatch.setattr(program, "watch", pytest.fail)
    plan = program.prepare(CONFIG)
    records = program.measure(plan, RunDirectory(directory.path, owned=["checkpoints/"]))
    assert program.summarise(plan, records) == summary


def made(config, series, curvatures, weights, labels):
    """Block `watched` whose cells have these p_noise [kind, step, seed], and modes alike."""
    found = []
    for p_noise in series:
        every = np.ones((p_noise.shape[-1], 2, 1))
        every[np.isnan(p_noise).any(axis=(0, 1))] = np.nan
        found.append(
            xr.Dataset(
                {
                    "p_noise": (("kind", "step", "seed"), p_noise),
                    "sharpness": (("seed", "end"), max(curvatures) * every[..., 0]),
                    "curvature": (("seed", "end", "mode"), every * curvatures),
                    "weight": (("seed", "end", "mode"), every * weights),
                },
                {
                    "kind": list(config.kinds),
                    "step": config.settling + np.arange(1, p_noise.shape[1] + 1),
                    "seed": np.arange(p_noise.shape[-1]),
                },
            )
        )
    sizes = ("batch", np.full(len(config.batch_sizes), labels))
    return on_grid(found, axes(config)).assign(labels=sizes)


def test_cells_that_follow_the_model_are_found_to():
    """Series made by the autoregression itself, in place of a network's."""
    rng = np.random.default_rng(0)
    curvatures, weights, labels = np.array([20.0, 60.0]), np.array([0.5, 0.1]), 50.0
    series = []
    for _, rate, momentum in grid(CONFIG):
        z, v, kept = np.zeros((200, 2)), np.zeros((200, 2)), []
        for _ in range(500):
            strike = np.sqrt(curvatures / labels) * rng.normal(size=(200, 2))
            v = momentum * v - rate * (curvatures * z + strike)
            z = z + v
            kept.append(0.5 + z @ np.sqrt(weights))
        drawn = np.array(kept[-48:])
        series.append(np.stack([drawn, 0.0 * drawn]))
    cells = compare(CONFIG, made(CONFIG, series, curvatures, weights, labels))
    for _, rate, momentum in grid(CONFIG):
        here = cells.sel(batch=4, rate=rate, momentum=momentum)
        assert not here.beyond_edge
        by_labels, by_modes = (float(here.deviation.sel(kind=k)) for k in ("labels", "modes"))
        assert by_labels == pytest.approx(by_modes, rel=0.03)
        assert here.correlation_gap.sel(kind="modes") < 0.03
        assert here.edge == plateau.edge_of_stability(rate, momentum)


@pytest.mark.fault("B3")
@pytest.mark.parametrize("gone", [(0, 2), (0, 1, 3), (0, 1, 2, 3)], ids=["2", "3", "all of one"])
def test_cells_are_of_the_seeds_that_were_not_lost(gone):
    config = dataclasses.replace(CONFIG, num_seeds=4, watched=64)
    plan = program.prepare(config)
    series = 0.5 + 0.02 * np.random.default_rng(0).standard_normal((2, 2, 64, 4))
    series[1][..., list(gone)] = np.nan
    watched = made(config, series, np.array([5.0]), np.array([1e-4]), 12.0)
    records = Records({"watched": watched, "cells": compare(config, watched)})
    assert records.cells.seeds.values.ravel().tolist() == [4, 4 - len(gone)]
    assert records.cells.seeds_lost.values.ravel().tolist() == [0, len(gone)]
    kept = [seed for seed in range(4) if seed not in gone]
    if kept:
        found = records.cells.deviation.sel(batch=4, rate=0.02, momentum=0.5, kind="drawn")
        assert float(found) == pytest.approx(
            np.sqrt(series[1][0][:, kept].var(axis=0).mean()), rel=1e-9
        )
    require_drawn(program.figures.figures(config, records))
    summary = program.summarise(plan, records)
    json.dumps(summary, allow_nan=False)
    assert (summary["cells"], summary["seeds"], summary["seeds_lost"]) == (
        2, 8 - len(gone), len(gone),
    )  # fmt: skip
    watched = made(config, np.nan * series, np.array([5.0]), np.array([1e-4]), 12.0)
    nothing = Records({"watched": watched, "cells": compare(config, watched)})
    assert not list(program.figures.figures(config, nothing))
    with pytest.raises(RunFailedError, match="all seeds of all 2 cells"):
        program.summarise(plan, nothing)


@pytest.mark.fault("B3")
@pytest.mark.thorough
def test_studies_where_some_or_all_is_lost(drive, tmp_path):
    small = ["--num_tokens=5", "--length=8", "--num_seeds=2", "--d_model=4", "--batch_sizes=4",
             "--momenta=0.5", "--settling=12", "--watched=48"]  # fmt: skip
    some, every = (f"--out={tmp_path / word}" for word in ("some", "all"))
    (ended,) = drive("plateau", [*small, "--learning_rates=0.02,100", some])
    assert ended["code"] == 0, ended["err"]
    assert "0 of 2" in ended["out"]
    (ended,) = drive("plateau", [*small, "--learning_rates=100", every])
    assert ended["code"] == 1
    assert "left the finite numbers; lower --learning_rates" in ended["err"].splitlines()[-1]
    assert (tmp_path / "all" / "records.nc").exists()
    assert not (tmp_path / "all" / "summary.json").exists()
