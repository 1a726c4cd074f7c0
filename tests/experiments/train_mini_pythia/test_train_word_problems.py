"""The training of the small Llama, in a few steps: what it writes is read by the others."""

import dataclasses
import json

import numpy as np
import pytest

from truncated_weights import bridge
from truncated_weights.experiments.few_shot.measure import STUDY as FEW_SHOT
from truncated_weights.experiments.few_shot.settings import FewShot
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.program import Place, UserError
from truncated_weights.experiments.train_mini_pythia.measure import PROBLEMS
from truncated_weights.experiments.train_mini_pythia.settings import WordProblemSettings

CONFIG = WordProblemSettings(
    num_layers=2, d_model=16, steps=6, batch_size=4, warmup_steps=1, block_steps=3, length=64,
    checkpoint_every=3, record_every=2, record_problems=8, test_problems=10,
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("words") / "run"
    study.run(PROBLEMS, CONFIG, Place("train_word_problems", str(out)))
    return out


def test_the_loss_falls_from_that_of_guessing(finished):
    losses = RunDirectory(finished).read_records().losses.loss.isel(seed=0)
    assert losses[0] == pytest.approx(np.log(CONFIG.vocab_size), rel=0.1)
    assert losses[-1] < losses[0]
    summary = json.loads((finished / "summary.json").read_text())
    for place, noise in (("first", 0.0), ("second", 0.0), ("conclusion", CONFIG.alpha)):
        assert summary[f"bayes/{place}/p_the"] == pytest.approx(noise)
        assert summary[f"test/{place}/prompts"] == CONFIG.test_problems
        assert summary[f"test/{place}/p_answer/sem"] > 0
    assert (finished / "figures" / "learning.png").stat().st_size > 5000


def test_a_run_killed_at_its_very_end_is_finished_with_the_same_figures(finished):
    names = ("summary.json", "metrics.jsonl", "records.nc")
    before = {name: (finished / name).read_bytes() for name in names}
    (finished / "summary.json").unlink()
    study.run(PROBLEMS, CONFIG, Place("train_word_problems", str(finished)))
    assert {name: (finished / name).read_bytes() for name in names} == before


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
    study.run(FEW_SHOT, config, Place("few_shot", str(out)))
    assert "2/1.fc_out@0.5/number" in json.loads((out / "summary.json").read_text())


def test_what_cannot_be_is_refused(tmp_path):
    for changes, problem in (
        ({"num_heads": 5}, "num_heads"),
        ({"warmup_steps": 6}, "warmup_steps"),
    ):
        with pytest.raises(UserError, match=problem):
            study.run(
                PROBLEMS,
                dataclasses.replace(CONFIG, **changes),
                Place("train_word_problems", str(tmp_path / "run")),
            )
