"""The verification program: its statistics, its verdicts, and a small version of each family."""

import ast
import dataclasses
import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.mutation import formulas
from tests.mutation import table as by_table
from truncated_weights.experiments.run import directory as run_directory
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.program import Place, UserError
from truncated_weights.experiments.verify_theory import figures, measure, table
from truncated_weights.experiments.verify_theory.effort import Effort, Family, Outcome, at
from truncated_weights.experiments.verify_theory.families import (
    memory_flow,
    plateau,
    recall_chain,
    sampling,
    transformer,
)
from truncated_weights.experiments.verify_theory.settings import FAMILIES, VerifyTheory
from truncated_weights.experiments.verify_theory.table import Row
from truncated_weights.theory import recall_chain as exact_chain
from truncated_weights.training import records
from truncated_weights.training.records import Records

TRAINED = ("learning", "lazy")
# Those that train no network. The last two, which train the largest, run in the slow test.
SHORT = tuple(name for name in FAMILIES if name not in (*TRAINED, "transformer", "plateau"))
SMALL = Effort(
    memory_step=4.0,
    embedding_draws=60,
    sequences=2**14,
    margin_sizes=(8,),
    margin_sequences=2**14,
    replicates=100,
    sample_sizes=(8, 512),
    singles=2**13,
    score_sizes=(),
    training_sizes=(12,),
    training_step=1.0,
    training_batch=64,
    overlaps=(0.5,),
    window_alphas=(0.3,),
    path_sizes=(8,),
    lazy_seeds=8,
    noise_points=(),
    first_draws=0,
    first_batches=(),
    label_draws=20_000,
    plateau_cells=(),
    plateau_seeds=0,
    balls=20_000,
)


def verify(config, out, sizes=SMALL):
    """A run of these sizes: its directory and its rows."""
    small = dataclasses.replace(measure.STUDY, prepare=lambda config: measure.Plan(config, sizes))
    study.run(small, config, Place("verify_theory", str(out)))
    directory = RunDirectory(out)
    return directory, table.of_block(directory.read_records().table)


def row(**changes):
    values = dict(family="f", name="n", setting="s", predicted=2.0, measured=2.3, error=0.1)
    return Row(**(values | changes))


def test_verdict_is_standard_errors_plus_a_tolerance():
    # One comparison of one number has half of the rate to itself.
    limits = table.levels([row()])
    z = stats.norm.isf(table.FALSE_ALARMS / 4)
    assert limits.allowed(row()) == pytest.approx(0.1 * z)
    assert limits.passes(row(measured=2.0 + 0.0999 * z))
    assert not limits.passes(row(measured=2.0 - 0.1001 * z))
    assert limits.passes(row(measured=2.15 + 0.0999 * z, tolerance=0.15))
    # Without an error the tolerance is all, and it is absolute.
    assert limits.passes(row(error=None, tolerance=0.301))
    assert not limits.passes(row(error=None, tolerance=0.299))
    assert limits.passes(row(predicted=0.0, measured=0.1, error=None, tolerance=0.11))
    assert not limits.passes(row(measured=math.nan, tolerance=10.0))
    # Few samples make an error itself uncertain.
    assert limits.allowed(row(samples=8)) > 1.5 * limits.allowed(row())


def test_thousands_of_entries_do_not_make_single_numbers_blunt():
    few, many = [row()] * 10, [row(comparisons=1000)] * 3
    alone, together = table.levels(few), table.levels([*few, *many])
    assert together.allowed(row()) == alone.allowed(row())
    assert together.allowed(row(comparisons=1000)) > together.allowed(row())


