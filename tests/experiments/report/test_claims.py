"""The claims as data: every one can be addressed, run and judged before anything is."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from experiments.report import verdicts
from experiments.report.claim import AtLeast, AtMost, Is, MissingError, Near, Quantity, Rows
from experiments.report.claims import SUBJECTS
from experiments.report.figures import DRAWINGS
from experiments.report.plan import expanded, named, plan
from experiments.report.reading import Found
from experiments.report.runs import RUNS, Run

CLAIMS = [claim for subject in SUBJECTS.values() for claim in subject.claims]
SUMMARY = {"a": 0.5, "a/sem": 0.1, "b": 0.25, "lost": None, "change": 1.0, "change_low": 0.8,
           "change_high": 1.2, "chosen": "1.mlp@0"}  # fmt: skip


def test_every_claim_has_an_address_of_its_own():
    names = [claim.name for claim in CLAIMS] + list(SUBJECTS)
    assert len(names) == len(set(names))
    assert all(name.replace("-", "").replace("_", "").isalnum() for name in names)


def test_every_claim_is_one_sentence_with_a_source_and_a_check():
    for claim in CLAIMS:
        assert claim.statement.endswith("."), claim.name
        assert claim.paper, claim.name
        assert claim.where, claim.name
        assert claim.checks, claim.name
        assert claim.run in RUNS, claim.name


def test_every_subject_has_a_picture_of_a_run_that_exists():
    assert set(DRAWINGS) == set(SUBJECTS)
    assert {name for drawings in DRAWINGS.values() for name, _ in drawings} <= set(RUNS)


@pytest.mark.parametrize("quick", [True, False])
def test_every_run_has_flags_that_its_program_takes(quick):
    planned = plan(SUBJECTS, RUNS, Path("runs"), quick=quick)
    assert set(planned) == {claim.run for claim in CLAIMS} | {
        needed for run in RUNS.values() for needed in run.needs()
    }
    for one in planned.values():
        given = dataclasses.replace(
            one, arguments=tuple(a.replace("{model}", "m").replace("{text}", "t")
                                 for a in one.arguments)
        )  # fmt: skip
        assert given.settings()


def test_a_run_comes_after_what_it_reads():
    order = list(plan(SUBJECTS, RUNS, Path("runs"), quick=True))
    for name in order:
        for needed in RUNS[name].needs():
            assert order.index(needed) < order.index(name)


def test_the_quick_runs_are_said_to_fit_into_twenty_minutes():
    planned = plan(SUBJECTS, RUNS, Path("runs"), quick=True)
    assert sum(one.minutes for one in planned.values() if not one.missing) < 20


def test_claims_on_language_models_are_told_for_each_or_once_without():
    alone = plan(SUBJECTS, RUNS, Path("runs"), quick=True)
    assert alone["model"].missing == "not run: no weights (--models)"
    models = ("/a/pythia", "/b/pythia", "x y")
    assert named(models) == {"/a/pythia": "pythia", "/b/pythia": "pythia.2", "x y": "x_y"}
    whole = expanded(SUBJECTS, RUNS, models)
    planned = plan(whole, RUNS, Path("runs"), quick=True, models=models)
    assert len(whole["models"].claims) == 3 * len(SUBJECTS["models"].claims)
    assert planned["model-pythia.2"].arguments[0] == "--model=/b/pythia"
    assert not planned["model-pythia.2"].missing


def test_what_reads_a_run_that_cannot_begin_cannot_either():
    runs = {"first": Run("associative_memory", ("--text={text}",)),
            "second": Run("truncate", ("--run={first}",))}  # fmt: skip
    claim = dataclasses.replace(CLAIMS[0], run="second")
    subject = dataclasses.replace(next(iter(SUBJECTS.values())), claims=(claim,))
    planned = plan({"s": subject}, runs, Path("runs"), quick=True)
    assert planned["second"].missing == planned["first"].missing != ""


@pytest.mark.parametrize(
    ("check", "holds"),
    [
        (Near("a", 0.45, 0.05, ""), True),
        (Near("a", 0.4, 0.05, ""), False),
        (AtLeast("a", 0.5, ""), True),
        (AtLeast("a", 0.51, ""), False),
        (AtMost(Quantity("b", minus="a"), -0.25, ""), True),
        (AtMost(Quantity("b", over="a"), 0.49, ""), False),
        (AtMost("lost", 1e9, ""), False),
        (AtLeast("lost", -1e9, ""), False),
        # .5 with an error of .1: two of them on the side of what is claimed.
        (AtLeast("a", 0.29, "", clear=True), True),
        (AtLeast("a", 0.31, "", clear=True), False),
        (AtMost("a", 0.71, "", clear=True), True),
        (AtMost("a", 0.69, "", clear=True), False),
        (AtLeast(Quantity("b", minus="b"), 0.0, "", clear=True), False),
        (AtLeast(Quantity("b", minus="b"), 0.0, ""), True),
        (Is("chosen", ("0.mlp@0", "1.mlp@0"), ""), True),
        (Is("chosen", ("0.mlp@0",), ""), False),
    ],
)
def test_a_check_holds_or_fails(check, holds):
    assert check.judge(SUMMARY).holds is holds


def test_errors_add_as_if_independent():
    value, error = Quantity("a", minus="change").read(SUMMARY)
    assert value == -0.5
    assert error == pytest.approx(math.hypot(0.1, 0.4 / 3.92))
    # d(a/b)/a = da / b where b is exact.
    assert Quantity("a", over="b").read(SUMMARY) == (2.0, pytest.approx(0.4))


def test_a_key_that_is_not_there_is_no_verdict():
    for check in (
        Near("no", 0, 1, ""),
        Is("no", ("",), ""),
        AtMost(Quantity("a", minus="no"), 0, ""),
    ):
        with pytest.raises(MissingError, match="no"):
            check.judge(SUMMARY)


def test_rows_are_judged_by_the_one_nearest_to_its_allowance():
    row = {"family": "memory", "name": "value", "setting": "N=2", "predicted": 2.0, "measured": 2.1,
           "error": None, "tolerance": 0.1, "verdict": "ok"}  # fmt: skip
    statistical = row | {"name": "other", "error": 0.1, "tolerance": None, "measured": 2.3}
    found = {"rows_of_table": [row, statistical], "z_limit": 4.0}
    judged = Rows("memory/").judge(found)
    assert judged.holds
    # .1 of .2 allowed against .3 of .4.
    assert judged.measured == 2.3
    assert (judged.low, judged.high) == pytest.approx((1.6, 2.4))
    failed = statistical | {"verdict": "FAIL", "measured": None}
    assert not Rows("memory/other").judge(found | {"rows_of_table": [row, failed]}).holds
    with pytest.raises(MissingError):
        Rows("nothing").judge(found)


@pytest.mark.fault("A14")
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, None])
def test_what_is_not_finite_is_no_figure(value):
    found = {"a": value, "b": 1.0, "b/sem": 0.1}
    for check in (
        Near("a", 0.0, 1e9, ""), AtLeast("a", -1e9, ""), AtMost("a", 1e9, ""),
        AtLeast("a", 0.0, "", clear=True), AtLeast(Quantity("b", minus="a"), -1e9, ""),
        AtMost(Quantity("a", over="b"), 1e9, ""),
    ):  # fmt: skip
        assert not check.judge(found).holds


@pytest.mark.fault("A14")
def test_clearly_by_the_word_of_one_seed():
    """On the side that is claimed and no error to tell chance by: not clear, and not refuted."""
    alone, several = {"a": 0.5, "b": 0.25}, {"a": 0.5, "a/sem": 0.0, "b": 0.25, "b/sem": 0.0}
    above, below = (
        kind(Quantity("a", minus="b"), 0.0, "", clear=True) for kind in (AtLeast, AtMost)
    )
    assert above.judge(alone).one_seed
    assert above.judge(alone).holds
    assert not below.judge(alone).holds
    assert not above.judge(several).one_seed
    assert not AtLeast("a", 0.0, "").judge(alone).one_seed


def judged(summary, *checks, **more):
    """The verdict on one claim about a run with this summary."""
    claim = dataclasses.replace(CLAIMS[0], run="recall", checks=checks, **more)
    subject = dataclasses.replace(SUBJECTS["recall"], claims=(claim,))
    (verdict,) = verdicts.judge({"recall": subject}, {}, {"recall": summary})
    return verdict


@pytest.mark.fault("A14")
def test_a_claim_does_not_hold_on_survivors_unless_it_says_so():
    check = AtLeast("a", 0.0, "")
    whole = {"a": 0.5, "seeds": 4, "seeds_lost": 0}
    assert judged(whole, check).verdict == "holds"
    some = whole | {"seeds": 1, "seeds_lost": 3}
    assert judged(some, check).verdict == "fails"
    assert judged(some, check).reason == "fails: 3 seeds of recall were lost"
    assert judged(some, check, survivors=True).verdict == "holds"
    # Nothing was lost, and one figure is of fewer seeds all the same: a half never reached.
    fewer = whole | {"a/seeds": 3}
    assert judged(fewer, check).reason == "fails: a is of 3 seeds, not of all"
    assert judged(fewer, check, survivors=True).verdict == "holds"
    alone = judged(whole, dataclasses.replace(check, clear=True))
    assert alone.verdict == "one seed"
    assert verdicts.summarise([alone])["one_seed"] == 1


@pytest.mark.fault("A14")
def test_rows_are_judged_by_their_numbers_and_not_by_their_word():
    row = {"family": "memory", "name": "value", "setting": "N=2", "predicted": 2.0, "measured": 2.1,
           "error": None, "tolerance": 0.1, "verdict": "ok"}  # fmt: skip
    statistical = row | {"error": 0.1, "tolerance": None, "measured": 2.3}

    def holds(row, limit=4.0):
        return Rows("memory/").judge({"rows_of_table": [row], "z_limit": limit}).holds

    assert holds(row)
    assert holds(row | {"measured": 2.2})
    assert holds(statistical)
    for wrong in (
        row | {"measured": 2.21}, row | {"predicted": None}, row | {"measured": None},
        row | {"measured": math.inf}, row | {"tolerance": math.inf}, row | {"verdict": "FAIL"},
        statistical | {"measured": 2.5}, statistical | {"error": None},
        statistical | {"error": math.inf}, statistical | {"error": 0.0},
    ):  # fmt: skip
        assert not holds(wrong), wrong
    assert not holds(statistical, math.inf)


@pytest.mark.fault("A14")
def test_a_run_is_read_without_the_seeds_that_it_lost(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps({"seeds": 2, "seeds_lost": 1}))
    (tmp_path / "config.json").write_text(json.dumps({"flags": {}}))
    values = np.array([[1.0, 7.0, 3.0], [2.0, np.nan, 4.0]])
    np.savez(
        tmp_path / "trajectory.npz",
        **{"models/a": values, "models/steps": np.array([0, 1]), "first_bad": [-1, 1, -1]},
    )
    found = Found(tmp_path)
    assert found["models/a at step 0"] == 2.0
    assert found["models/a at the end"] == 3.0
    assert found["models/a at the end/sem"] == pytest.approx(1.0)
    np.testing.assert_array_equal(found.curve("models/a"), [2.0, 3.0])
