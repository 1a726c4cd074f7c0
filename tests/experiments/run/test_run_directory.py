"""The run directory: what it records, who may open it, what is kept and what is put back."""

import csv
import dataclasses
import errno
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from truncated_weights.experiments.run import program
from truncated_weights.experiments.run.directory import (
    open_finished,
    open_run,
    previous,
    read_config,
    settings_of,
)
from truncated_weights.experiments.run.program import Place, UserError
from truncated_weights.training.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    alpha: float = setting(0.1, "A share.")
    names: tuple[str, ...] = setting(("a", "b"), "Names.")
    steps: int = setting(3, "Steps.")


def begin(path, config=None, *, overwrite=False, name="some_program", **rest):
    return open_run(Place(name, str(path), overwrite), config or Config(), **rest)


def contents(path):
    found = {str(p.relative_to(path)) for p in path.rglob("*")}
    return found - {".lock"}


def bytes_of(path):
    return {p: (path / p).read_bytes() for p in contents(path) if (path / p).is_file()}


NEW = {"config.json", "manifest.json"}


def test_a_new_directory_records_program_flags_inputs_versions_device_and_commit(tmp_path):
    run = begin(tmp_path / "deep" / "run", digests={"--run": "abc"})
    stored = json.loads((run.path / "config.json").read_text())
    assert stored["program"] == "some_program"
    assert stored["flags"] == {"alpha": 0.1, "names": ["a", "b"], "steps": 3}
    assert stored["inputs"] == {"--run": "abc"}
    assert {"jax", "flax", "optax", "numpy"} <= set(stored["versions"])
    assert "cpu" in stored["device"]
    assert read_config(run.path) == stored["flags"]
    assert settings_of(run.path, "some_program", Config) == Config()
    assert contents(run.path) == NEW


