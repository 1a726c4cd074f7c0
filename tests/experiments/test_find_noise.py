import dataclasses
import json

import numpy as np
import pytest

from experiments.find_noise import experiment as find_noise
from experiments.find_noise import figures
from experiments.find_noise.compared import Found
from experiments.find_noise.settings import FindNoise
from experiments.run import directory as run_directory
from experiments.run import recall_setup
from experiments.run.directory import RunDirectory
from experiments.run.program import Place, UserError
from truncation.search.problem import NO_CHOICE, Outcome

RHOS = ("0.9", "0.6", "0.4", "0.2", "0.1", "0.05", "0", "-0.07", "-0.2")


@pytest.fixture(scope="module")
def config(recall_run):
    return FindNoise(
        run=str(recall_run),
        along=1,
        max_seeds=2,
        rhos=RHOS,
        validation=16,
        test=24,
        batch_size=40,
        together=3,
    )


def start(config, out):
    setup = recall_setup.read_setup(config.run)
    directory = run_directory.open_run(Place("find_noise", str(out)), config)
    units = list(find_noise.plan(config, setup))
    return find_noise.run(config, setup, units, directory, "digest")[0]


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("find") / "out"
    return out, start(config, out)


def one(rows, rule, seed=3, step=120):
    return next(r for r in rows if (r["rule"], r["seed"], r["step"]) == (rule, seed, step))


def test_rules_are_compared_on_every_seed(finished):
    _, rows = finished
    final = [row for row in rows if row["step"] == 120]
    rules = set(dict.fromkeys(row["rule"] for row in final))
    assert {"grid", "gradient-guided", "Marchenko-Pastur", "eigenpruning"} < rules
    assert all({r["seed"] for r in final if r["rule"] == rule} == {3, 4} for rule in rules)
    assert sum(row["rule"] == "random pruning" for row in final) == 10
    full = one(rows, "full model")
    assert full["evaluations"] == 0
    assert full["noise_removed"] is None
    for row in rows:
        assert 0 <= row["p_correct"] <= 1
        assert 0 <= row["p_noise"] <= 1
        if row["noise_removed"] is not None:
            assert -1e-6 <= row["noise_removed"] <= 1 + 1e-6


def test_prices_are_what_was_evaluated(finished):
    _, rows = finished
    for seed in (3, 4):
        grid, guided = one(rows, "grid", seed), one(rows, "gradient-guided", seed)
        assert grid["evaluations"] == 5 * len(RHOS) + 1
        assert guided["evaluations"] <= 0.25 * grid["evaluations"]
        assert one(rows, "greedy, best first", seed)["evaluations"] > grid["evaluations"]
        assert one(rows, "Gavish-Donoho", seed)["evaluations"] == 0


def test_the_noise_can_be_found(finished):
    """After 120 steps of one layer, the noise sits in the feed-forward; cutting it helps."""
    _, rows = finished
    for seed in (3, 4):
        full, grid = one(rows, "full model", seed), one(rows, "grid", seed)
        assert full["p_noise"] > 0.3
        assert grid["p_noise"] < 0.5 * full["p_noise"]
        assert grid["loss"] < full["loss"]


def test_is_written_and_can_be_redrawn(finished):
    out, rows = finished
    summary = json.loads((out / "summary.json").read_text())
    by_seed = [one(rows, "grid", seed)["p_correct"] for seed in (3, 4)]
    np.testing.assert_allclose(summary["clean/grid/p_correct"], np.mean(by_seed))
    np.testing.assert_allclose(
        summary["clean/grid/p_correct/sem"], np.std(by_seed, ddof=1) / np.sqrt(2)
    )
    lines = (out / "rules.md").read_text().splitlines()
    assert lines[0].startswith("| rule | p(correct) | p(noise)")
    assert any("± " in line for line in lines)
    assert len((out / "rules.csv").read_text().splitlines()) == len(rows) + 1
    for name in ("find_noise", "heatmaps"):
        assert (out / "figures" / f"{name}.png").stat().st_size > 10_000
    again = figures.rules(RunDirectory(out).read_rows("rules.jsonl"), 120)
    assert len(again.axes) == 4


def test_an_interrupted_comparison_continues(config, finished, tmp_path, monkeypatch):
    """Models judged before the interruption are not judged again; the end is the same."""
    out, rows = finished
    judged = []

    def replay(setup, problem, weights, unit):
        judged.append((unit.step, unit.seed))
        if len(judged) == 2:
            raise KeyboardInterrupt
        mine = [row for row in rows if (row["step"], row["seed"]) == judged[-1]]
        table_rows = RunDirectory(out).read_rows("grid.jsonl")
        return {"grid": [Found(Outcome(NO_CHOICE, NO_CHOICE, table_rows, 0, 0.0))]}, mine

    monkeypatch.setattr(find_noise, "judge", replay)
    with pytest.raises(KeyboardInterrupt):
        start(config, tmp_path / "out")
    # The second model was cut short, as a kill in the midst of writing its line would.
    with (tmp_path / "out" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 120, "se')
    start(config, tmp_path / "out")
    assert judged == [(120, 3), (120, 4), (120, 4), (30, 3)]
    for name in ("rules.jsonl", "summary.json"):
        assert (tmp_path / "out" / name).read_text() == (out / name).read_text()


def test_bad_requests_are_told(config, tmp_path):
    setup = recall_setup.read_setup(config.run)
    with pytest.raises(UserError, match=r"step=31.*30 120"):
        list(find_noise.plan(dataclasses.replace(config, step=31), setup))
    with pytest.raises(UserError, match="not a run directory"):
        recall_setup.read_setup(tmp_path)


def test_a_retrained_input_is_noticed(config, recall_run, tmp_path):
    """Nothing measured on the weights before is used on those after, whatever is on the disk."""
    import shutil

    run = tmp_path / "recall"
    shutil.copytree(recall_run, run)
    place = Place("find_noise", str(tmp_path / "out"))
    changed = dataclasses.replace(config, run=str(run))
    before = recall_setup.digest(run, [120])
    assert before == recall_setup.digest(recall_run, [120])
    run_directory.open_run(place, changed, digests={"--run": before}).append_metrics({"step": 0})
    shutil.rmtree(run / "checkpoints" / "120")
    shutil.copytree(run / "checkpoints" / "30", run / "checkpoints" / "120")
    after = recall_setup.digest(run, [120])
    assert after != before
    with pytest.raises(UserError, match="--run has changed since; add --overwrite"):
        run_directory.open_run(place, changed, digests={"--run": after})


def test_figures_are_redrawn_from_the_tables_alone(finished):
    out, _ = finished
    image = out / "figures" / "heatmaps.png"
    before = image.read_bytes()
    image.unlink()
    find_noise.redraw(str(out))
    assert image.read_bytes() == before
