"""A run reaches nothing but its own: links, strangers, a directory that vanished, locks."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.experiments.run.test_run_directory import Config, begin, bytes_of, fail, finished
from truncated_weights.experiments.run import program, stop
from truncated_weights.experiments.run.directory import holding, open_finished, previous
from truncated_weights.experiments.run.program import RunFailedError, UserError


@pytest.fixture
def precious(tmp_path):
    """A folder of somebody else's, with what a run might take for its own."""
    folder = tmp_path / "precious"
    folder.mkdir()
    for name in ("thesis.txt", "old.png", "manifest.json", "part.npz"):
        (folder / name).write_text('["thesis.txt"]')
    return folder


@pytest.mark.fault("B1")
@pytest.mark.parametrize("in_the_way", ["a file", "a full disk"])
def test_the_old_run_stays_where_it_cannot_be_moved_aside(tmp_path, monkeypatch, in_the_way):
    out = tmp_path / "run"
    finished(out)
    before = bytes_of(out)
    if in_the_way == "a file":
        (out / ".previous").write_text("mine")
    else:

        def refuse(self, *_, **__):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

        monkeypatch.setattr(Path, "mkdir", refuse)
        monkeypatch.setattr(holding, "make", lambda folder: None)
    assert program.guarded(fail(out, UserError("not reached"))) in (1, 2)
    monkeypatch.undo()
    left = bytes_of(out)
    assert {name: left.get(name) for name in before} == before


@pytest.mark.fault("B2")
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", [".previous", ".discarded", "figures", "checkpoints"])
@pytest.mark.parametrize("how", ["finished", "unfinished"])
def test_links_to_other_folders_are_refused_and_theirs_stays(
    tmp_path, precious, name, how, overwrite
):
    out = tmp_path / "run"
    finished(out)
    if how == "unfinished":
        (out / "summary.json").unlink()
    shutil.rmtree(out / name, ignore_errors=True)
    (out / name).symlink_to(precious)
    before, mine = bytes_of(precious), bytes_of(out)
    with pytest.raises(UserError, match=rf"{name} is a link"):
        begin(out, overwrite=overwrite)
    assert (bytes_of(precious), bytes_of(out)) == (before, mine)
    if how == "finished":
        with pytest.raises(UserError, match=rf"{name} is a link"):
            open_finished(out, "some_program", Config)


@pytest.mark.fault("B2")
def test_a_link_that_comes_while_a_run_goes_on_is_not_written_through(tmp_path, precious):
    run = begin(tmp_path / "run")
    before = bytes_of(precious)
    for name, write in (
        ("figures", lambda: run.save_figure(Figure(figsize=(1, 1)), "old")),
        ("checkpoints", lambda: run.keep("part", {"x": np.ones(2)})),
        ("checkpoints", lambda: run.forget("part")),
        ("metrics.jsonl", lambda: run.append_metrics({"step": 1})),
        ("cache.jsonl", lambda: run.own("cache.jsonl")),
    ):
        (run.path / name).symlink_to(precious / "thesis.txt" if "." in name else precious)
        with pytest.raises(UserError, match=rf"{name} is a link"):
            write()
        (run.path / name).unlink()
    assert bytes_of(precious) == before


@pytest.mark.fault("B2")
def test_what_a_manifest_lists_behind_a_link_is_not_removed(tmp_path, precious):
    out = tmp_path / "run"
    run = begin(out)
    run.write_text("figures/old.png", "mine")
    shutil.rmtree(out / "figures")
    (out / "figures").symlink_to(precious)
    before = bytes_of(precious)
    run.take_back()
    assert bytes_of(precious) == before


@pytest.mark.fault("B2")
@pytest.mark.parametrize("name", ["a\0b", ".lock", ".previous/x", ".", "", "/etc", "a/../../b", 3])
def test_a_manifest_of_other_things_than_files_is_damaged(tmp_path, name):
    (tmp_path / "manifest.json").write_text(json.dumps([name]))
    with pytest.raises(ValueError, match="is damaged"):
        previous.owned(tmp_path)


