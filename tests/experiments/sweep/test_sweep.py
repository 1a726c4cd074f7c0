"""A small sweep: every run is the run alone, numbers compile nothing, kept groups are kept."""

import csv
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.run import directory as run_directory
from experiments.run.program import Place
from experiments.sweep import experiment, plan
from experiments.sweep.settings import SETTINGS
from toy import recall
from toy.setup import build

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
    directory = run_directory.open_run(Place("sweep", str(out)), CONFIG)
    return directory, experiment.run(CONFIG, groups, directory)


def test_a_run_of_many_is_the_run_alone(finished, groups):
    """Data exactly, weights and records to rounding; the second shape, the last of its runs."""
    directory, _ = finished
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
    arrays = directory.read_arrays()
    assert int(arrays["group1/runs"][-1]) == run.index
    for name in ("clean/full/p_noise", "clean/0.fc_in@0/p_correct", "noisy/full/loss"):
        np.testing.assert_allclose(
            arrays[f"group1/models/{name}"][-1, -1], measured[name][0], rtol=1e-5
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
    directory, found = finished
    table = list(csv.DictReader((directory.path / "sweep.csv").read_text().splitlines()))
    assert len(table) == len(found) == 8
    assert {(row["alpha"], row["num_tokens"], row["seed"]) for row in table} == {
        (a, n, s) for a in ("0.5", "0.2") for n in ("5", "7") for s in ("0", "1")
    }
    for row in table:
        assert 0 < float(row["clean/full/p_correct"]) < 1
        assert 1 <= int(row["0.fc_in/noise_place"]) <= 6
        assert row["lost_at"] == ""
    summary = json.loads((directory.path / "summary.json").read_text())
    here = [float(r["clean/full/p_noise"]) for r in table
            if (r["alpha"], r["num_tokens"]) == ("0.2", "7")]  # fmt: skip
    assert summary["num_tokens=7,alpha=0.2/clean/full/p_noise"] == pytest.approx(np.mean(here))
    names = {path.name for path in (directory.path / "figures").glob("*.png")}
    assert names == {"learning.png", "along_alpha.png", "along_num_tokens.png",
                     "map_num_tokens_alpha.png"}  # fmt: skip


@pytest.mark.thorough
def test_a_finished_group_is_not_trained_again(finished, groups, monkeypatch):
    directory, found = finished
    (directory.path / "summary.json").unlink()
    (directory.checkpoints / "group1.npz").unlink()
    trained = []
    real = experiment.follow
    monkeypatch.setattr(
        experiment, "follow", lambda *a, **k: (trained.append(k["part"]), real(*a, **k))[1]
    )
    assert experiment.run(CONFIG, groups, directory) == found
    assert trained == ["group1.records"]


def test_a_lost_run_does_not_stop_the_others(tmp_path):
    """As many runs of the same shape as the first group above: what that compiled serves here."""
    config = SETTINGS(
        num_tokens=(5,), length=(10,), d_model=(6,), batch_size=(4,), steps=(STEPS,),
        feed_forward=("linear",), interventions=("0.fc_in@0",), alpha=(0.5,), num_seeds=2,
        learning_rate=(0.3, 1e30), eval_batch=8, devices=1,
    )  # fmt: skip
    directory = run_directory.open_run(Place("sweep", str(tmp_path / "run")), config)
    found = experiment.run(config, plan.group(plan.expand(config), jax.devices()[:1]), directory)
    assert [row["lost_at"] is None for row in found] == [True, True, False, False]
    assert found[2]["clean/full/p_correct"] is None
    assert found[0]["clean/full/p_correct"] > 0
