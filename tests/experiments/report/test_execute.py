"""What is missing is run, once, in order; what fails stops nothing else and is told."""

import dataclasses
import json
import re
import sys
import threading
from pathlib import Path

import pytest

from truncated_weights.experiments.report import execute, experiment
from truncated_weights.experiments.report.plan import plan
from truncated_weights.experiments.report.runs import Run
from truncated_weights.experiments.report.settings import Report
from truncated_weights.experiments.run import directory as run_directory
from truncated_weights.experiments.run import stop
from truncated_weights.experiments.run.claim import AtMost, Claim, Key, Near, Subject
from truncated_weights.experiments.run.program import Place

RUNS = {
    "first": Run("associative_memory", ("--alpha=0.25",)),
    "second": Run("truncate", ("--run={first}",), (), (1.0, 2.0)),
    "third": Run("associative_memory", ("--alpha=0.75",), ("--alpha=0.5",)),
    "asked": Run("noisy_recall", ("--text={model}",)),
}


def claim(name, run, *checks):
    return Claim(name, name.title(), "paper", "where", "It is so.", run, checks)


SUBJECTS = {
    "memory": Subject(
        "Memory", "About.",
        (
            claim("right", "first", Near(Key("full/p_noise"), 0.3, 0.01, "law")),
            claim("cut", "second", AtMost(Key("full/p_noise"), 0.5, "law")),
            claim("same", "third", AtMost(Key("largest_logit_error"), 0.01, "law")),
            claim("waits", "asked", AtMost(Key("full/p_noise"), 0.5, "law")),
        ),
    )
}  # fmt: skip
WRONG = {
    "memory": dataclasses.replace(
        SUBJECTS["memory"],
        claims=(
            claim("wrong", "first", Near(Key("full/p_noise"), 0.5, 0.01, "law")),
            claim("right", "first", Near(Key("full/p_noise"), 0.3, 0.01, "law")),
        ),
    )
}


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    script = Path(__file__).with_name("stand_in.py")
    monkeypatch.setattr(execute, "COMMAND", (sys.executable, str(script)))
    monkeypatch.setattr(stop, "_asked", threading.Event())


@pytest.fixture
def planned(tmp_path):
    return plan(SUBJECTS, RUNS, tmp_path, quick=False)


def calls(folder):
    file = folder / "calls.txt"
    return file.read_text().split("\n")[:-1] if file.exists() else []


def test_each_is_run_once_and_found_again(planned, tmp_path):
    done = execute.execute(list(planned.values()))
    assert {name: one.finished for name, one in done.items()} == {
        "first": True, "second": True, "third": True, "asked": False,
    }  # fmt: skip
    assert done["asked"].reason == "not run: no weights (--models)"
    assert calls(tmp_path) == ["first ", "second ", "third "]
    again = execute.execute(list(planned.values()))
    assert calls(tmp_path) == ["first ", "second ", "third "]
    assert again["first"].seconds == done["first"].seconds