def test_an_unfinished_run_with_the_same_settings_is_continued(tmp_path):
    before = begin(tmp_path, digests={"--run": "abc"})
    before.append_metrics({"step": 1})
    stamp = (tmp_path / "config.json").stat().st_mtime_ns
    after = begin(tmp_path, digests={"--run": "abc"})
    assert (tmp_path / "config.json").stat().st_mtime_ns == stamp
    assert (after.path / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_other_settings_and_changed_inputs_are_refused_by_name(tmp_path):
    begin(tmp_path, digests={"--run": "abc"})
    with pytest.raises(UserError, match=r"--alpha=0.1, not 0.2; add --overwrite"):
        begin(tmp_path, Config(alpha=0.2))
    with pytest.raises(UserError, match=r"--run has changed since; add --overwrite"):
        begin(tmp_path, digests={"--run": "def"})
    begin(tmp_path, Config(alpha=0.2), overwrite=True)
    assert read_config(tmp_path)["alpha"] == 0.2


def finished(path):
    run = begin(path)
    run.write_arrays({"x": np.arange(3)})
    run.write_csv("extra_table.csv", [{"a": 1}])
    run.save_figure(Figure(figsize=(1, 1)), "old")
    run.keep("part", {"y": np.ones(2)})
    run.append_metrics({"step": 0})
    run.finish({"x": 1.0})
    return run


def test_overwriting_leaves_nothing_stale_and_touches_nothing_of_others(tmp_path):
    finished(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "figures" / "mine.png").write_text("mine too")
    before = bytes_of(tmp_path)
    with pytest.raises(UserError, match="finished run; add --overwrite"):
        begin(tmp_path)
    run = begin(tmp_path, Config(alpha=0.2), overwrite=True)
    # Until its first result the old ones lie aside.
    aside = {p.removeprefix(".previous/") for p in contents(tmp_path) if p.startswith(".previous/")}
    assert {"summary.json", "extra_table.csv", "checkpoints/part.npz", "config.json"} <= aside
    run.append_metrics({"step": 0})
    mine = {"notes.txt", "figures", "figures/mine.png"}
    assert contents(tmp_path) == NEW | mine | {"metrics.jsonl"}
    assert (tmp_path / "notes.txt").read_bytes() == before["notes.txt"]


def fail(path, how):
    """Overwrite in a guarded program that writes something and fails before its first result."""

    def main():
        run = begin(path, Config(alpha=0.2), overwrite=True)
        run.write_text("new.txt", "new")
        run.write_text("extra_table.csv", "new")
        run.rewrite_metrics([])
        raise how

    return main


@pytest.mark.parametrize("how", [UserError("no"), OSError(errno.ENOSPC, "full"), ValueError("bug")])
def test_a_run_that_fails_before_its_first_result_leaves_the_old_ones(tmp_path, how):
    finished(tmp_path)
    before = bytes_of(tmp_path)
    try:
        assert program.guarded(fail(tmp_path, how)) in (1, 2)
    except ValueError:
        assert isinstance(how, ValueError)
    assert bytes_of(tmp_path) == before
    assert not (tmp_path / ".previous").exists()


def test_a_new_run_that_fails_at_once_leaves_an_empty_directory(tmp_path):
    def main():
        begin(tmp_path / "run").own("checkpoints/")
        raise UserError("no")

    assert program.guarded(main) == 2
    assert contents(tmp_path / "run") == set()


@pytest.mark.parametrize("stop_after", range(25))
def test_a_kill_at_any_rename_of_an_overwrite_loses_nothing(tmp_path, monkeypatch, stop_after):
    finished(tmp_path)
    before = bytes_of(tmp_path)
    count = 0
    real = Path.rename

    def rename(self, target):
        nonlocal count
        count += 1
        if count > stop_after:
            raise KeyboardInterrupt  # stands for the kill: nothing after it is executed
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        try:
            run = begin(tmp_path, Config(alpha=0.2), overwrite=True)
            run.write_text("extra_table.csv", "new")
            run.write_text("new.txt", "new")
            # Opened again after a kill: put_back is itself cut short at some rename.
            previous.put_back(tmp_path)
        except KeyboardInterrupt:
            pass
    with pytest.raises(UserError, match="holds a finished run"):
        begin(tmp_path)
    assert bytes_of(tmp_path) == before


def test_what_has_begun_well_is_not_put_back(tmp_path):
    finished(tmp_path)
    begin(tmp_path, Config(alpha=0.2), overwrite=True)
    # As a kill in the midst of removing leaves it.
    (tmp_path / ".previous").rename(tmp_path / ".discarded")
    begin(tmp_path, Config(alpha=0.2))
    assert contents(tmp_path) == NEW


def test_what_is_no_run_of_this_program_is_refused_and_stays(tmp_path):
    stranger, other, empty = (tmp_path / name for name in ("stranger", "other", "empty"))
    (stranger / "checkpoints").mkdir(parents=True)
    (stranger / "checkpoints" / "theirs").write_text("precious")
    run = begin(other, name="another_program")
    run.finish({})
    damaged = tmp_path / "damaged"
    begin(damaged).finish({})
    (damaged / "config.json").write_text("{")
    lost = tmp_path / "lost"
    begin(lost).finish({})
    (lost / "manifest.json").write_text('["../other/summary.json"]')
    before = {p: bytes_of(p) for p in (stranger, other, damaged, lost)}
    for overwrite in (False, True):
        for path, message in (
            (stranger, "is not empty and holds no run"),
            (other, "is a run of another_program, not of some_program"),
            (damaged, r"config.json is damaged"),
            (lost, r"manifest.json is damaged"),
        ):
            with pytest.raises(UserError, match=message):
                begin(path, overwrite=overwrite)
            assert bytes_of(path) == before[path]
    empty.mkdir()
    (empty / ".gitkeep").touch()
    begin(empty)


def test_results_and_what_they_are_read_from_do_not_share_a_directory(tmp_path):
    inside = tmp_path / "run" / "checkpoints"
    inside.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "run")
    for out, read, message in (
        (tmp_path / "run", tmp_path / "run", r"is --run="),
        (link, tmp_path / "run", r"is --run="),
        (tmp_path / "run", inside, r"holds --run="),
        (inside / "new", tmp_path / "run", r"lies in --run="),
    ):
        with pytest.raises(UserError, match=message):
            begin(out, overwrite=True, inputs={"run": read})
    assert not (inside / "new").exists()
    begin(tmp_path / "run2", inputs={"run": tmp_path / "run", "text": ""})


