"""The training program of the small Pythia: what it leaves, resume, errors, the real thing."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from truncated_weights import bridge
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.drawing.panel import svg
from truncated_weights.experiments.run.program import Place, RunFailedError
from truncated_weights.experiments.train_mini_pythia import figures
from truncated_weights.experiments.train_mini_pythia.measure import STORIES
from truncated_weights.experiments.train_mini_pythia.settings import MiniPythia
from truncated_weights.experiments.train_mini_pythia.setup import stories
from truncated_weights.mini_pythia.learning import Reading
from truncated_weights.mini_pythia.prompts import TASKS
from truncated_weights.mini_pythia.training import NextToken

ROOT = Path(__file__).parents[3]
SMALL = MiniPythia(
    num_layers=1, d_model=32, length=32, num_people=30, steps=90, batch_size=8,
    learning_rate=5e-3, warmup_steps=10, block_steps=20, checkpoint_every=1000, record_every=15,
    record_prompts=8, test_prompts=12, seed=3, devices=1,
)  # fmt: skip


def run(path, config=SMALL):
    study.run(STORIES, config, Place("train_mini_pythia", str(path)))
    return json.loads((path / "summary.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished")
    return stories(SMALL), path, run(path)


def test_the_run_directory_is_complete(finished):
    setup, path, summary = finished
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(setup.stops)
    records = RunDirectory(path).read_records()
    curve = records.prompts.p_the.sel(task="story", seed=SMALL.seed)
    np.testing.assert_array_equal(curve, np.float32([line["story/p_the"] for line in lines]))
    losses = records.losses.loss.sel(seed=SMALL.seed)
    assert losses.step.values.tolist() == list(range(1, 91))
    since = losses.sel(step=losses.step > lines[-2]["step"])
    assert lines[-1]["train/loss"] == pytest.approx(float(since.mean()))
    assert summary["loss/last_50_steps"] == pytest.approx(float(losses[-50:].mean()))
    assert (path / "figures" / "learning.png").stat().st_size > 10_000
    for part in ("validation", "test"):
        files = (path / "prompts" / part).iterdir()
        assert {file.name for file in files} == {f"{task}.jsonl" for task in TASKS}


def test_each_panel_can_stand_on_the_page(finished):
    _, path, _ = finished
    records = RunDirectory(path).read_records()
    (figure,) = figures.stories(SMALL, records)
    assert [panel.name for panel in figure.panels] == [
        "stories", "facts", "arithmetic", "loss",
    ]  # fmt: skip
    last = float(records.prompts.p_the.sel(task="story").isel(step=-1).mean())
    assert f"{last:.2f} (Bayes-optimal 0.40)" in figure.panels[0].caption
    assert "right name" in svg(figure.panels[0])


def test_every_step_is_written_in_pythias_layout(finished):
    setup, path, _ = finished
    folder = path / "checkpoints"
    steps = {entry.name for entry in folder.glob("step*")}
    assert steps == {f"step{n}" for n in (0, 1, 2, 4, 8, 16, 32, 64, 90)}
    d, vocab = 32, 1536
    norm = {"weight": (d,), "bias": (d,)}
    layer = {
        "input_layernorm": norm,
        "post_attention_layernorm": norm,
        "attention.query_key_value": {"weight": (3 * d, d), "bias": (3 * d,)},
        "attention.dense": {"weight": (d, d), "bias": (d,)},
        "mlp.dense_h_to_4h": {"weight": (4 * d, d), "bias": (4 * d,)},
        "mlp.dense_4h_to_h": {"weight": (d, 4 * d), "bias": (d,)},
    }
    expected = {"gpt_neox.embed_in.weight": (vocab, d), "embed_out.weight": (vocab, d)}
    for module, parts in layer.items():
        for part, shape in parts.items():
            expected[f"gpt_neox.layers.0.{module}.{part}"] = shape
    expected |= {f"gpt_neox.final_layer_norm.{part}": shape for part, shape in norm.items()}
    for step in ("step0", "step90"):
        tensors = load_file(folder / step / "model.safetensors")
        assert {name: tensor.shape for name, tensor in tensors.items()} == expected
        assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}
        config = json.loads((folder / step / "config.json").read_text())
        assert config["architectures"] == ["GPTNeoXForCausalLM"]
        assert (config["vocab_size"], config["hidden_size"]) == (vocab, d)
        assert (config["rotary_pct"], config["use_parallel_residual"]) == (0.25, True)
        tokenizer = Tokenizer.from_file(str(folder / step / "tokenizer.json"))
        assert tokenizer.to_str() == setup.reading.tokenizer.to_str()


def test_the_summary_is_what_the_last_checkpoint_says_to_the_written_prompts(finished):
    _, path, summary = finished
    checkpoint = bridge.load(path / "checkpoints" / "step90")
    tokenizer = Tokenizer.from_file(str(path / "checkpoints" / "step90" / "tokenizer.json"))
    lines = (path / "prompts" / "test" / "sum.jsonl").read_text().splitlines()
    p_the, p_answer = [], []
    for prompt in map(json.loads, lines):
        ids = np.array([tokenizer.encode(prompt["prompt"]).ids])
        logits = np.asarray(bridge.logits(checkpoint, ids), np.float64)[0, -1]
        p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        p_the.append(p[tokenizer.token_to_id("Ġthe")])
        p_answer.append(p[tokenizer.encode(prompt["answer"]).ids[0]])
    assert summary["test/sum/p_the"] == pytest.approx(np.mean(p_the), rel=1e-4)
    assert summary["test/sum/p_answer"] == pytest.approx(np.mean(p_answer), rel=1e-4)
    sem = np.std(p_answer, ddof=1) / np.sqrt(12)
    assert summary["test/sum/p_answer/sem"] == pytest.approx(sem, rel=1e-3)
    assert summary["bayes/story/p_the"] == pytest.approx(0.4)
    assert summary["bayes/sum/p_answer"] == 1.0


@pytest.mark.thorough
def test_an_interrupted_run_ends_with_the_same_bits(finished, tmp_path, monkeypatch):
    _setup, path, summary = finished
    original = Reading.block

    def stops_after_step_80(self, index):
        if index == 4:
            raise KeyboardInterrupt
        return original(self, index)

    monkeypatch.setattr(Reading, "block", stops_after_step_80)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert not (tmp_path / "summary.json").exists()
    # As a kill between the line and the checkpoint would leave it.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 90, "story/p_the": 2.0}) + "\n")

    made = []
    monkeypatch.setattr(Reading, "block", lambda self, i: made.append(i) or original(self, i))
    assert run(tmp_path) == summary
    assert made == [3, 4]
    for name in ("metrics.jsonl", "records.nc", "figures/learning.png"):
        assert (tmp_path / name).read_bytes() == (path / name).read_bytes()
    for step in ("step64", "step90"):
        file = Path("checkpoints", step, "model.safetensors")
        assert (tmp_path / file).read_bytes() == (path / file).read_bytes()


@pytest.mark.thorough
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    # Weights that are no numbers from the start: the step is the one compiled above.
    init = NextToken.init
    monkeypatch.setattr(
        NextToken, "init", lambda *args: jax.tree.map(lambda w: w * jnp.nan, init(*args))
    )
    with pytest.raises(RunFailedError, match=r"not finite at step 1; .* is 0 in training_state/"):
        run(tmp_path)
    assert not (tmp_path / "summary.json").exists()
    assert not (tmp_path / "checkpoints" / "step1").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 9, "devices": 8}, "--batch_size=9 is not a multiple of 8 devices"),
        ({"devices": 9}, "--devices=9, but there are only 8"),
        ({"num_heads": 5}, "d_model 32 is not a multiple of num_heads 5"),
        ({"warmup_steps": 90}, "warmup_steps must be from 0"),
    ],
)
def test_impossible_settings_end_in_one_line(change, message):
    with pytest.raises(ValueError, match=message):
        stories(dataclasses.replace(SMALL, **change))


def program(*arguments):
    return [sys.executable, "-m", "experiments.train_mini_pythia", *arguments]


def test_a_bad_flag_ends_in_one_line():
    done = subprocess.run(program("--alpha=1.5"), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "alpha" in done.stderr


@pytest.mark.slow
def test_a_killed_process_continues_to_the_same_bits(tmp_path):
    flags = [
        f"--{name}={value}" for name, value in dataclasses.asdict(SMALL).items() if name != "steps"
    ]
    flags += ["--steps=400"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(program(*flags, f"--out={whole}"), cwd=ROOT, check=True)
    process = subprocess.Popen(program(*flags, f"--out={killed}"), cwd=ROOT)
    deadline = time.monotonic() + 120
    while not (killed / "checkpoints" / "training_state" / "128").exists():
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "summary.json").exists()
    subprocess.run(program(*flags, f"--out={killed}"), cwd=ROOT, check=True)
    for name in ("summary.json", "metrics.jsonl", "records.nc"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()


@pytest.mark.slow
def test_the_tiny_preset_learns_noise_first_and_then_the_name(tmp_path):
    preset = ROOT / "experiments" / "train_mini_pythia" / "tiny.flags"
    subprocess.run(
        program(f"--flagfile={preset}", f"--out={tmp_path}", "--seed=0"), cwd=ROOT, check=True
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["test/story/p_the"] == pytest.approx(0.4, abs=0.06)
    assert summary["test/story/p_answer"] == pytest.approx(0.6, abs=0.06)
    assert summary["test/story/p_distractor"] < 0.02
    noise, name = (summary[f"learning/{what}_half_step"] for what in ("noise", "name"))
    assert noise < name / 2
    thirds = [summary[f"test/facts_{third}/p_answer"] for third in ("frequent", "middle", "rare")]
    assert thirds[0] > thirds[1] > thirds[2]
    assert summary["test/product/accuracy"] > 0.9
