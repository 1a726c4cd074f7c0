"""A small finished run of noisy recall, two seeds and two checkpoints, made in seconds."""

import pytest

from experiments.run import directory as run_directory
from experiments.run import recall_setup
from training.checkpoint import Store


@pytest.fixture(scope="session")
def recall_run(tmp_path_factory):
    """One layer, so that few functions are compiled; trained until the noise is learned."""
    config = recall_setup.RecallConfig(
        language="zipf",
        text="",
        num_tokens=10,
        zipf_exponent=1.0,
        concentration=8.0,
        alpha=0.5,
        length=24,
        num_triggers=1,
        triggers=(),
        num_noise=1,
        existing_noise=False,
        scoring="every",
        d_model=16,
        d_hidden=0,
        feed_forward=("mlp",),
        positions="gaussian",
        learned_query=False,
        attention_residual=True,
        feed_forward_residual=True,
        frozen=(),
        trained=(),
        steps=120,
        batch_size=32,
        optimizer="sgd",
        learning_rate=0.03,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="constant",
        warmup=0,
        seed=3,
        num_seeds=2,
        devices=1,
        matmul_precision="highest",
        eval_every=50,
        eval_batch=16,
        final_batch=16,
        spectrum_every=0,
        checkpoint_every=0,
        interventions=(),
        rhos=("0", "1"),
    )
    path = tmp_path_factory.mktemp("recall") / "run"
    run_directory.open_run(path, config, overwrite=False)
    trainer = recall_setup.build(config).trainer()
    store = Store(path / "checkpoints")
    state = trainer.init()
    for step, more in ((30, 30), (120, 90)):
        state, _ = trainer.advance(state, more)
        store.save(step, state)
        store.wait()
    return path
