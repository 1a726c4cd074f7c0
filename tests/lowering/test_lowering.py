"""What runs longest lowers for accelerators; test_every_program.py goes through all the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.bridge.words import Words
from tests.lowering.watch import PLATFORMS, primitives, watch
from truncated_weights import bridge
from truncated_weights.bridge import encoding, surgery
from truncated_weights.bridge.tasks import Example
from truncated_weights.toy import memory, memory_descent, setup
from truncated_weights.toy.settings import NoisyRecall
from truncated_weights.training import slices
from truncated_weights.truncation.notation import candidates

pytestmark = pytest.mark.fault("G1")


@pytest.fixture
def told(monkeypatch):
    """What watch tells while the test runs, this project choosing as on an accelerator."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = []
    with watch(found.append):
        yield found


def lowered(told):
    """Names of what was lowered, the same for every platform; asserts that all of it was."""
    assert [one for one in told if "refused" in one] == []
    by_platform = [
        {one["lowered"] for one in told if one["platform"] == platform} for platform in PLATFORMS
    ]
    assert by_platform[0] == by_platform[1]
    return by_platform[0]


@pytest.fixture
def checkpoint():
    config = bridge.Config(vocab_size=53, num_layers=2, d_model=16, num_heads=2, d_ff=20)
    return bridge.Checkpoint(config, bridge.init_params(config, key=jax.random.key(0)))


def test_the_training_step_and_the_record_of_cuts():
    """On two devices, a run on each; mechanisms, spectra and bigrams are in the walk."""
    config = NoisyRecall(
        length=8, num_tokens=5, d_model=4, batch_size=4, eval_batch=4,
        interventions=("1.fc_in@0.5",), num_seeds=2, devices=2,
    )  # fmt: skip
    found = setup.build(config)
    trainer = found.trainer()
    with slices.for_accelerator():
        models = trainer.measure(found.measurements()[0].measure)
        programs = [trainer.traced(), models.traced(trainer.abstract())]
    for program in programs:
        assert not {name for name in primitives(program.jaxpr.jaxpr) if "callback" in name}
        for platform in PLATFORMS:
            assert program.lower(lowering_platforms=(platform,)).as_text()


# Shapes of their own: what another test has had lowered would not be lowered here.
def test_memory_descent(told, monkeypatch):
    fetched, fetch = [], jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda x: fetched.append(x) or fetch(x))
    problem = memory.Memory(11, 0.3)
    memory_descent.descend(problem, step_size=0.1, stops=(0, 2), measure=memory.measure_logits)
    assert {"_advance"} <= lowered(told)
    # Once for all stops: the device never waits for the host between two of them.
    assert len(fetched) == 1


def test_generation(told, checkpoint):
    bridge.generate(checkpoint, np.arange(14).reshape(2, 7), max_new_tokens=3)
    assert {"_start", "_go_on"} <= lowered(told)


def test_search(told, checkpoint):
    examples = [Example(f"{i} hats", f" {i}", (" red",)) for i in range(3)]
    encoded = encoding.encode_examples(examples, Words(longest=5), num_tokens=53)
    found = surgery.scorer(checkpoint, encoded)
    found.evaluate(candidates([(1, "fc_in")], ["0.5", "0"]), np.arange(3))
    names = lowered(told)
    assert {"_coordinates", "layer"} <= names, names


@pytest.mark.parametrize("kind", ["callback", "eig"])
def test_what_needs_the_processor_is_refused(kind, told):
    def function(x):
        if kind == "callback":
            return jax.pure_callback(np.sin, jax.ShapeDtypeStruct((3,), np.float32), x[0])
        return jnp.linalg.eig(x)[0]

    jax.jit(function)(jnp.ones((3, 3))).block_until_ready()
    refused = {one["platform"] for one in told if "refused" in one}
    assert "tpu" in refused
    if kind == "callback":
        assert refused == set(PLATFORMS)