def test_false_alarms_of_a_true_table_stay_within_the_rate():
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(400):
        rows = [
            table.worst("f", "n", "s", np.zeros(20), generator.normal(size=20), np.ones(20))
            for _ in range(5)
        ] + [row(predicted=0.0, measured=generator.normal(), error=1.0) for _ in range(5)]
        limits = table.levels(rows, rate=0.05)
        alarms += any(not limits.passes(r) for r in rows)
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
    certain = table.worst(
        "f", "n", "s", np.zeros(2), np.array([0.1, 0.2]), tolerance=np.array([0.01, 0.1])
    )
    assert (certain.measured, certain.tolerance, certain.error) == (0.1, 0.01, None)
    assert table.failures([certain])
    lost = table.worst("f", "n", "s", np.zeros(2), np.array([0.1, np.nan]), tolerance=1.0)
    assert table.failures([lost])


def test_deviation_and_its_error():
    generator = np.random.default_rng(1)
    found = np.array(
        [table.deviation_and_error(generator.exponential(size=400)) for _ in range(400)]
    )
    assert found[:, 0].mean() == pytest.approx(1, abs=0.02)
    # The spread of the estimates is what their own errors say, heavy tails and all.
    assert found[:, 0].std() == pytest.approx(found[:, 1].mean(), rel=0.25)


def test_figures_of_a_row_stand_together_and_unabridged(monkeypatch):
    long = row(setting="a setting of many words " * 8, note="a note", tolerance=0.5)
    whole = table.told([long]).splitlines()[1]
    for part in ("2 ", "2.3", "0.1", "0.5", long.setting, "a note"):
        assert part in whole
    monkeypatch.setattr(table.sys, "stdout", type("T", (), {"isatty": lambda self: True})())
    monkeypatch.setattr(table.terminal, "width", lambda: 100)
    cut = table.told([long]).splitlines()[1]
    assert len(cut) == 100
    assert cut[:80] == whole[:80]
    monkeypatch.undo()
    simulated = row(simulated=True)
    assert "two simulations" in table.told([simulated])
    assert "two simulations" in table.markdown([simulated])


def test_no_simulation_asks_the_theory():
    """What is measured, its settings and its allowances cannot follow a wrong formula."""
    folder = measure.__file__.replace("measure.py", "families")
    for name, family in measure.FAMILIES.items():
        path = f"{folder}/{family.judge.__module__.rpartition('.')[2]}.py"
        tree = ast.parse(Path(path).read_text())
        theories = {
            alias.asname or alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            and node.module.startswith("truncated_weights.theory")
            for alias in node.names
        }
        assert theories, name
        functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
        ahead, seen = ["simulate"], set()
        while ahead:
            here = ahead.pop()
            seen.add(here)
            names = {n.id for n in ast.walk(functions[here]) if isinstance(n, ast.Name)}
            assert not names & theories, (name, here)
            ahead += [n for n in names & set(functions) if n not in seen]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Families that train no network, at their smallest; of memories two sizes and a crossing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_flow, "SIZES", (2, 4, 8))
        patch.setattr(memory_flow, "CROSSINGS", ((4, 0.3),))
        patch.setattr(memory_flow, "NO_CROSSINGS", ((8, 0.4),))
        patch.setattr(memory_flow, "D_MODELS", (32, 64, 128))
        patch.setattr(memory_flow, "RESPONSE_SIZES", (3,))
        patch.setattr(sampling, "GROUPS", 64)
        config = VerifyTheory(quick=True, seed=1, families=SHORT)
        # Within the patches: a kept family is judged again by whoever opens the run.
        yield config, *verify(config, tmp_path_factory.mktemp("verify") / "run")


def test_every_prediction_agrees_with_simulation(finished):
    _, _, rows = finished
    simulated = {
        "memory", "frequent", "answers", "overlap", "decay", "chain", "first step", "attention",
    }  # fmt: skip
    assert {r.family for r in rows} == simulated
    assert not told_failures(rows)


@pytest.mark.thorough
def test_predictions_of_small_trained_networks_agree(monkeypatch, tmp_path):
    monkeypatch.setattr(sampling, "GROUPS", 64)
    config = VerifyTheory(quick=True, seed=1, families=TRAINED)
    directory, rows = verify(config, tmp_path / "run")
    assert {r.family for r in rows} == set(TRAINED)
    assert not told_failures(rows)
    assert (directory.path / "figures" / "learning.png").stat().st_size > 10_000


