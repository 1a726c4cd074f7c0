"""Output that nobody reads: the run goes on to its result, and is told where it cannot."""

import os
import shlex
import subprocess
import sys

import pytest

LOUD = """
import sys
from truncated_weights.experiments.run import stop, streams
streams.settle()
with open(sys.argv[1], "w") as result:  # gets the first descriptor that is free
    for number in range(int(sys.argv[2])):
        print("line", number)
        print("progress", number, file=sys.stderr)
    result.write("whole")
if sys.argv[3:]:
    stop.leave()
stop.farewell(0)
"""


def loud(result, *more, lines=5000, redirected="", **rest):
    command = shlex.join([sys.executable, "-c", LOUD, str(result), str(lines), *more])
    return subprocess.run(f"{command} {redirected}", shell=True, timeout=60, check=False, **rest)


@pytest.mark.fault("B4")
@pytest.mark.parametrize("more", [(), ("leave",)])
def test_a_run_whose_reader_goes_away_ends_with_its_result(tmp_path, more):
    reader, writer = os.pipe()
    os.close(reader)
    done = loud(tmp_path / "result", *more, stdout=writer, stderr=writer)
    os.close(writer)
    assert done.returncode == (130 if more else 0)
    assert (tmp_path / "result").read_text() == "whole"


@pytest.mark.fault("B4")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_output_is_no_file_of_the_runs(tmp_path, closed):
    done = loud(tmp_path / "result", redirected=closed, capture_output=True, text=True)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert (tmp_path / "result").read_text() == "whole"
    assert done.stdout.count("line") in (0, 5000)


@pytest.mark.fault("B4")
def test_output_that_a_disk_refuses_is_told(tmp_path):
    done = loud(
        tmp_path / "result", lines=9, redirected=">/dev/full", capture_output=True, text=True
    )
    told = done.stderr.splitlines()[-1]
    assert told.startswith("error: the output could not be written: ")
    assert "No space left" in told
    assert done.returncode == 1


@pytest.mark.fault("D3")
def test_the_list_of_programs_may_be_cut_short():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "experiments"], stdout=writer, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
