import dataclasses
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.run import directory as run_directory
from experiments.run.directory import open_run, read_config
from experiments.run.program import UserError


@dataclasses.dataclass(frozen=True)
class Config:
    alpha: float = 0.1
    names: tuple[str, ...] = ("a", "b")
    steps: int = 3


def contents(path):
    return {str(p.relative_to(path)) for p in path.rglob("*")}


def test_a_new_directory_records_flags_versions_device_and_commit(tmp_path):
    run = open_run(tmp_path / "deep" / "run", Config(), overwrite=False)
    stored = json.loads((run.path / "config.json").read_text())
    assert stored["flags"] == {"alpha": 0.1, "names": ["a", "b"], "steps": 3}
    assert {"jax", "flax", "optax", "numpy"} <= set(stored["versions"])
    assert set(stored) == {"flags", "versions", "python", "device", "git_commit"}
    assert "cpu" in stored["device"]
    assert read_config(run.path) == stored["flags"]
    assert contents(run.path) == {"config.json"}


def test_an_unfinished_run_with_the_same_settings_is_continued(tmp_path):
    before = open_run(tmp_path, Config(), overwrite=False)
    before.append_metrics({"step": 1})
    stamp = (tmp_path / "config.json").stat().st_mtime_ns
    after = open_run(tmp_path, Config(), overwrite=False)
    assert (tmp_path / "config.json").stat().st_mtime_ns == stamp
    assert (after.path / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_other_settings_are_refused_by_the_name_of_the_flag(tmp_path):
    open_run(tmp_path, Config(), overwrite=False)
    with pytest.raises(UserError, match=r"--alpha=0.1, not 0.2; add --overwrite"):
        open_run(tmp_path, Config(alpha=0.2), overwrite=False)
    open_run(tmp_path, Config(alpha=0.2), overwrite=True)
    assert read_config(tmp_path)["alpha"] == 0.2


def test_a_finished_run_is_refused_and_overwriting_removes_only_what_is_ours(tmp_path):
    run = open_run(tmp_path, Config(), overwrite=False)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.png").write_text("")
    run.write_arrays({"x": np.arange(3)})
    run.finish({"x": 1.0})
    with pytest.raises(UserError, match="finished run; add --overwrite"):
        open_run(tmp_path, Config(), overwrite=False)
    open_run(tmp_path, Config(), overwrite=True)
    assert contents(tmp_path) == {"config.json", "notes.txt"}


def test_a_place_that_cannot_be_a_directory(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="cannot be written"):
            open_run(path, Config(), overwrite=False)


def test_a_directory_without_write_permission(tmp_path, monkeypatch):
    def refuse(self, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(UserError, match="cannot be written: Permission denied"):
        open_run(tmp_path, Config(), overwrite=False)


def test_numbers_keep_all_their_digits(tmp_path):
    run = open_run(tmp_path, Config(), overwrite=False)
    values = {"a": 1 / 3, "b": float(np.float32(0.1)), "c": np.float64(1e-300), "d": np.int64(7)}
    run.finish(values)
    assert json.loads((tmp_path / "summary.json").read_text()) == values
    arrays = {"group/x": np.array([[1 / 3, np.nan]], np.float32), "steps": np.arange(4)}
    run.write_arrays(arrays)
    read = run.read_arrays()
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    assert run.read_arrays("absent.npz") == {}


@pytest.mark.parametrize("method", ["write_text", "write_bytes"])
def test_a_full_disk_leaves_the_file_before_and_no_half_file(tmp_path, monkeypatch, method):
    run = open_run(tmp_path, Config(), overwrite=False)
    run.finish({"x": 1})
    run.write_arrays({"x": np.arange(3)})
    run.rewrite_metrics([{"step": 0}])
    before = {p: (tmp_path / p).read_bytes() for p in contents(tmp_path)}

    def half(self, data, *_, **__):
        with self.open("wb") as file:
            file.write(data.encode()[:5] if isinstance(data, str) else data[:5])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, method, half)
    if method == "write_bytes":
        with pytest.raises(OSError, match="No space left"):
            run.write_arrays({"x": np.arange(99)})
    else:
        with pytest.raises(OSError, match="No space left"):
            run.finish({"x": 2})
        with pytest.raises(OSError, match="No space left"):
            run.rewrite_metrics([{"step": 0}, {"step": 1}])
    monkeypatch.undo()
    assert {p: (tmp_path / p).read_bytes() for p in contents(tmp_path)} == before


def test_metrics_are_appended_and_rewritten_line_by_line(tmp_path):
    run = open_run(tmp_path, Config(), overwrite=False)
    for step in range(3):
        run.append_metrics({"step": step, "loss": np.float32(0.5)})
    run.rewrite_metrics([{"step": 0, "loss": 0.5}])
    run.append_metrics({"step": 9})
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 0, "loss": 0.5}, {"step": 9}]


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    run = open_run(tmp_path, Config(), overwrite=False)
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
    for text in ("{", "{}"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match="damaged"):
            read_config(tmp_path)


def test_a_damaged_configuration_does_not_pass_for_another_run(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        open_run(tmp_path, Config(), overwrite=False)
    assert run_directory.RunDirectory(tmp_path).checkpoints.is_absolute()


def test_what_a_kill_left_half_written_is_swept_away(tmp_path):
    (tmp_path / "figures").mkdir()
    leftovers = [tmp_path / ".summary.json.123", tmp_path / "figures" / ".recall.png.77"]
    others = [tmp_path / ".summary.json.bak", tmp_path / "figures" / "mine.png"]
    for file in (*leftovers, *others):
        file.touch()
    run_directory._sweep(tmp_path)
    assert not any(file.exists() for file in leftovers)
    assert all(file.exists() for file in others)
