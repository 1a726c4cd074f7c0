"""The claims as data: every one can be addressed, run and judged before anything is."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from truncated_weights.experiments.report import verdicts
from truncated_weights.experiments.report.plan import expanded, named, plan
from truncated_weights.experiments.report.reading import Found
from truncated_weights.experiments.report.runs import PROGRAMS, RUNS, Run
from truncated_weights.experiments.report.subjects import SUBJECTS
from truncated_weights.experiments.run.claim import (
    At,
    AtLeast,
    AtMost,
    Chosen,
    Combined,
    Is,
    Key,
    MissingError,
    Near,
)
from truncated_weights.experiments.verify_theory.claims import Rows
from truncated_weights.training import records
from truncated_weights.training.records import Records

CLAIMS = [claim for subject in SUBJECTS.values() for claim in subject.claims]
SUMMARY = {"a": 0.5, "a/sem": 0.1, "b": 0.25, "lost": None, "change": 1.0, "change_low": 0.8,
           "change_high": 1.2, "chosen": "1.mlp@0"}  # fmt: skip


class Finished:
    """A finished run with these contents."""

    def __init__(self, summary, rows=(), **blocks):
        self.summary, self.records, self._rows = summary, Records(blocks), rows

    def rows(self, name):
        assert name == "table.json"
        return self._rows


# Two records of two seeds, two models; one array along rank.
P = [[[0.1, 0.2], [0.3, 0.6]], [[0.5, 0.2], [0.7, 0.4]]]
MODELS = xr.Dataset(
    {"p": (("step", "seed", "model"), np.array(P)),
     "values": (("step", "seed", "rank"), np.arange(12.0).reshape(2, 2, 3))},
    {"step": [0, 8], "seed": [3, 4], "model": ["full", "cut"]},
)  # fmt: skip
RUN = Finished(SUMMARY, models=MODELS, final=MODELS.isel(step=-1))


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


def test_every_picture_is_of_a_run_that_exists_and_whose_program_is_a_study():
    for subject in SUBJECTS.values():
        for run, _ in subject.pictures:
            assert PROGRAMS[RUNS[run].program].study is not None, run


@pytest.mark.parametrize("quick", [True, False])
def test_every_run_has_flags_that_its_program_takes(quick):
    planned = plan(SUBJECTS, RUNS, Path("runs"), quick=quick)
    assert set(planned) == {claim.run for claim in CLAIMS} | {
        needed for run in RUNS.values() for needed in run.needs()
    }
    for one in planned.values():
        given = dataclasses.replace(
            one, arguments=tuple(a.replace("{model}", "m").replace("{package}", "p")
                                 for a in one.arguments)
        )  # fmt: skip
        assert given.settings()


def test_a_run_comes_after_what_it_reads():
    order = list(plan(SUBJECTS, RUNS, Path("runs"), quick=True))
    for name in order:
        for needed in RUNS[name].needs():
            assert order.index(needed) < order.index(name)


def test_the_quick_runs_are_said_to_fit_into_half_an_hour():
    planned = plan(SUBJECTS, RUNS, Path("runs"), quick=True, package="m.gguf")
    assert sum(one.minutes for one in planned.values() if not one.missing) < 30


def test_claims_on_language_models_are_told_for_each_or_once_without():
    alone = plan(SUBJECTS, RUNS, Path("runs"), quick=True)
    assert alone["model"].missing == "not run: no weights (--models)"
    models = ("/a/pythia", "/b/pythia", "x y")
    assert named(models) == {"/a/pythia": "pythia", "/b/pythia": "pythia.2", "x y": "x_y"}
    whole = expanded(SUBJECTS, RUNS, models)
    planned = plan(whole, RUNS, Path("runs"), quick=True, models=models)
    asking = [one for one in SUBJECTS["models"].claims if "model" in RUNS[one.run].asks()]
    once = len(SUBJECTS["models"].claims) - len(asking)
    assert len(whole["models"].claims) == once + 3 * len(asking)
    assert planned["model-pythia.2"].arguments[0] == "--model=/b/pythia"
    assert not planned["model-pythia.2"].missing


def test_what_reads_a_run_that_cannot_begin_cannot_either():
    runs = {"first": Run("associative_memory", ("--text={package}",)),
            "second": Run("truncate", ("--run={first}",))}  # fmt: skip
    claim = dataclasses.replace(CLAIMS[0], run="second")
    subject = dataclasses.replace(next(iter(SUBJECTS.values())), claims=(claim,))
    planned = plan({"s": subject}, runs, Path("runs"), quick=True)
    assert planned["second"].missing == planned["first"].missing != ""


@pytest.mark.parametrize(
    ("check", "holds"),
    [
        (Near(Key("a"), 0.45, 0.05, ""), True),
        (Near(Key("a"), 0.4, 0.05, ""), False),
        (AtLeast(Key("a"), 0.5, ""), True),
        (AtLeast(Key("a"), 0.51, ""), False),
        (AtMost(Key("b") - Key("a"), -0.25, ""), True),
        (AtMost(Key("b") / Key("a"), 0.49, ""), False),
        (AtMost(Key("lost"), 1e9, ""), False),
        (AtLeast(Key("lost"), -1e9, ""), False),
        # .5 with an error of .1: two of them on the side of what is claimed.
        (AtLeast(Key("a"), 0.29, "", clear=True), True),
        (AtLeast(Key("a"), 0.31, "", clear=True), False),
        (AtMost(Key("a"), 0.71, "", clear=True), True),
        (AtMost(Key("a"), 0.69, "", clear=True), False),
        (AtLeast(Key("b") - Key("b"), 0.0, "", clear=True), False),
        (AtLeast(Key("b") - Key("b"), 0.0, ""), True),
        (Is("chosen", ("0.mlp@0", "1.mlp@0"), ""), True),
        (Is("chosen", ("0.mlp@0",), ""), False),
    ],
)
def test_a_check_holds_or_fails(check, holds):
    assert check.judge(RUN).holds is holds


def test_errors_add_as_if_independent():
    value, error, _ = (Key("a") - Key("change")).read(RUN)
    assert value == -0.5
    assert error == pytest.approx(math.hypot(0.1, 0.4 / 3.92))
    # d(a/b)/a = da / b where b is exact.
    assert (Key("a") / Key("b")).read(RUN)[:2] == (2.0, pytest.approx(0.4))


def test_a_key_that_is_not_there_is_no_verdict():
    for check in (
        Near(Key("no"), 0, 1, ""),
        Is("no", ("",), ""),
        AtMost(Key("a") - Key("no"), 0, ""),
    ):
        with pytest.raises(MissingError, match="no"):
            check.judge(RUN)


def test_rows_are_judged_by_the_one_nearest_to_its_allowance():
    row = {"family": "memory", "name": "value", "setting": "N=2", "predicted": 2.0, "measured": 2.1,
           "error": None, "tolerance": 0.1, "verdict": "ok"}  # fmt: skip
    statistical = row | {"name": "other", "error": 0.1, "tolerance": None, "measured": 2.3}
    found = Finished({"z_limit": 4.0}, [row, statistical])
    judged = Rows("memory/").judge(found)
    assert judged.holds
    # .1 of .2 allowed against .3 of .4.
    assert judged.measured == 2.3
    assert (judged.low, judged.high) == pytest.approx((1.6, 2.4))
    failed = statistical | {"verdict": "FAIL", "measured": None}
    assert not Rows("memory/other").judge(Finished({"z_limit": 4.0}, [row, failed])).holds
    # A row may say itself how far it may be off.
    said = Finished({}, [statistical | {"allowed": 0.2}])
    assert not Rows("memory/").judge(said).holds
    assert Rows("memory/").judge(Finished({}, [statistical | {"allowed": 0.3}])).holds
    with pytest.raises(MissingError):
        Rows("nothing").judge(found)


@pytest.mark.fault("A14")
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, None])
def test_what_is_not_finite_is_no_figure(value):
    found = {"a": value, "b": 1.0, "b/sem": 0.1}
    for check in (
        Near(Key("a"), 0.0, 1e9, ""), AtLeast(Key("a"), -1e9, ""), AtMost(Key("a"), 1e9, ""),
        AtLeast(Key("a"), 0.0, "", clear=True), AtLeast(Key("b") - Key("a"), -1e9, ""),
        AtMost(Key("a") / Key("b"), 1e9, ""),
    ):  # fmt: skip
        assert not check.judge(Finished(found)).holds


@pytest.mark.fault("A14")
def test_clearly_by_the_word_of_one_seed():
    """On the side that is claimed and no error to tell chance by: not clear, and not refuted."""
    alone = Finished({"a": 0.5, "b": 0.25})
    several = Finished({"a": 0.5, "a/sem": 0.0, "b": 0.25, "b/sem": 0.0})
    above, below = (kind(Key("a") - Key("b"), 0.0, "", clear=True) for kind in (AtLeast, AtMost))
    assert above.judge(alone).one_seed
    assert above.judge(alone).holds
    assert not below.judge(alone).holds
    assert not above.judge(several).one_seed
    assert not AtLeast(Key("a"), 0.0, "").judge(alone).one_seed


def judged(summary, *checks, **more):
    """The verdict on one claim about a run with this summary."""
    claim = dataclasses.replace(CLAIMS[0], run="recall", checks=checks, **more)
    subject = dataclasses.replace(SUBJECTS["recall"], claims=(claim,))
    (verdict,) = verdicts.judge({"recall": subject}, {}, {"recall": Finished(summary)})
    return verdict


@pytest.mark.fault("A14")
def test_a_claim_does_not_hold_on_survivors_unless_it_says_so():
    check = AtLeast(Key("a"), 0.0, "")
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
        return Rows("memory/").judge(Finished({"z_limit": limit}, [row])).holds

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
    flags = {"seed": 5, "num_seeds": 3}
    (tmp_path / "config.json").write_text(
        json.dumps({"program": "noisy_recall", "flags": flags}) + "\n"
    )
    values = np.array([[1.0, 7.0, 3.0], [2.0, np.nan, 4.0]])
    lost = np.array([[1.0, 1.0, 1.0], [1.0, np.nan, 1.0]])
    steps = {f"{block}/steps": np.array([0, 1]) for block in ("models", "train")}
    arrays = {"models/clean/full/p_noise": values, "train/loss": lost, **steps}
    np.savez(tmp_path / "trajectory.npz", **arrays)
    # As version 0.1 left it, and as it is written now.
    for found in (Found(tmp_path), Found(tmp_path)):
        at = {"set": "clean", "model": "full"}
        assert At("p_noise", "models", **at, step=0).read(found).value == 2.0
        assert At("p_noise", "models", **at, step=-1).read(found) == (3.0, pytest.approx(1.0), 2)
        assert found.records["models"].seed.values.tolist() == [5, 7]
        (tmp_path / records.FILE).write_bytes(
            records.encoded(records.of_arrays(arrays, range(5, 8)))
        )
        (tmp_path / "trajectory.npz").unlink(missing_ok=True)


def test_a_number_of_the_records_is_named_by_its_axes():
    assert At("p", model="full").read(RUN) == (pytest.approx(0.6), pytest.approx(0.1), 2)
    assert At("p", "models", model="cut", step=0).read(RUN).value == pytest.approx(0.4)
    assert At("p", model=Chosen("which")).read(
        Finished({"which": "cut"}, final=RUN.records["final"])
    ).value == pytest.approx(0.3)
    # rank has no coordinates: it is counted.
    assert At("values", "models", step=-1, rank=2).read(RUN).value == pytest.approx(9.5)
    for wrong in (
        At("q", model="full"), At("p", "no", model="full"), At("p", model="no"), At("p"),
        At("p", "models", model="full", step=4), At("values", "models", step=0, rank=3),
        At("p", model="full", rank=0),
    ):  # fmt: skip
        with pytest.raises(MissingError):
            wrong.read(RUN)


def test_a_difference_of_two_is_taken_seed_by_seed():
    """What moves both cancels: 0.5 - 0.2 and 0.7 - 0.4 are the same."""
    full, cut = (At("p", "models", model=model, step=-1) for model in ("full", "cut"))
    assert (full - cut).read(RUN) == (pytest.approx(0.3), pytest.approx(0.0), 2)
    assert (full / cut).read(RUN).value == pytest.approx(2.0)


def test_a_key_may_hold_what_the_run_has_chosen():
    found = Finished({"chosen": "1.mlp@0", "1.mlp@0/gain": 0.5, "1.mlp@0/gain/seeds": 2})
    gain = Key("{cut}/gain", cut=Chosen("chosen"))
    assert gain.read(found) == (0.5, None, 2)
    assert str(gain) == "chosen/gain"


@pytest.mark.parametrize(
    "quantity",
    [At("p", model="full"), At("p", "models", set="clean", model=Chosen("a"), step=-1),
     Key("a/b"), Key("a/{c}", c=Chosen("d")), Key("a") - At("p", model="full")],
)  # fmt: skip
def test_a_quantity_is_written_as_it_is_made(quantity):
    """The record in docs/claims.json knows a claim by this."""
    names = {"At": At, "Key": Key, "Chosen": Chosen, "Combined": Combined}
    assert repr(eval(repr(quantity), names)) == repr(quantity)
