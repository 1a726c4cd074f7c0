"""The benchmark of generation at its smallest: it runs, compares the tokens, and says so."""

import dataclasses
import json

import pytest

from truncated_weights.experiments.benchmark_generation import measure
from truncated_weights.experiments.benchmark_generation.settings import BenchmarkGeneration
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.program import Place, RunFailedError

SMALL = {
    "num_layers": 1, "d_model": 16, "num_heads": 2, "num_groups": 1, "d_ff": 24,
    "vocab_size": 32, "length": 4, "new_tokens": 3, "rounds": 1, "kept": 0.3,
}  # fmt: skip


def test_the_three_ways_are_timed_and_agree(tmp_path, capsys):
    study.run(
        measure.STUDY,
        BenchmarkGeneration(**SMALL),
        Place("benchmark_generation", str(tmp_path / "a")),
    )
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    for name in ("uncached", "cached", "factored"):
        assert summary[f"tokens_per_second/{name}"] > 0
    assert "times uncached, the same tokens" in capsys.readouterr().out


def test_a_shared_beginning_is_timed_beside(tmp_path, capsys):
    config = BenchmarkGeneration(**(SMALL | {"length": 40, "shared": 36, "whole": False}))
    study.run(measure.STUDY, config, Place("benchmark_generation", str(tmp_path / "a")))
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert summary["ratio/shared"] > 0
    assert "ratio/cached" not in summary
    assert "a beginning of 36 tokens run once" in capsys.readouterr().out
    with pytest.raises(ValueError, match="shared 40 leaves nothing of a prompt of 40"):
        measure.architecture(dataclasses.replace(config, shared=40))


def test_other_tokens_fail_the_run(tmp_path, monkeypatch):
    right = measure.whole_passes
    monkeypatch.setattr(measure, "whole_passes", lambda *rest: right(*rest) + 1)
    with pytest.raises(RunFailedError, match="chose other tokens"):
        study.run(
            measure.STUDY,
            BenchmarkGeneration(**SMALL),
            Place("benchmark_generation", str(tmp_path / "b")),
        )
