"""A small finished run of noisy recall, and command lines run in this process."""

import importlib
import logging
import sys

import pytest

from truncated_weights.experiments.run import directory as run_directory
from truncated_weights.experiments.run import progress
from truncated_weights.experiments.run.program import Place
from truncated_weights.toy import setup as toy_setup
from truncated_weights.toy.settings import NoisyRecall
from truncated_weights.training.checkpoint import Store


@pytest.fixture(scope="session")
def recall_run(tmp_path_factory):
    """Two seeds and two checkpoints, made in seconds.

    One layer, so that few functions are compiled; trained until the noise is learned.
    """
    config = NoisyRecall(
        num_tokens=10,
        length=24,
        d_model=16,
        feed_forward=("mlp",),
        steps=120,
        batch_size=32,
        seed=3,
        num_seeds=2,
        devices=1,
        eval_batch=16,
        final_batch=16,
        rhos=("0", "1"),
    )
    path = tmp_path_factory.mktemp("recall") / "run"
    run_directory.open_run(Place("noisy_recall", str(path)), config)
    trainer = toy_setup.build(config).trainer()
    store = Store(path / "checkpoints")
    state = trainer.init()
    for step, more in ((30, 30), (120, 90)):
        state = trainer.advance(state, more)
        store.save(step, state)
        store.wait()
    return path


@pytest.fixture
def drive(capsys, monkeypatch):
    """drive(program, *command lines) -> [{code, out, err}]: starting JAX costs more than most."""
    # A program owns its process and quietens it; this one it only borrows.
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    absl = logging.getLogger("absl")
    monkeypatch.setattr(absl, "level", absl.level)

    def run(name, *command_lines):
        program = importlib.import_module(f"truncated_weights.experiments.{name}.__main__").PROGRAM
        ended = []
        for given in command_lines:
            # As if it had started just now: one that was silent for long would tell of it.
            monkeypatch.setattr(progress, "_voice", progress._Voice())
            code = program.run(given)
            said = capsys.readouterr()
            ended.append({"code": code, "out": said.out, "err": said.err})
        return ended

    return run