HOLDER = """
import sys, dataclasses
from truncated_weights.experiments.run.directory import open_run
from truncated_weights.experiments.run.program import Place, UserError
from truncated_weights.training.settings import Settings
@dataclasses.dataclass(frozen=True)
class Config(Settings): pass
try:
    open_run(Place("p", sys.argv[1], True), Config())
except UserError as error:
    sys.exit(str(error))
print("open", flush=True)
sys.stdin.readline()
"""


def test_one_process_at_a_time_and_a_kill_frees_the_directory(tmp_path):
    def start():
        return subprocess.Popen(
            [sys.executable, "-c", HOLDER, tmp_path / "run"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    with start() as first:
        assert first.stdout.readline() == "open\n"
        with start() as second:
            _, err = second.communicate(timeout=120)
            assert (second.returncode, err) == (
                1,
                f"--out={tmp_path / 'run'} is in use by another process\n",
            )
        first.kill()
        first.wait()
        with start() as third:
            assert third.stdout.readline() == "open\n"
            third.kill()


def test_a_place_that_cannot_be_a_directory(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="cannot be written"):
            begin(path)


def test_a_directory_without_write_permission(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match="cannot be written: Permission denied"):
        begin(tmp_path)


def test_numbers_keep_all_their_digits_and_json_is_strict(tmp_path):
    run = begin(tmp_path)
    values = {"a": 1 / 3, "b": float(np.float32(0.1)), "c": np.float64(1e-300), "d": np.int64(7)}
    run.finish(values | {"e": math.nan, "f": [np.inf, 1.0], "g": {"h": np.array([1, -np.inf])}})
    text = (tmp_path / "summary.json").read_text()
    expected = values | {"e": None, "f": [None, 1.0], "g": {"h": [1.0, None]}}
    assert json.loads(text, parse_constant=pytest.fail) == expected
    run.append_metrics({"step": 1, "x": np.float32(np.nan), "y": True})
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail) == {"step": 1, "x": None, "y": True}
    arrays = {"group/x": np.array([[1 / 3, np.nan]], np.float32), "steps": np.arange(4)}
    run.write_arrays(arrays)
    read = run.read_arrays()
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    assert run.read_arrays("absent.npz") == {}


def test_tables_hold_the_union_of_columns(tmp_path):
    begin(tmp_path).write_csv("t.csv", [{"a": 1}, {"b": "x,y", "a": np.nan}])
    with (tmp_path / "t.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"a": "1", "b": ""}, {"a": "", "b": "x,y"}]


def test_damaged_arrays_are_told_and_damaged_parts_are_made_again(tmp_path, capsys):
    run = begin(tmp_path)
    run.write_arrays({"x": np.arange(100.0)})
    run.keep("part", {"x": np.arange(100.0)}, {"rows": [1, None]})
    arrays, value = run.kept("part")
    np.testing.assert_array_equal(arrays["x"], np.arange(100.0))
    assert (set(arrays), value) == ({"x"}, {"rows": [1, None]})
    assert run.kept("absent") is None
    chance = np.random.default_rng(0)
    for name in ("trajectory.npz", "checkpoints/part.npz"):
        whole = (tmp_path / name).read_bytes()
        # Every byte of the data is under a checksum; some of the zip's own carry no meaning.
        places = [60, len(whole) // 2, *chance.integers(200, 800, 5).tolist()]
        cut = [whole[:n] for n in (0, 1, 100, len(whole) - 30)]
        flipped = [whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :] for n in places]
        for content in (*cut, *flipped):
            (tmp_path / name).write_bytes(content)
            if name == "trajectory.npz":
                with pytest.raises(UserError, match=r"trajectory.npz is damaged; add --overwrite"):
                    run.read_arrays()
            else:
                assert run.kept("part") is None
    assert "part.npz is damaged; that part is made again" in capsys.readouterr().err


def test_a_full_disk_leaves_the_file_before_and_no_half_file(tmp_path, monkeypatch):
    run = begin(tmp_path)
    run.finish({"x": 1})
    run.write_arrays({"x": np.arange(3)})
    run.rewrite_metrics([{"step": 0}])
    before = bytes_of(tmp_path)

    def refuse(self, target):
        assert self.stat().st_size > 0
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "replace", refuse)
    for write in (
        lambda: run.write_arrays({"x": np.arange(99)}),
        lambda: run.finish({"x": 2}),
        lambda: run.rewrite_metrics([{"step": 0}, {"step": 1}]),
        lambda: run.save_figure(Figure(figsize=(1, 1)), "new"),
    ):
        with pytest.raises(OSError, match="No space left"):
            write()
    monkeypatch.undo()
    assert bytes_of(tmp_path) == before


def test_metrics_are_appended_and_rewritten_line_by_line(tmp_path):
    run = begin(tmp_path)
    for step in range(3):
        run.append_metrics({"step": step, "loss": np.float32(0.5)})
    run.rewrite_metrics([{"step": 0, "loss": 0.5}])
    run.append_metrics({"step": 9})
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 0, "loss": 0.5}, {"step": 9}]


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    run = begin(tmp_path)
    found = []
    for _ in range(2):
        canvas = Figure(figsize=(1, 1))
        canvas.subplots().plot([0, 1], [1, 0])
        path = run.save_figure(canvas, "line")
        assert path == tmp_path / "figures" / "line.png"
        found.append([path.with_suffix(s).read_bytes() for s in (".png", ".pdf")])
    assert found[0] == found[1]
    assert contents(tmp_path / "figures") == {"line.png", "line.pdf"}