def test_a_failure_stops_what_needs_it_and_nothing_else(planned, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN", "fails=first")
    done = execute.execute(list(planned.values()))
    assert done["first"].reason == (
        "not run: the disk is full; what was written before is intact (first.log)"
    )
    assert done["second"].reason == "not run: first did not finish"
    assert done["third"].finished
    # The next time it continues, without --overwrite, and the rest follows.
    monkeypatch.delenv("STAND_IN")
    assert execute.execute(list(planned.values()))["second"].finished
    assert calls(tmp_path) == ["first ", "third ", "first ", "second "]


def test_what_is_there_with_other_settings_is_replaced(planned, tmp_path):
    execute.execute(list(planned.values()))
    quick = plan(SUBJECTS, RUNS, tmp_path, quick=True)
    assert execute.execute(list(quick.values()))["third"].finished
    assert calls(tmp_path)[3:] == ["third again"]
    config = json.loads((tmp_path / "third" / "config.json").read_text())
    assert config["flags"]["alpha"] == 0.5


def test_a_run_of_before_a_setting_counts_when_finished_and_begins_anew_when_not(planned, tmp_path):
    execute.execute(list(planned.values()))
    file = tmp_path / "first" / "config.json"
    config = json.loads(file.read_text())
    del config["flags"]["exponent"]
    file.write_text(json.dumps(config))
    assert execute.execute(list(planned.values()))["first"].finished
    assert len(calls(tmp_path)) == 3
    (tmp_path / "first" / "summary.json").unlink()
    assert execute.execute(list(planned.values()))["first"].finished
    assert calls(tmp_path)[3:] == ["first again"]


def test_a_damaged_run_is_made_again(planned, tmp_path):
    execute.execute(list(planned.values()))
    (tmp_path / "first" / "config.json").write_text("{")
    assert execute.execute(list(planned.values()))["first"].finished
    assert calls(tmp_path)[3:] == ["first again"]


def test_looking_runs_nothing_and_knows_quick_from_full(planned, tmp_path):
    execute.execute(list(planned.values()))
    elsewhere = tmp_path.with_name("moved")
    tmp_path.rename(elsewhere)
    plans = [plan(SUBJECTS, RUNS, elsewhere, quick=quick) for quick in (True, False)]
    found, done = execute.look(*plans)
    # second reads first, which has moved with it.
    assert [name for name, one in done.items() if one.finished] == ["first", "second", "third"]
    assert found["third"].arguments == ("--alpha=0.75",)
    (elsewhere / "third" / "summary.json").unlink()
    assert "unfinished" in execute.look(*plans)[1]["third"].reason
    assert len(calls(elsewhere)) == 3


def test_a_signal_ends_the_program_that_runs(planned, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN", "hangs=second")

    def ask():
        while "second " not in calls(tmp_path):
            pass
        stop._asked.set()

    asker = threading.Thread(target=ask)
    asker.start()
    with pytest.raises(stop.Interrupted):
        execute.execute(list(planned.values()))
    asker.join()
    assert calls(tmp_path) == ["first ", "second "]


def whole(out, subjects, runs=RUNS, **settings):
    """A report on these subjects: its exit code, its summary and its page."""
    config = Report(subjects=("memory",), **settings)
    directory = run_directory.open_run(Place("report", str(out), True), config)
    judged, summary = experiment.run(config, directory, subjects=subjects, runs=runs)
    code = experiment.report(judged, summary, directory)
    page = (out / "index.html").read_text()
    return code, json.loads((out / "summary.json").read_text()), page


def colours(page):
    """The verdict that each claim's heading shows."""
    pattern = r'id="([\w-]+)-title">[^<]*<span class="verdict ([\w-]+)">'
    return dict(re.findall(pattern, page))


def test_a_claim_made_to_fail_turns_red_and_the_exit_code_is_one(tmp_path, capsys):
    code, summary, page = whole(tmp_path / "out", WRONG)
    assert code == 1
    assert summary["wrong/verdict"] == "fails"
    assert summary["right/verdict"] == "holds"
    assert colours(page) == {"wrong": "fails", "right": "holds"}
    assert "FAIL wrong: full/p_noise is 0.3, expected 0.5 ± 0.01" in capsys.readouterr().out


def test_with_every_claim_right_it_ends_with_zero(tmp_path):
    code, summary, page = whole(tmp_path / "out", SUBJECTS)
    assert code == 0
    assert (summary["holds"], summary["fails"], summary["not_run"]) == (3, 0, 1)
    assert colours(page)["waits"] == "not-run"


def test_a_run_that_fails_is_no_success_though_no_claim_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN", "fails=third")
    code, summary, page = whole(tmp_path / "out", SUBJECTS)
    assert code == 1
    assert summary["fails"] == 0
    assert colours(page)["same"] == "not-run"


def test_a_claim_whose_key_is_gone_is_a_fault_and_no_verdict(tmp_path, capsys):
    gone = {"memory": dataclasses.replace(
        SUBJECTS["memory"], claims=(claim("gone", "first", AtMost(Key("no/such"), 1, "law")),)
    )}  # fmt: skip
    code, summary, _ = whole(tmp_path / "out", gone)
    assert code == 1
    assert summary["broken"] == 1
    assert "first holds no no/such" in capsys.readouterr().err


def test_from_draws_the_page_of_runs_elsewhere(tmp_path):
    whole(tmp_path / "out", SUBJECTS)
    before = calls(tmp_path / "out" / "runs")
    _, summary, page = whole(tmp_path / "redrawn", SUBJECTS, from_=str(tmp_path / "out"))
    assert summary["holds"] == 3
    assert colours(page)["right"] == "holds"
    assert calls(tmp_path / "out" / "runs") == before
