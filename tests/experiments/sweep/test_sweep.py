"""A small sweep: every run is the run alone, numbers compile nothing, kept groups are kept."""

import csv
import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.experiments.run import directory as run_directory
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.program import Place
from truncated_weights.experiments.sweep import measure, plan
from truncated_weights.experiments.sweep.settings import SETTINGS
from truncated_weights.toy import recall
from truncated_weights.toy.setup import build
from truncated_weights.training.records import name

pytestmark = pytest.mark.xdist_group("sweep")

STEPS = 6
CONFIG = SETTINGS(
    num_tokens=(5, 7), length=(10,), d_model=(6,), batch_size=(4,), steps=(STEPS,),
    feed_forward=("linear",), interventions=("0.fc_in@0",), alpha=(0.5, 0.2), num_seeds=2,
    learning_rate=(0.3,), eval_batch=8, devices=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def groups():
    return plan.group(plan.expand(CONFIG), jax.devices()[:1])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, groups):
    out = tmp_path_factory.mktemp("sweep") / "run"
    whole = dataclasses.replace(measure.STUDY, prepare=lambda config: plan.Plan(config, groups))
    study.run(whole, CONFIG, Place("sweep", str(out)))
    return run_directory.RunDirectory(out)


def test_a_run_of_many_is_the_run_alone(finished, groups):
    """Data exactly, weights and records to rounding; the second shape, the last of its runs."""
    run = groups[1].runs[-1]
    setup = build(run.config)
    many = groups[1].trainer.problem.given({"alpha": jnp.float32(run.config.alpha)})
    key = jax.random.fold_in(jax.random.key(run.seed), 1)
    for step in range(STEPS):
        draws = [
            recall.sample(task, jax.random.fold_in(key, step), batch_size=4)
            for task in (setup.task, many.task)
        ]
        np.testing.assert_array_equal(draws[0].tokens, draws[1].tokens)
    alone = setup.trainer()
    end = alone.advance(alone.init(), STEPS)
    measured = alone.measure(setup.measurements()[0].measure)(end)
    models = finished.read_records().models.sel(run=run.index, step=STEPS)
    for metric, part, model in (
        ("p_noise", "clean", "full"), ("p_correct", "clean", "0.fc_in@0"), ("loss", "noisy", "full")
    ):  # fmt: skip
        np.testing.assert_allclose(
            models[metric].sel(set=part, model=model),
            measured[name(metric, set=part, model=model)][0],
            rtol=1e-5,
        )


def test_no_compilation_per_number(groups):
    trainer = groups[0].trainer
    chex.clear_trace_counter()
    once = jax.jit(chex.assert_max_traces(trainer._advance_all, n=1), donate_argnums=0)
    state = trainer.init()
    for scale in (1.0, 0.5):
        values = {name: value * scale for name, value in trainer._values.items()}
        state = once(state, 1, trainer._seeds, values, None, 0)


def test_the_table_has_a_row_per_run(finished):
    table = list(csv.DictReader((finished.path / "sweep.csv").read_text().splitlines()))
    assert len(table) == 8
    assert {(row["alpha"], row["num_tokens"], row["seed"]) for row in table} == {
        (a, n, s) for a in ("0.5", "0.2") for n in ("5", "7") for s in ("0", "1")
    }
    for row in table:
        assert 0 < float(row["clean/full/p_correct"]) < 1
        assert 1 <= int(row["0.fc_in/noise_place"]) <= 6
        assert row["lost_at"] == ""
    summary = json.loads((finished.path / "summary.json").read_text())
    here = [float(r["clean/full/p_noise"]) for r in table
            if (r["alpha"], r["num_tokens"]) == ("0.2", "7")]  # fmt: skip
    assert summary["num_tokens=7,alpha=0.2/clean/full/p_noise"] == pytest.approx(np.mean(here))
    names = {path.name for path in (finished.path / "figures").glob("*.png")}
    assert names == {"learning.png", "along_alpha.png", "along_num_tokens.png",
                     "map_num_tokens_alpha.png", "points.png"}  # fmt: skip


@pytest.mark.thorough
def test_a_finished_group_is_not_trained_again(finished, groups, monkeypatch):
    before = finished.read_records()
    (finished.path / "summary.json").unlink()
    (finished.checkpoints / "group1.nc").unlink()
    trained = []
    real = measure.follow
    monkeypatch.setattr(
        measure, "follow", lambda *a, **k: (trained.append(k["part"]), real(*a, **k))[1]
    )
    again = measure.measure(plan.Plan(CONFIG, groups), finished)
    assert trained == ["group1.records"]
    assert set(again) == set(before)
    for block, data in before.items():
        assert data.identical(again[block]), block


def test_a_lost_run_does_not_stop_the_others(tmp_path):
    """As many runs of the same shape as the first group above: what that compiled serves here."""
    config = SETTINGS(
        num_tokens=(5,), length=(10,), d_model=(6,), batch_size=(4,), steps=(STEPS,),
        feed_forward=("linear",), interventions=("0.fc_in@0",), alpha=(0.5,), num_seeds=2,
        learning_rate=(0.3, 1e30), eval_batch=8, devices=1,
    )  # fmt: skip
    directory = run_directory.open_run(Place("sweep", str(tmp_path / "run")), config)
    groups = plan.group(plan.expand(config), jax.devices()[:1])
    records = measure.measure(plan.Plan(config, groups), directory)
    found = list(csv.DictReader((directory.path / "sweep.csv").read_text().splitlines()))
    assert [row["lost_at"] == "" for row in found] == [True, True, False, False]
    assert found[2]["clean/full/p_correct"] == ""
    assert float(found[0]["clean/full/p_correct"]) > 0
    assert (records.final.lost_at.values >= 0).tolist() == [False, False, True, True]


@pytest.mark.fault("B3")
@pytest.mark.thorough
def test_a_sweep_whose_one_shape_loses_all_its_runs(drive, tmp_path):
    """Its other shape is measured and drawn; a sweep that loses all says so in one line."""
    tiny = ["--num_tokens=5", "--length=10", "--batch_size=4", "--steps=4",
            "--feed_forward=linear", "--interventions=0.fc_in@0", "--alpha=0.5", "--eval_batch=8",
            "--devices=1"]  # fmt: skip
    both = [*tiny, "--d_model=4,6", "--learning_rate=1e30,0.3", "--zip=d_model+learning_rate"]
    (ended,) = drive("sweep", [*both, f"--out={tmp_path / 'some'}"])
    assert ended["code"] == 0, ended["err"]
    assert "0 of 2" in ended["out"]
    assert len((tmp_path / "some" / "sweep.csv").read_text().splitlines()) == 5
    command = [*tiny, "--d_model=4", "--learning_rate=1e30", f"--out={tmp_path / 'all'}"]
    for ended in drive("sweep", command, command):
        assert ended["code"] == 1
        last = ended["err"].splitlines()[-1]
        assert last.startswith("error: all 2 runs left the finite numbers")
    assert (tmp_path / "all" / "sweep.csv").exists()
