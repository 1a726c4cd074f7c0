"""The verification program: its statistics, its verdicts, and a small version of each family."""

import dataclasses
import json
import math

import numpy as np
import pytest

from experiments.run import directory as run_directory
from experiments.run.program import Place, UserError
from experiments.verify_theory import experiment, table
from experiments.verify_theory.effort import QUICK, Effort, Outcome
from experiments.verify_theory.families import (
    memory_flow,
    plateau,
    recall_chain,
    sampling,
    transformer,
)
from experiments.verify_theory.settings import FAMILIES, VerifyTheory
from experiments.verify_theory.table import Row
from theory import recall_chain as exact_chain

TRAINED = ("learning", "lazy")
# Those that train no network. The last two, which train the largest, run in the slow test.
SHORT = tuple(name for name in FAMILIES if name not in (*TRAINED, "transformer", "plateau"))
SMALL = Effort(
    memory_step=4.0,
    embedding_draws=60,
    sequences=2**14,
    margin_sizes=(8,),
    replicates=100,
    sample_sizes=(8, 512),
    training_sizes=(12,),
    training_step=1.0,
    training_batch=64,
    overlaps=(0.5,),
    window_alphas=(0.3,),
    lazy_seeds=2,
    noise_points=(),
    first_draws=0,
    first_batches=(),
    plateau_cells=(),
    plateau_seeds=0,
)


def row(**changes):
    values = dict(family="f", name="n", setting="s", predicted=2.0, measured=2.3, error=0.1)
    return Row(**(values | changes))


def test_verdict_of_both_kinds_of_rows():
    assert row().discrepancy == pytest.approx(3)
    assert row().passes(3.01)
    assert not row().passes(2.99)
    relative = row(error=None, tolerance=0.2)
    assert relative.discrepancy == pytest.approx(0.15)
    assert relative.passes(0.0)
    assert not row(error=None, tolerance=0.1).passes(100.0)
    assert not row(measured=math.nan).passes(100.0)


def test_false_alarms_of_a_true_table_stay_within_the_rate():
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(400):
        rows = [
            table.worst("f", "n", "s", np.zeros(20), generator.normal(size=20), np.ones(20))
            for _ in range(5)
        ]
        limit = table.z_limit(rows, rate=0.05)
        alarms += any(not r.passes(limit) for r in rows)
    # Bonferroni over independent comparisons is nearly exact: 20 expected.
    assert 5 < alarms < 40


def test_worst_counts_and_names_the_entry_furthest_off():
    found = table.worst(
        "f",
        "n",
        "s",
        np.array([1.0, 2.0, 3.0]),
        np.array([1.1, 2.5, 3.0]),
        np.array([0.1, 0.1, 0.0]),
    )
    assert (found.predicted, found.measured, found.comparisons) == (2.0, 2.5, 2)
    certain = table.worst("f", "n", "s", np.array([1.0, 0.0]), np.array([1.0, 0.1]), np.zeros(2))
    assert not certain.passes(10.0)


def test_deviation_and_its_error():
    generator = np.random.default_rng(1)
    found = np.array(
        [table.deviation_and_error(generator.exponential(size=400)) for _ in range(400)]
    )
    assert found[:, 0].mean() == pytest.approx(1, abs=0.02)
    # The spread of the estimates is what their own errors say, heavy tails and all.
    assert found[:, 0].std() == pytest.approx(found[:, 1].mean(), rel=0.25)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Families that train no network, at their smallest; of memories two sizes and a crossing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_flow, "SIZES", (2, 4, 8))
        patch.setattr(memory_flow, "CROSSINGS", ((4, 0.3),))
        patch.setattr(memory_flow, "NO_CROSSINGS", ((8, 0.4),))
        patch.setattr(memory_flow, "D_MODELS", (32, 64, 128))
        patch.setattr(sampling, "GROUPS", 64)
        config = VerifyTheory(quick=True, seed=1, families=SHORT)
        out = tmp_path_factory.mktemp("verify") / "run"
        directory = run_directory.open_run(Place("verify_theory", str(out)), config)
        rows = experiment.run(config, directory, SMALL)
    return config, directory, rows


def test_every_prediction_agrees_with_simulation(finished):
    _, _, rows = finished
    simulated = {"memory", "frequent", "decay", "chain", "first step", "attention"}
    assert {r.family for r in rows} == simulated
    assert 4 < table.z_limit(rows) < 6
    assert not told_failures(rows)


@pytest.mark.thorough
def test_predictions_of_small_trained_networks_agree(monkeypatch, tmp_path):
    monkeypatch.setattr(sampling, "GROUPS", 64)
    config = VerifyTheory(quick=True, seed=1, families=TRAINED)
    directory = run_directory.open_run(Place("verify_theory", str(tmp_path / "run")), config)
    rows = experiment.run(config, directory, SMALL)
    assert {r.family for r in rows} == set(TRAINED)
    assert not told_failures(rows)
    assert (directory.path / "figures" / "learning.png").stat().st_size > 10_000


