"""The training of the small Llama, in a few steps: what it writes is read by the others."""

import json

import pytest

import bridge
from experiments.few_shot import experiment as few_shot
from experiments.few_shot.settings import FewShot
from experiments.run.program import Place, UserError
from experiments.train_word_problems import experiment
from experiments.train_word_problems.settings import WordProblemSettings

CONFIG = WordProblemSettings(
    num_layers=2, d_model=16, steps=6, batch_size=4, warmup_steps=1, block_steps=3, length=64,
    checkpoint_every=3, record_every=2, record_problems=8, test_problems=10,
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("words") / "run"
    experiment.main(CONFIG, Place("train_word_problems", str(out)))
    return out


def test_the_loss_falls_from_that_of_guessing(finished):
    import numpy as np

    with np.load(finished / "trajectory.npz") as arrays:
        losses = arrays["losses"].reshape(-1)
    assert losses[0] == pytest.approx(np.log(CONFIG.vocab_size), rel=0.1)
    assert losses[-1] < losses[0]
    summary = json.loads((finished / "summary.json").read_text())
    assert {name.split("/")[1] for name in summary} == {"first", "second", "conclusion"}
    assert (finished / "figures" / "learning.png").stat().st_size > 5000


def test_checkpoints_are_llamas_that_few_shot_reads(finished, tmp_path):
    folder = finished / "checkpoints" / "step6"
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    checkpoint = bridge.load(folder)
    assert checkpoint.config.groups == 2
    config = FewShot(
        model=str(folder),
        problems=str(finished / "problems" / "test.jsonl"),
        exemplars=str(finished / "problems" / "exemplars.jsonl"),
        shots=(0, 2),
        interventions=("1.fc_out@0.5",),
        new_tokens=4,
        num_examples=4,
        batch=4,
        bootstrap=100,
    )
    out = tmp_path / "answers"
    few_shot.main(config, Place("few_shot", str(out)))
    assert "2/1.fc_out@0.5/number" in json.loads((out / "summary.json").read_text())


def test_what_cannot_be_is_refused(tmp_path):
    import dataclasses

    for changes, problem in (
        ({"num_heads": 5}, "num_heads"),
        ({"warmup_steps": 6}, "warmup_steps"),
    ):
        with pytest.raises(UserError, match=problem):
            experiment.main(
                dataclasses.replace(CONFIG, **changes),
                Place("train_word_problems", str(tmp_path / "run")),
            )