def told_failures(rows):
    return [(r.name, r.setting, r.predicted, r.measured, r.note) for r in table.failures(rows)]


def test_the_run_directory_holds_table_arrays_and_figures(finished):
    _, directory, rows = finished
    told = json.loads((directory.path / "table.json").read_text())
    assert len(told) == len(rows)
    assert {r["verdict"] for r in told} == {"ok"}
    assert run_directory.plain(table.records(rows)) == told
    summary = json.loads((directory.path / "summary.json").read_text())
    assert summary["failed"] == 0
    assert summary["rows"] == len(rows)
    for name in ("table", "memory", "first_step"):
        assert (directory.path / "figures" / f"{name}.png").stat().st_size > 10_000
    text = table.markdown(rows)
    assert text.count("\n") == len(rows) + 2
    assert "FAIL" not in text
    assert tuple(measure.FAMILIES) == FAMILIES


def test_what_is_recorded_has_axes_and_is_judged_as_it_was(finished):
    config, directory, rows = finished
    found = directory.read_records()
    # Blocks of all families stand side by side, and one family finds its own among them.
    for name in config.families:
        again = measure.FAMILIES[name].judge(SMALL, found).rows
        assert again == [r for r in rows if r.family == again[0].family]
    for size in (2, 4, 8):
        run = memory_flow.recorded(found.memory, size=size)
        assert run.time.values[-1] == pytest.approx(1e5, rel=1e-4)
        assert np.isfinite(run.p_noise).all()
        assert np.isfinite(run.noise_row.isel({"class": slice(size + 1)})).all()
    names = [panel.name for each in figures.figures(config, found) for panel in each.panels]
    assert len(set(names)) == len(names) == 11


def test_rows_come_back_from_their_block():
    rows = [row(), row(error=None, tolerance=0.5, note="a note"), row(error=0.0, simulated=True),
            row(measured=math.nan), row(error=math.nan, comparisons=3, samples=8)]  # fmt: skip
    found = table.of_block(records.of_rows(table.records(rows)))
    assert found[:3] == rows[:3]
    assert repr(found) == repr(rows)
    assert repr(table.failures(found)) == repr(rows[2:])


@pytest.mark.thorough
def test_an_interrupted_run_does_not_repeat_finished_families(finished, monkeypatch):
    config, directory, rows = finished

    def never(*_):
        raise AssertionError("a finished family was simulated again")

    for name in config.families:
        kept = measure.FAMILIES[name]
        monkeypatch.setitem(measure.FAMILIES, name, kept._replace(simulate=never))
    before = directory.read_records()
    (directory.path / "summary.json").unlink()
    _, again = verify(config, directory.path)
    assert again == rows
    after = directory.read_records()
    assert list(after) == list(before)
    assert all(after[block].identical(before[block]) for block in before)
    with pytest.raises(UserError, match="finished run"):
        run_directory.open_run(Place("verify_theory", str(directory.path)), config)


def test_records_tell_what_is_allowed():
    random, both = row(), row(tolerance=0.2)
    certain = row(error=None, tolerance=0.5)
    limits = table.levels([random, both, certain])
    for given, record in zip(
        (random, both, certain), table.records([random, both, certain]), strict=True
    ):
        assert record["allowed"] == limits.allowed(given)
        assert record["tolerated"] == given.tolerance
        assert json.loads(json.dumps(run_directory.plain(record))) == record
    shares = [r["tolerance"] for r in table.records([random, both, certain])]
    assert shares == [None, pytest.approx(limits.allowed(both) / 2), 0.25]


