"""Kills and signals at random moments: the same command ends as if nothing had happened."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.faults.house import refused, until
from tests.faults.programs import ROOT, TINY

# In `make thorough` a little of the matrix over one program; in `make slow` all over all programs.
EVERY = [
    pytest.param("associative_memory", True, id="little", marks=pytest.mark.thorough),
    *(pytest.param(name, False, id=name, marks=pytest.mark.slow) for name in TINY),
]
SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}
# From the signal to the end, on a machine that may be busy: the programs give a dispatch three
# seconds to end by itself.
AT_ONCE = 20.0


def continued(house, inputs, name, out, expected):
    """Run the same command to its end; it must find what an undisturbed run found."""
    process = house.run(TINY[name], inputs, out)
    assert process.code == 0, process.said
    assert "Traceback" not in process.said
    assert TINY[name].summary(out) == expected


def disturbed(start, sent, seconds):
    """A run that got a signal after so many seconds, and earlier if it had ended by then.

    start() begins a fresh run. The machine may be less busy than when the time was taken.
    """
    for attempt in range(5):
        process = start()
        # Before its handlers are there a process dies of a signal, as any process does.
        assert until(lambda p=process: listening(p.pid) or p.wait(0) is not None)
        time.sleep(seconds / 2**attempt)
        if process.send(sent) and process.wait(AT_ONCE) != 0:
            return process
    raise AssertionError("the run ended before it could be disturbed")


@pytest.mark.parametrize(("name", "little"), EVERY)
def test_killed_three_times_and_continued(
    name, little, house, inputs, undisturbed, tmp_path, table
):
    whole, chance = undisturbed(name), random.Random(f"kill {name}")
    outs = (tmp_path / f"run{number}" for number in itertools.count())

    def begin():
        nonlocal out
        out = next(outs)
        return house.start(TINY[name].module, TINY[name].command(inputs, out))

    out = tmp_path
    disturbed(begin, signal.SIGKILL, whole.seconds * chance.uniform(0.3, 0.95))
    for _ in range(0 if little else 2):
        process = house.start(TINY[name].module, TINY[name].command(inputs, out))
        time.sleep(whole.seconds * chance.uniform(0.1, 0.6))
        process.send(signal.SIGKILL)
        process.wait()
        if (out / "summary.json").exists():  # it had ended, or was about to
            break
        assert process.code == -signal.SIGKILL
    if not (out / "summary.json").exists():
        continued(house, inputs, name, out, whole.summary)
    assert TINY[name].summary(out) == whole.summary
    table(name, "kill -9", "held")


@pytest.mark.parametrize("sent", SIGNALS)
@pytest.mark.parametrize(("name", "little"), EVERY)
def test_signals_end_it_at_once(name, little, sent, house, inputs, undisturbed, tmp_path, table):
    whole, chance = undisturbed(name), random.Random(f"{sent} {name}")
    outs = (tmp_path / f"run{number}" for number in itertools.count())

    def begin():
        nonlocal out
        out = next(outs)
        return house.start(TINY[name].module, TINY[name].command(inputs, out))

    out = tmp_path
    # One while it starts, one while it works.
    for early in ((0.4, 0.9),) if little else ((0.0, 0.4), (0.4, 0.9)):
        process = disturbed(begin, SIGNALS[sent], whole.seconds * chance.uniform(*early))
        assert process.code == 130, (process.code, process.said[-2000:])
        assert refused(process, codes=(130,)).startswith("error: interrupted; ")
        with pytest.raises(ProcessLookupError):  # nothing of its session goes on
            os.killpg(process.pid, 0)
        table(name, sent, "held")
    if not little:
        continued(house, inputs, name, out, whole.summary)


def listening(pid):
    """Whether the process catches SIGTERM yet: from then on no signal may be lost."""
    try:
        with open(f"/proc/{pid}/status") as file:
            caught = next(line for line in file if line.startswith("SigCgt"))
    except (FileNotFoundError, ProcessLookupError):
        return False
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.slow
@pytest.mark.parametrize("sent", SIGNALS)
@pytest.mark.parametrize("name", TINY)
def test_signals_during_imports(name, sent, inputs, tmp_path, table):
    """A process of its own, so that its imports are what is interrupted."""
    delay = random.Random(f"import {sent} {name}").uniform(0.0, 1.0)
    for attempt in range(5):
        command = TINY[name].command(inputs, tmp_path / str(attempt))
        running = subprocess.Popen(
            [sys.executable, "-m", TINY[name].module, *command],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert until(lambda r=running: listening(r.pid))
        time.sleep(delay / 2**attempt)
        running.send_signal(SIGNALS[sent])
        _, err = running.communicate(timeout=AT_ONCE)
        # What imports little may be at its end by then, which it reaches within the grace.
        if running.returncode != 0:
            break
    assert running.returncode == 130, err[-2000:]
    assert err.splitlines()[-1].startswith("error: interrupted; "), err[-2000:]
    assert "Traceback" not in err
    table(name, f"{sent} in imports", "held")