def told_failures(rows):
    limit = table.z_limit(rows)
    return [
        (r.name, r.setting, r.predicted, r.measured, r.discrepancy)
        for r in rows
        if not r.passes(limit)
    ]


def test_the_run_directory_holds_table_arrays_and_figures(finished):
    _, directory, rows = finished
    records = json.loads((directory.path / "table.json").read_text())
    assert len(records) == len(rows)
    assert {r["verdict"] for r in records} == {"ok"}
    summary = json.loads((directory.path / "summary.json").read_text())
    assert summary["failed"] == 0
    assert summary["rows"] == len(rows)
    for name in ("memory", "first_step"):
        assert (directory.path / "figures" / f"{name}.png").stat().st_size > 10_000
    text = table.markdown(rows)
    assert text.count("\n") == len(rows) + 2
    assert "FAIL" not in text
    assert tuple(experiment.FAMILIES) == FAMILIES


@pytest.mark.thorough
def test_an_interrupted_run_does_not_repeat_finished_families(finished, monkeypatch):
    config, directory, rows = finished

    def never(*_):
        raise AssertionError("a finished family was run again")

    monkeypatch.setattr(experiment, "FAMILIES", dict.fromkeys(config.families, never))
    (directory.path / "summary.json").unlink()
    again = experiment.run(config, directory, SMALL)
    assert table.records(again) == table.records(rows)
    with pytest.raises(UserError, match="finished run"):
        run_directory.open_run(Place("verify_theory", str(directory.path)), config)


def test_a_row_without_a_number_fails_before_and_after_it_was_kept():
    lost = row(measured=float("nan"), error=float("nan"))
    kept = json.loads(json.dumps(run_directory.plain(vars(lost))))
    assert kept["measured"] is None
    assert not table.restored(kept).passes(5.0)
    assert table.restored(vars(row())) == row()


def test_the_plateau_is_watched_and_judged(monkeypatch):
    # Shapes of tests/experiments/theory/test_plateau.py: compiled once for both.
    for name, value in dict(WIDTH=4, LENGTH=8, TOKENS=5, SETTLING=5, LEARNED=0, WATCHED=48).items():
        monkeypatch.setattr(plateau, name, value)
    sizes = dataclasses.replace(SMALL, plateau_cells=((0.02, 4, 0.5),), plateau_seeds=1)
    rows, arrays = plateau.verify(sizes, 0)
    assert len(rows) == 5
    # Five steps are no plateau: the network still says what it began with.
    assert not next(row for row in rows if row.name == "p(noise)").passes(5.0)
    drawn, fair = (arrays[f"plateau/0.02/4/0.5/{kind}"] for kind in ("drawn", "fair"))
    assert drawn.shape == fair.shape == (1, 48)
    assert not np.array_equal(drawn, fair)
    labels = math.sqrt(max(drawn.var() - fair.var(), 0))
    assert rows[0].measured == pytest.approx(labels, rel=1e-6)


def test_half_of_a_curve_is_interpolated():
    assert transformer._half(np.array([0.0, 0.1, 0.3, 0.2]), 0.4) == pytest.approx(1.5)
    assert transformer._half(np.array([0.3, 0.4]), 0.4) == 0.0
    assert math.isnan(transformer._half(np.array([0.0, 0.1]), 0.4))


def test_a_relative_row_tells_its_error_and_is_judged_by_its_tolerance():
    told = row(error=0.01, tolerance=0.2)
    assert told.discrepancy == pytest.approx(0.15)
    assert told.passes(0.0)
    assert table.z_limit([told]) == table.z_limit([])
    assert "0.01" in table.markdown([told])
    assert table.restored(vars(told)) == told


def test_a_wrong_formula_is_found_out(monkeypatch):
    monkeypatch.setattr(sampling, "GROUPS", 64)
    right = exact_chain.chain

    def wrong(unigram, bigram, **rest):
        return right(unigram, bigram, **(rest | {"alpha": rest["alpha"] + 0.02}))

    monkeypatch.setattr(exact_chain, "chain", wrong)
    rows = recall_chain.verify(SMALL, 0).rows
    assert table.failures(rows)


def test_a_failed_verdict_makes_the_exit_code_one(drive, monkeypatch, tmp_path):
    bad = row(error=None, tolerance=0.1)
    for name in FAMILIES:
        monkeypatch.setitem(experiment.FAMILIES, name, lambda *_: Outcome([bad], {}))
    command = [f"--out={tmp_path / 'run'}", "--families=chain"]
    done, again = drive("verify_theory", command, command)
    assert done["code"] == 1, done["err"]
    assert "1 rows, 1 failed" in done["out"]
    assert "FAIL f: n (s)" in done["out"]
    assert again["code"] == 2
    assert again["err"].splitlines()[-1].startswith("error: --out=")


@pytest.mark.slow
def test_the_quick_table_passes(tmp_path):
    config = VerifyTheory(quick=True)
    directory = run_directory.open_run(Place("verify_theory", str(tmp_path / "run")), config)
    rows = experiment.run(config, directory, QUICK)
    assert len(rows) > 100
    assert not table.failures(rows)
