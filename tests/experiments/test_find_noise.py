import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from tests.experiments.drawn import require_drawn
from truncated_weights.experiments.find_noise import claims, figures
from truncated_weights.experiments.find_noise import measure as find_noise
from truncated_weights.experiments.find_noise.settings import FindNoise
from truncated_weights.experiments.run import directory as run_directory
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.claim import MissingError
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.inputs import recall_setup
from truncated_weights.experiments.run.program import Place, UserError
from truncated_weights.training import records
from truncated_weights.training.records import Records, labelled, name

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
    assert not study.run(find_noise.STUDY, config, Place("find_noise", str(out)))
    return RunDirectory(out).read_rows("rules.jsonl")


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
            # Components by what they do to data are not orthogonal: a part may exceed the whole.
            most = 1.1 if "grid, " in row["rule"] else 1 + 1e-6
            assert -1e-6 <= row["noise_removed"] <= most


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
    for drawn in ("find_noise", "heatmaps"):
        assert (out / "figures" / f"{drawn}.png").stat().st_size > 10_000
    found = RunDirectory(out).read_records()
    assert records.rows_of(found.choices) == rows
    grid = found.rules.p_correct.sel(set="clean", rule="grid")
    np.testing.assert_allclose(grid.sel(seed=[3, 4]), by_seed)
    drawn = found.rules.p_noise.sel(set="clean", rule="random pruning", seed=4)
    pruned = [r["p_noise"] for r in rows if r["rule"] == "random pruning" and r["seed"] == 4]
    assert float(drawn) == pytest.approx(np.mean(pruned))
    assert found.along.step.values.tolist() == [30, 120]
    assert found.grid.p_correct_change.sizes == {"layer": 1, "matrix": 5, "rho": len(RHOS)}
    cell = next(row for row in RunDirectory(out).read_rows("grid.jsonl") if row.get("rho") == "0.2")
    told = found.grid.loss_change.sel(layer="0", matrix=cell["matrix"], rho="0.2")
    assert float(told) == cell["validation/loss_change"]
    assert len(next(figures.figures(FindNoise(), found)).panels) == 4


def test_an_interrupted_comparison_continues(config, finished, tmp_path, monkeypatch):
    """Models judged before the interruption are not judged again; the end is the same."""
    out, rows = finished
    judged = []

    def replay(setup, problem, weights, unit):
        judged.append((unit.step, unit.seed))
        if len(judged) == 2:
            raise KeyboardInterrupt
        mine = [row for row in rows if (row["step"], row["seed"]) == judged[-1]]
        return mine, RunDirectory(out).read_rows("grid.jsonl")

    monkeypatch.setattr(find_noise, "judge", replay)
    with pytest.raises(KeyboardInterrupt):
        start(config, tmp_path / "out")
    # The second model was cut short, as a kill in the midst of writing its line would.
    with (tmp_path / "out" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 120, "se')
    start(config, tmp_path / "out")
    assert judged == [(120, 3), (120, 4), (120, 4), (30, 3)]
    for file in ("rules.jsonl", "rules.md", "grid.jsonl", "summary.json"):
        assert (tmp_path / "out" / file).read_text() == (out / file).read_text()


def test_bad_requests_are_told(config, tmp_path):
    with pytest.raises(UserError, match=r"step=31.*30 120"):
        find_noise.prepare(dataclasses.replace(config, step=31))
    with pytest.raises(UserError, match="2 entries; a quarter of the grid needs 8"):
        find_noise.prepare(dataclasses.replace(config, rhos=("0.5", "0.1")))
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
    study.redraw(find_noise.STUDY, str(out))
    assert image.read_bytes() == before


def test_claims_read_the_run_by_its_axes(finished):
    """Every figure that a claim is about is there, of every seed."""
    out, rows = finished
    summary = json.loads((out / "summary.json").read_text())
    run = SimpleNamespace(summary=summary, records=RunDirectory(out).read_records())
    judged = {
        claim.name: [check.judge(run) for check in claim.checks] for claim in claims.SUBJECT.claims
    }
    price = judged["guided-is-cheaper"][1]
    assert (
        price.what == "evaluations, clean, rule gradient-guided over evaluations, clean, rule grid"
    )
    spent = [one(rows, rule)["evaluations"] for rule in ("gradient-guided", "grid")]
    assert price.measured == pytest.approx(spent[0] / spent[1], rel=0.1)
    run.records = Records({"rules": run.records.rules.drop_sel(rule="grid")})
    with pytest.raises(MissingError):
        claims.SUBJECT.claims[0].checks[0].judge(run)


@pytest.mark.fault("B3")
def test_a_rule_that_has_no_figure_for_some_seeds_or_for_any(config):
    rows = [
        {"step": step, "seed": seed, "rule": rule, "chosen": "1.mlp@0", "warning": None,
         "p_correct": None if seed in missing else 0.5, "p_noise": 0.2, "accuracy": 0.5,
         "loss": 1.0, "evaluations": 3.0 * (rule != "full model"), "seconds": 0.1,
         "noise_removed": None if seed in missing else 0.5, "outputs_removed": 0.1,
         "rank_correlation": None if seed in missing else 0.9}
        for step in (10, 20) for seed in range(4)
        for rule, missing in (("full model", ()), ("grid", (0, 2)), ("gradient-guided", (1,)),
                              ("random search", range(4)), ("Gavish-Donoho", ()))
    ]  # fmt: skip
    at = {"layer": 0, "matrix": "fc_in", "rho": "0.1"}
    found = Records(
        {
            "rules": find_noise.by_rule([r for r in rows if r["step"] == 20], "seed"),
            "along": find_noise.by_rule([r for r in rows if r["seed"] == 0], "step"),
            "choices": records.of_rows(rows),
            "grid": labelled(
                {name(f"p_correct_change{end}", **at): 0.1 for end in ("", "_low", "_high")}
                | {name("chosen", **at): 1.0},
                {},
            ),
        }
    )
    found = found.with_block("rules", found.rules.assign_coords(step=20))
    require_drawn(figures.figures(config, found))
    plan = SimpleNamespace(lost=0)
    summary = find_noise.summarise(plan, found)
    assert summary["clean/grid/p_correct"] == 0.5
    assert summary["clean/grid/p_correct/seeds"] == 2
    assert summary["guided/missed_p_correct"] == 0.0
    assert summary["guided/rank_correlation"] == pytest.approx(0.9)
    assert find_noise.paper_table(found)[3]["p(correct)"] == "-"
