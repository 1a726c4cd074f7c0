"""The program on a hub in this process, and what it says when it cannot."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import pytest

from truncated_weights import bridge
from truncated_weights.bridge import hub
from truncated_weights.experiments.fetch_model.measure import STUDY
from truncated_weights.experiments.fetch_model.settings import FetchModel
from truncated_weights.experiments.run import program, study

ROOT = pathlib.Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from tests.bridge import fake_hub  # noqa: E402

TINY = ROOT / "tests" / "data" / "tiny_gpt_neox"
NAME = "somebody/tiny"


@pytest.fixture
def config(tmp_path):
    return FetchModel(model=NAME, steps=(0, 1, 512), cache=str(tmp_path / "cache"))


def fetch(config, out, *, overwrite=False):
    study.run(STUDY, config, program.Place("fetch_model", str(out), overwrite))
    return json.loads((out / "summary.json").read_text())


@pytest.fixture
def served(monkeypatch):
    early = {path.name: path.read_bytes() for path in (TINY / "safetensors_fp16").glob("*.*")}
    late = dict(early)
    late["model.safetensors"] = early["model.safetensors"][:-1] + b"\x07"
    short = {name: text.replace(b'"num_hidden_layers": 2', b'"num_hidden_layers": 3')
             for name, text in early.items()}  # fmt: skip
    branches = {"step0": early, "step1": early, "step512": late, "main": late, "step1000": short}
    with fake_hub.running({NAME: branches}) as running:
        real = hub.fetch
        monkeypatch.setattr(
            hub, "fetch", lambda *a, **k: real(*a, **{"endpoint": running.endpoint, **k})
        )
        yield running


def test_steps_are_fetched_linked_hashed_and_compared(served, config, tmp_path, capsys):
    out = tmp_path / "out"
    summary = fetch(config, out)
    for step in ("step0", "step1", "step512"):
        assert summary[f"{step}/directory"] == str(out / "tiny" / step)
        assert bridge.load(out / "tiny" / step).stored_dtype == "float16"
    assert summary["identical_files"] == 1
    assert summary["identical/0"] == "model.safetensors: step0 = step1"
    printed = capsys.readouterr().out
    assert "identical to the byte: model.safetensors of step0 = step1" in printed
    assert f"step512: {out / 'tiny' / 'step512'}" in printed
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["revision"] for line in lines] == ["step0", "step1", "step512"]
    assert all(line["bytes"] == 71236 for line in lines)
    assert json.loads((out / "config.json").read_text())["flags"]["model"] == NAME

    with pytest.raises(program.UserError, match="holds a finished run"):
        fetch(config, out)
    again = fetch(dataclasses.replace(config, offline=True), out, overwrite=True)
    assert again["step512/from_cache"]
    assert again["step512/sha256/model.safetensors"] == summary["step512/sha256/model.safetensors"]


def test_without_steps_the_main_branch(served, config, tmp_path):
    summary = fetch(dataclasses.replace(config, steps=()), tmp_path / "out")
    assert summary["main/weights"] == "model.safetensors"
    assert summary["identical_files"] == 0


def test_weights_that_do_not_fit_their_configuration_are_reported(served, config, tmp_path):
    with pytest.raises(program.RunFailedError, match=r"missing: gpt_neox\.layers\.2"):
        fetch(dataclasses.replace(config, steps=(1000,)), tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model": "pythia-70m"}, "--model=pythia-70m is not of the form OWNER/NAME"),
        ({"steps": (3,)}, "step 3 was not published"),
    ],
)
def test_bad_flags_end_before_any_work(config, tmp_path, change, complaint):
    with pytest.raises(program.UserError, match=complaint):
        fetch(dataclasses.replace(config, **change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_offline_the_program_says_so_in_one_line(tmp_path):
    command = [sys.executable, "-m", "experiments.fetch_model", "--offline", "--steps=0"]
    command += [f"--out={tmp_path / 'out'}", f"--cache={tmp_path / 'cache'}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if not line.endswith(" s so far")]
    assert len(lines) == 1
    assert lines[0].startswith("error: working offline, and EleutherAI/pythia-70m at step0 is")
    assert not result.stdout
