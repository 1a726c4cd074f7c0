"""Progress where there is no terminal: plain lines by share done and by time."""

import pytest

from truncated_weights.experiments.run import progress


class Clock:
    now = 100.0


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(progress.time, "monotonic", lambda: found.now)
    monkeypatch.setattr(progress, "_voice", progress._Voice())
    return found


def test_a_line_for_every_tenth_and_after_eight_seconds(clock, capsys):
    shown = progress.Progress(1000)
    for step in range(50, 1001, 50):
        clock.now += 1.0
        shown.update(step, loss=0.5)
    shown.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "step 100/1000  loss 0.5  50.0 step/s, 18 s left"
    slow = progress.Progress(3, label="model")
    clock.now += 20
    slow.tick(1)
    slow.tick(1)
    assert capsys.readouterr().err == "model 1/3  20.0 s/model, 40 s left\n"


def test_a_silence_is_broken_by_what_is_going_on(clock, capsys):
    progress.stage("reading weights")
    clock.now += 5
    assert not progress.break_silence()
    clock.now += 4
    assert progress.break_silence()
    assert not progress.break_silence()
    assert capsys.readouterr().err == "reading weights: 9 s so far\n"


def test_a_continued_run_tells_the_rate_of_its_own_steps(clock, capsys):
    shown = progress.Progress(100, start=90)
    clock.now += 2
    shown.update(100)
    assert capsys.readouterr().err == "step 100/100  5.0 step/s\n"
