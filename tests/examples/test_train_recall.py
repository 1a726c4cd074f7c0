"""The example runs as it stands, on a smaller world."""

import runpy
from pathlib import Path

from truncated_weights import toy

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_recall.py"


def test_train_recall(tmp_path, monkeypatch, capsys):
    train = toy.train
    small = {"num_tokens": 5, "length": 12, "d_model": 8, "steps": 2, "batch_size": 8, "devices": 1}
    monkeypatch.setattr(toy, "train", lambda **settings: train(**(settings | small)), raising=False)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLE))
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == ["full", "1.mlp@0"]
    assert (tmp_path / "recall.png").stat().st_size > 5_000
