"""Where results go: never over what is read, never over a stranger's files, never two at once."""

import fcntl
import shutil
import signal

import pytest

from tests.faults.house import contents, refused, until
from tests.faults.programs import TINY, make_inputs
from tests.faults.test_interruptions import EVERY

READERS = [name for name, tiny in TINY.items() if tiny.reads]
# One of them without waiting for `make slow`.
SOME = [
    name if name == "model_dynamics" else pytest.param(name, marks=pytest.mark.slow)
    for name in READERS
]


@pytest.mark.parametrize(("name", "little"), EVERY)
def test_a_second_process_is_refused_while_the_first_lives(
    name, little, house, inputs, undisturbed, tmp_path, table
):
    whole, out = undisturbed(name), tmp_path / "run"
    first = house.start(TINY[name].module, TINY[name].command(inputs, out))
    assert until(lambda: (out / "config.json").exists() or first.wait(0) is not None)
    # So that it lives for as long as the second takes to look. Of a program that was too quick to
    # be stopped, what it held is held here.
    stopped = first.send(signal.SIGSTOP)
    with open(out / ".lock") as lock:
        if not stopped:
            fcntl.flock(lock, fcntl.LOCK_EX)
        second = house.run(TINY[name], inputs, out, "--overwrite")
    first.send(signal.SIGCONT)
    assert first.wait() == 0, first.said
    assert TINY[name].summary(out) == whole.summary
    line = refused(second, codes=(2,))
    assert str(out) in line
    table(name, "two at once", "refused")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("place", ["equal", "inside", "around"])
@pytest.mark.parametrize("name", SOME)
def test_an_output_on_its_own_input_is_refused(
    name, place, overwrite, house, inputs, tmp_path, table
):
    """The inputs keep every byte, whatever the output directory is."""
    mine = tmp_path / "inputs"
    shutil.copytree(inputs, mine, symlinks=True)
    source = mine / TINY[name].reads[1]
    out = {"equal": source, "inside": source / "below", "around": source.parent}[place]
    before = contents(mine)
    more = ("--overwrite",) if overwrite else ()
    process = house.run(TINY[name], mine, out, *more)
    refused(process, codes=(2,))
    assert contents(mine) == before
    table(name, "--out at its input", "refused")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(("name", "little"), EVERY)
def test_a_strangers_files_stay(
    name, little, overwrite, house, inputs, tmp_path, undisturbed, table
):
    """A directory that no run of this program made is used beside what is there, or not at all."""
    out = tmp_path / "mine"
    for place in ("checkpoints/precious.bin", "figures/thesis.png", "notes.txt", "cache.jsonl",
                  "metrics.jsonl", "records.nc"):  # fmt: skip
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        (out / place).write_text(place)
    before = contents(out)
    process = house.run(TINY[name], inputs, out, *(["--overwrite"] if overwrite else []))
    left = contents(out)
    assert {place: left.get(place) for place in before} == before
    if process.code == 0:
        assert TINY[name].summary(out) == undisturbed(name).summary
    else:
        refused(process, codes=(2,))
    table(name, "a stranger's directory", "held" if process.code == 0 else "refused")


@pytest.mark.parametrize("name", TINY)
def test_an_empty_output_name_is_refused(name, house, tmp_path, table):
    arguments = TINY[name].command(tmp_path, tmp_path)[:-1]
    process = house.start(TINY[name].module, [*arguments, "--out="])
    process.wait()
    assert "--out" in refused(process, codes=(2,))
    table(name, "--out=", "refused")


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in READERS if n != "fetch_model"])
def test_nothing_of_an_input_that_was_retrained_is_used(
    name, house, inputs, undisturbed, tmp_path, table
):
    """An unfinished or finished run of which the input has changed under it."""
    mine, whole = tmp_path / "inputs", undisturbed(name)
    shutil.copytree(inputs, mine, symlinks=True)
    outs = {kind: tmp_path / kind for kind in ("finished", "unfinished")}
    for kind, out in outs.items():
        assert house.run(TINY[name], mine, out).code == 0
        assert TINY[name].summary(out) == whole.summary
        if kind == "unfinished":
            (out / "summary.json").unlink()
    shutil.rmtree(mine)

    make_inputs(mine, TINY[name], house.must, seed=7)
    fresh = tmp_path / "fresh"
    assert house.run(TINY[name], mine, fresh).code == 0
    expected = TINY[name].summary(fresh)
    assert expected != whole.summary
    process = house.run(TINY[name], mine, outs["finished"], "--overwrite")
    assert process.code == 0, process.said
    assert TINY[name].summary(outs["finished"]) == expected
    assert contents(outs["finished"]).keys() == contents(fresh).keys()
    process = house.run(TINY[name], mine, outs["unfinished"])
    if process.code == 0:
        assert TINY[name].summary(outs["unfinished"]) == expected
    else:
        refused(process, codes=(2,))
    table(name, "retrained input", "held" if process.code == 0 else "refused")
