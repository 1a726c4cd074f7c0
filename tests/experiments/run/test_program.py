"""The contract of every program, on one that does nothing: exit codes and single lines."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from experiments.run import program
from experiments.run.program import RunFailedError, UserError

SCRIPT = """
import dataclasses, signal, sys, time
from absl import flags
from experiments.run import program

flags.DEFINE_float("alpha", 0.5, "A share.", lower_bound=0.0, upper_bound=1.0)
flags.DEFINE_list("names", ["a"], "Some names.")
program.define_output_flags("nothing")

@dataclasses.dataclass(frozen=True)
class Config:
    alpha: float
    names: tuple

def main():
    config = program.config_from_flags(Config)
    assert hash(config)
    print(config.alpha, config.names, flags.FLAGS.out, flags.FLAGS.overwrite, flush=True)
    if config.alpha == 0.75:
        time.sleep(60)

program.run(main)
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "nothing.py"
    path.write_text(SCRIPT)
    return path


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_flags_become_a_hashable_configuration(script):
    running = start(script, "--alpha=0.25", "--names=a,b", "--overwrite")
    out, err = running.communicate(timeout=60)
    assert (out, err, running.returncode) == ("0.25 ('a', 'b') runs/nothing True\n", "", 0)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--alpha=1.5"], "--alpha=1.5"),
        (["--alpha=half"], "--alpha=half"),
        (["--aplha=0.5"], "aplha"),
        (["extra"], "'extra'"),
        (["--flagfile=absent.flags"], "absent.flags"),
    ],
)
def test_a_bad_command_line_is_one_line_and_exit_2(script, arguments, named):
    running = start(script, *arguments)
    out, err = running.communicate(timeout=60)
    assert (out, running.returncode) == ("", 2)
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert named in err


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_in_130_and_say_how_to_continue(script, sent):
    running = start(script, "--alpha=0.75")
    assert running.stdout.readline()
    time.sleep(0.05)
    running.send_signal(sent)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert err == "error: interrupted; the same command continues from the last checkpoint\n"


def raising(error):
    def main():
        raise error

    return main


@pytest.fixture
def quiet_signals():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("quiet_signals")
@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("--a and\n  --b exclude each other"), 2, "--a and --b exclude each other"),
        (RunFailedError("the loss is not finite"), 1, "the loss is not finite"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x/trajectory.npz"),
            1,
            "[Errno 28] No space left on device: 'x/trajectory.npz'; "
            "what was written before is intact",
        ),
        (KeyboardInterrupt(), 130, "interrupted; the same command continues from the last "
         "checkpoint"),
    ],
)  # fmt: skip
def test_what_a_user_can_cause_is_one_line(capsys, error, code, line):
    assert program._guarded(raising(error)) == code
    assert capsys.readouterr().err == f"error: {line}\n"


@pytest.mark.usefixtures("quiet_signals")
@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.EIO, "broken disk")])
def test_what_is_our_own_fault_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        program._guarded(raising(error))


@pytest.mark.usefixtures("quiet_signals")
def test_success_and_a_code_of_its_own():
    assert program._guarded(lambda: None) == 0
    assert program._guarded(lambda: 3) == 3


def convert(error):
    with program.user_errors():
        raise error


def test_library_errors_about_arguments_become_user_errors():
    with pytest.raises(UserError, match="alpha is 2, it must lie"):
        convert(ValueError("alpha is 2,\nit must lie in [0, 1]"))
    with pytest.raises(TypeError):
        convert(TypeError("a bug"))