def test_the_plateau_is_watched_and_judged(monkeypatch):
    # Shapes of tests/experiments/theory/test_plateau.py: compiled once for both.
    for name, value in dict(WIDTH=4, LENGTH=8, TOKENS=5, SETTLING=5, LEARNED=0, WATCHED=48).items():
        monkeypatch.setattr(plateau, name, value)
    sizes = dataclasses.replace(SMALL, plateau_cells=((0.02, 4, 0.5),), plateau_seeds=1)
    found = plateau.simulate(sizes, 0)
    rows = plateau.judge(sizes, found).rows
    # Five steps are no plateau: the network still says what it began with.
    assert [r.name for r in table.failures(rows) if r.name == "p(noise)"]
    assert not [r for r in table.failures(rows) if "heavy ball" in r.name]
    cell = at(found.plateau, rate=0.02, batch=4, momentum=0.5)
    drawn, fair = cell.p_noise.sel(labels=["drawn", "fair"]).values
    assert drawn.shape == fair.shape == (1, 48)
    assert not np.array_equal(drawn, fair)
    labels = math.sqrt(max(drawn.var() - fair.var(), 0))
    made = next(r for r in rows if r.name == "deviation of p(noise) that labels make")
    assert made.measured == pytest.approx(labels, rel=1e-6)


def test_half_of_a_curve_is_interpolated():
    assert transformer._half(np.array([0.0, 0.1, 0.3, 0.2]), 0.4) == pytest.approx(1.5)
    assert transformer._half(np.array([0.3, 0.4]), 0.4) == 0.0
    assert math.isnan(transformer._half(np.array([0.0, 0.1]), 0.4))


def test_a_wrong_formula_is_found_out(monkeypatch):
    monkeypatch.setattr(sampling, "GROUPS", 64)
    right = exact_chain.chain

    def wrong(unigram, bigram, **rest):
        return right(unigram, bigram, **(rest | {"alpha": rest["alpha"] + 0.02}))

    monkeypatch.setattr(exact_chain, "chain", wrong)
    rows = recall_chain.judge(SMALL, recall_chain.simulate(SMALL, 0)).rows
    assert table.failures(rows)


def test_a_failed_verdict_makes_the_exit_code_one(drive, monkeypatch, tmp_path):
    bad = row(error=None, tolerance=0.1)
    for name in FAMILIES:
        fake = Family(lambda *_: Records({}), lambda *_: Outcome([bad]))
        monkeypatch.setitem(measure.FAMILIES, name, fake)
    command = [f"--out={tmp_path / 'run'}", "--families=chain"]
    done, again = drive("verify_theory", command, command)
    assert done["code"] == 1, done["err"]
    assert "1 rows, 1 failed" in done["out"]
    assert "FAIL f: n (s)" in done["out"]
    assert again["code"] == 2
    assert again["err"].splitlines()[-1].startswith("error: --out=")


@pytest.mark.slow
def test_the_quick_table_passes(tmp_path):
    config, place = VerifyTheory(quick=True), Place("verify_theory", str(tmp_path / "run"))
    assert study.run(measure.STUDY, config, place) == 0
    rows = table.of_block(RunDirectory(tmp_path / "run").read_records().table)
    assert len(rows) > 100
    assert not table.failures(rows)


def test_formulas_that_were_put_in_wrong_still_stand_where_they_stood():
    """What `python -m tests.mutation.table --formulas` changes; see there for what notices."""
    found = formulas.wrong()
    assert len(found) == len({(file, mutant.before) for file, mutant in found}) >= 18
    for file, mutant in found:
        assert mutant.source != (formulas.ROOT / file).read_text()
        ast.parse(mutant.source)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("family", "wrong"),
    [("overlap", "law**2) + law**2"), ("answers", "1.0 - r) * pull"), ("plateau", "rate * (1.0")],
)
def test_the_table_notices_a_wrong_formula(family, wrong):
    file, mutant = next(x for x in formulas.wrong() if wrong in x[1].before)
    simulate, judge = measure.FAMILIES[family]
    found = simulate(SMALL, 0)
    rows = judge(SMALL, found).rows
    module = importlib.import_module(by_table.dotted(file))
    kept = dict(vars(module))
    try:
        by_table.replace(module, mutant.source)
        assert table.failures(judge(SMALL, found).rows)
    finally:
        vars(module).update(kept)
    assert not table.failures(rows)