def test_what_is_no_run_directory_is_told(tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        read_config(tmp_path)
    with pytest.raises(UserError, match="no run directory is named"):
        read_config("")
    good = {"program": "p", "flags": {"alpha": 0.5}}
    for text in ("{", "{}", "[]", '{"flags": 3, "program": "p"}', "\xff\xfe"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match="damaged"):
            read_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(good))
    with pytest.raises(UserError, match="is a run of p, not of q"):
        read_config(tmp_path, "q")
    assert settings_of(tmp_path, "p", Config) == Config(alpha=0.5)
    (tmp_path / "config.json").write_text(json.dumps(good | {"flags": {"other": 1}}))
    with pytest.raises(UserError, match="is not a run of p: it has none of its flags"):
        settings_of(tmp_path, "p", Config)
    whole = {"alpha": math.pi, "names": ["x"], "steps": "many"}
    (tmp_path / "config.json").write_text(json.dumps(good | {"flags": whole}))
    with pytest.raises(UserError, match="steps is 'many'; it must be a whole number"):
        settings_of(tmp_path, "p", Config)


def test_only_a_finished_run_is_drawn_again(tmp_path):
    run = begin(tmp_path)
    with pytest.raises(UserError, match="is not finished"):
        open_finished(tmp_path, "some_program", Config)
    run.finish({})
    again, config = open_finished(tmp_path, "some_program", Config)
    again.save_figure(Figure(figsize=(1, 1)), "more")
    assert config == Config()
    owned = json.loads((tmp_path / "manifest.json").read_text())
    assert {"summary.json", "figures/more.png"} <= set(owned)


def test_what_a_kill_left_half_written_is_swept_away(tmp_path):
    run = begin(tmp_path)
    run.save_figure(Figure(figsize=(1, 1)), "recall")
    token = "0123456789abcdef"
    leftovers = [tmp_path / f".config.json.{token}", tmp_path / "figures" / f".recall.png.{token}"]
    others = [
        tmp_path / ".config.json.bak",
        tmp_path / f".mine.{token}",
        tmp_path / "figures/m.png",
    ]
    for file in (*leftovers, *others):
        file.touch()
    begin(tmp_path)
    assert not any(file.exists() for file in leftovers)
    assert all(file.exists() for file in others)


def test_the_commit_is_that_of_this_code_alone(tmp_path):
    from truncated_weights.experiments.run import provenance

    if shutil.which("git") is None:
        pytest.skip("no git")
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@e", "-c", "init.defaultBranch=main"]
    subprocess.run([*git, "init", "-q", tmp_path], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True, cwd=tmp_path)
    installed = tmp_path / "venv" / "site-packages"
    installed.mkdir(parents=True)
    assert provenance.git_commit(installed) == "unknown"
    assert len(provenance.git_commit(tmp_path)) == 40
    assert provenance.git_commit(tmp_path / "absent") == "unknown"
