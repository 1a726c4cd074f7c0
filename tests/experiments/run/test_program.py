"""The contract of every program, on one that does nothing: exit codes and single lines."""

import dataclasses
import errno
import importlib
import itertools
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from truncated_weights.experiments.run import program, stop
from truncated_weights.experiments.run.program import RunFailedError, UserError
from truncated_weights.truncation.finite import NotFiniteError

NUMBER = itertools.count()
PROGRAMS = sorted(program.programs())
SCRIPT = """
import dataclasses, time
from truncated_weights.experiments.run import stop
from truncated_weights.experiments.run.program import Program
from truncated_weights.training.settings import Settings, setting

@dataclasses.dataclass(frozen=True)
class Config(Settings):
    alpha: float = setting(0.5, "A share.", lower=0.0, upper=1.0)
    names: tuple[str, ...] = setting(("a",), "Some names.")
    sizes: tuple[int, ...] = setting((), "Some sizes.", lower=1)
    loud: bool = setting(False, "Shout.")
    model: str = setting("m", "A name.", required=True)

def measure(config, directory):
    from truncated_weights.training.records import Records

    assert hash(config)
    print(config.alpha, config.names, config.sizes, directory.path, flush=True)
    if config.loud:
        stop.promise(lambda: "nothing is kept")
        while config.alpha == 0.75:  # a loop that looks between two pieces of work
            stop.check()
            time.sleep(0.01)
        time.sleep(60)  # one long piece of work
    return Records({})

def study():
    from truncated_weights.experiments.run.study import Study

    return Study(
        name="nothing", settings=Config, prepare=lambda config: config, measure=measure,
        summarise=lambda plan, records: {}, tell=lambda plan, records, summary: None,
    )

Program("nothing", Config, "Does nothing.", study).start()
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "nothing.py"
    path.write_text(SCRIPT)
    return path


def start(script, *arguments):
    out = script.parent / f"run{next(NUMBER)}"
    return subprocess.Popen(
        [sys.executable, script, f"--out={out}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_flags_become_a_hashable_configuration(script):
    running = start(script, "--alpha=0.25", "--names=a,b", "--sizes=3,4", "--overwrite")
    out, err = running.communicate(timeout=60)
    where = re.escape(str(script.parent))
    expected = rf"0\.25 \('a', 'b'\) \(3, 4\) ({where}/run\d+)\nfiles: \1\n"
    assert re.fullmatch(expected, out)
    assert (err, running.returncode) == ("", 0)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--alpha=1.5"], "--alpha=1.5"),
        (["--alpha=half"], "--alpha=half"),
        (["--aplha=0.5"], "aplha"),
        (["extra"], "'extra'"),
        (["--flagfile=absent.flags"], "absent.flags"),
        (["--flagfile=/"], "Is a directory"),
        (["--alpha=nan"], "--alpha=nan: it must be finite"),
        (["--alpha=inf"], "--alpha=inf: it must be finite"),
        (["--names=a,b,a"], "'a' is in it twice"),
        (["--names=0.1,0.10"], "'0.10' is in it twice"),
        (["--names=a,,b"], "an entry is empty"),
        (["--sizes=²"], "'²' is not a whole number"),
        (["--sizes=0"], "for 0: it must be at least 1"),
        (["--model="], "it must be given"),
        (["--out="], "--out is empty"),
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
@pytest.mark.parametrize("alpha", [0.75, 0.5])
def test_signals_end_in_130_and_say_what_is_kept(script, sent, alpha):
    running = start(script, f"--alpha={alpha}", "--loud")
    assert running.stdout.readline()
    time.sleep(0.1)
    began = time.monotonic()
    running.send_signal(sent)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    # What is going on may be told before, where nothing was for a while.
    assert err.endswith("error: interrupted; nothing is kept\n")
    assert err.count("\n") <= 2
    # The loop obeys at its next look, the long piece of work after the grace.
    if alpha == 0.5:
        assert time.monotonic() - began > 0.9 * stop.GRACE


def test_a_second_signal_does_not_wait(script):
    running = start(script, "--loud")
    assert running.stdout.readline()
    time.sleep(0.1)
    began = time.monotonic()
    running.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert time.monotonic() - began < 0.9 * stop.GRACE


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_shows_every_flag_at_once_and_brings_no_jax(program):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"experiments.{program}", "--help"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0
    module = importlib.import_module(f"truncated_weights.experiments.{program}.__main__")
    fields = dataclasses.fields(module.PROGRAM.settings)
    # from_ is --from: the underscore keeps the setting apart from Python's own word.
    names = {field.name.rstrip("_") for field in fields}
    names |= {"overwrite", "redraw", "compilation_cache"}
    for name in names:
        assert re.search(rf"--(\[no\])?{name}\b", done.stdout), name
    assert f"--out=runs/{program}" in done.stdout
    assert done.stdout.startswith(f"usage: python -m experiments.{program} ")
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert not {"jax", "numpy", "matplotlib", "flax"} & imported


def test_every_program_is_listed_with_its_question():
    done = subprocess.run(
        [sys.executable, "-m", "experiments"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    for name, question in program.programs().items():
        assert question.endswith((".", "?"))
        assert f"  {name} " in done.stdout
        assert question.split()[0] in done.stdout


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("--a and\n  --b exclude each other"), 2, "--a and --b exclude each other"),
        (RunFailedError("the loss is not finite"), 1, "the loss is not finite"),
        (NotFiniteError("the model: logits\nare not"), 1, "the model: logits are not"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x/trajectory.npz"),
            1,
            "[Errno 28] No space left on device: 'x/trajectory.npz'; "
            "what was written before is intact",
        ),
    ],
)  # fmt: skip
def test_what_a_user_can_cause_is_one_line(capsys, error, code, line):
    assert program.guarded(raising(error)) == code
    assert capsys.readouterr().err == f"error: {line}\n"


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.EIO, "broken disk")])
def test_what_is_our_own_fault_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        program.guarded(raising(error))


def test_a_name_that_no_file_can_have_is_one_line(capsys, tmp_path):
    def look():
        (tmp_path / ("x" * 300)).exists()

    assert program.guarded(look) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {str(tmp_path)[:100]}")
    assert told.endswith(f": {os.strerror(errno.ENAMETOOLONG)}\n")
    assert told.count("\n") == 1


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: 9 GB")])
def test_memory_that_ran_out_is_one_line(capsys, error):
    assert program.guarded(raising(error)) == 1
    assert capsys.readouterr().err.startswith("error: out of memory; lower ")


def test_a_terminal_without_the_sign_gets_another(script):
    done = subprocess.run(
        [sys.executable, script, "--names=±", f"--out={script.parent / 'sign'}"],
        capture_output=True, timeout=60, check=False,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"('?',)" in done.stdout


def test_success_and_a_code_of_its_own():
    assert program.guarded(lambda: None) == 0
    assert program.guarded(lambda: 3) == 3


def convert(error):
    with program.user_errors():
        raise error


def test_library_errors_about_arguments_become_user_errors():
    with pytest.raises(UserError, match="alpha is 2, it must lie"):
        convert(ValueError("alpha is 2,\nit must lie in [0, 1]"))
    with pytest.raises(TypeError):
        convert(TypeError("a bug"))


CALLED_BACK = """
import asyncio, sys, time
import tensorstore
from truncated_weights.experiments.run import program
program._quieten()

async def begin():
    nowhere = {"driver": "zarr", "kvstore": {"driver": "file", "path": "/proc/none"}}
    asyncio.ensure_future(asyncio.wait_for(tensorstore.open(nowhere, open=True), 10))
    await asyncio.sleep(0)

loop = asyncio.new_event_loop()
loop.run_until_complete(begin())
loop.close()
time.sleep(1)
"""


def test_threads_of_the_checkpointer_do_not_talk_beside_the_one_line():
    """What they call back is gone; without the hook this prints a traceback."""
    done = subprocess.run(
        [sys.executable, "-c", CALLED_BACK], capture_output=True, text=True, check=True, timeout=60
    )
    assert "Event loop is closed" not in done.stderr