@pytest.mark.fault("B2")
def test_names_of_a_manifest_are_no_patterns_and_locks_no_links(tmp_path):
    out = tmp_path / "run"
    run = begin(out)
    run.write_text("*", "mine")
    others = [out / ".notes.0123456789abcdef", out / ".x.12"]
    for other in others:
        other.write_text("theirs")
    begin(out)
    assert all(other.exists() for other in others)
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in (".lock", ".writable"):
        (linked / name).symlink_to(tmp_path / f"made by {name}")
    with pytest.raises(UserError, match=r"\.lock cannot be opened"):
        begin(linked)
    assert not list(tmp_path.glob("made by*"))


@pytest.mark.fault("B4")
@pytest.mark.parametrize("how", ["removed", "emptied", "replaced"])
def test_a_directory_that_vanishes_is_told_and_never_made_again(tmp_path, capsys, how):
    out = tmp_path / "run"

    def main():
        run = begin(out)
        run.append_metrics({"step": 1})
        shutil.rmtree(out)
        if how != "removed":
            out.mkdir()
        if how == "replaced":
            finished(tmp_path / "other")
            shutil.copytree(tmp_path / "other", out, dirs_exist_ok=True)
        left.update(bytes_of(out))
        with pytest.raises(RunFailedError, match="was removed or replaced"):
            run.append_metrics({"step": 2})
        run.finish({"x": 1})

    left = {}
    assert program.guarded(main) == 1
    assert capsys.readouterr().err == (
        f"error: {out} was removed or replaced while the run was going on\n"
    )
    assert bytes_of(out) == left
    assert out.exists() == (how != "removed")


@pytest.mark.fault("B4")
def test_a_directory_that_vanishes_after_the_look_is_not_made_again(tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"

    def main():
        run = begin(out)
        run.append_metrics({"step": 1})
        look = run.gone

        def looked() -> str:
            told = look()
            shutil.rmtree(out, ignore_errors=True)
            return told

        monkeypatch.setattr(run, "gone", looked)
        run.append_metrics({"step": 2})

    assert program.guarded(main) == 1
    assert capsys.readouterr().err.endswith("was removed or replaced while the run was going on\n")
    assert not out.exists()


@pytest.mark.fault("B4")
@pytest.mark.parametrize("told", [False, True])
def test_a_library_that_fails_in_a_vanished_directory_is_one_line(tmp_path, capsys, told):
    def main():
        run = begin(tmp_path / "run")
        shutil.rmtree(run.path)
        with program.user_errors() if told else contextlib.nullcontext():
            (run.path / "checkpoints" / "1").mkdir()

    assert program.guarded(main) == 1
    assert capsys.readouterr().err.endswith("was removed or replaced while the run was going on\n")


def test_another_failure_is_not_blamed_on_the_directory_that_is_cleared_after_it(tmp_path):
    def main():
        begin(tmp_path / "run")
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        program.guarded(main)
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.fault("B4")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_without_locks_a_file_says_who_has_the_directory(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(holding, "_locks", {})
    leaving = []
    monkeypatch.setattr(stop, "_before_leaving", leaving)
    holding.lock(tmp_path)
    held = tmp_path / holding.HELD
    monkeypatch.setattr(holding, "_locks", {})  # as another process sees it
    with pytest.raises(UserError, match=r"in use by the process that \.held names"):
        holding.lock(tmp_path)
    # On another host nobody can tell whether it lives.
    mine = held.read_text()
    held.write_text("elsewhere 1 1")
    with pytest.raises(UserError, match="in use"):
        holding.lock(tmp_path)
    # One that was killed is no hindrance, nor is another that got its number.
    host, pid, _ = mine.split()
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], text=True,
                           capture_output=True, check=True).stdout.strip()  # fmt: skip
    for stale in (f"{host} {ended} 1", f"{host} {pid} 1"):
        held.write_text(stale)
        monkeypatch.setattr(holding, "_locks", {})
        holding.lock(tmp_path)
        assert held.read_text() == mine
    leaving[-1]()
    assert not held.exists()
    assert not list(tmp_path.glob(f"{holding.HELD}*"))


@pytest.mark.fault("B4")
def test_a_lock_of_a_directory_that_was_removed_holds_no_other(tmp_path):
    out = tmp_path / "run"
    begin(out)
    shutil.rmtree(out)
    run = begin(out)
    assert (run.path / ".lock").exists()
