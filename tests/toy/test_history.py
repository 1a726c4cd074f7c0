"""A run in one call, against the loop it stands for."""

import jax
import matplotlib as mpl
import numpy as np
import pytest

import toy
from toy import network, recall, transformer
from toy.probes import outputs
from toy.settings import NoisyRecall

TINY = {
    "num_tokens": 5, "length": 12, "d_model": 8, "batch_size": 4, "feed_forward": ("linear",),
    "interventions": ("0.fc_in@0",), "rhos": ("0.5",), "devices": 1, "eval_batch": 8,
    "eval_every": 2, "steps": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def history():
    return toy.train(**TINY)


def test_a_record_is_what_the_weights_say(history):
    assert history.steps.tolist() == [0, 1, 2, 3]
    assert history["clean/full/p_noise"].shape == (4,)
    assert history.steps_of("spectrum/0.fc_in/soft_rank").tolist() == [0, 1, 2, 3]
    assert {"loss", "recall/copy", "clean/0.fc_in@0/p_correct"} <= set(history.names())
    task, model = history.setup.task, history.setup.model
    weights = history.weights
    assert set(weights) == {"embed", "position", "unembed", "layers"}
    assert weights["embed"].shape == (task.vocab_size, 8)
    params, frozen = transformer.init(model, _key(0, 0))
    np.testing.assert_array_equal(weights["embed"], frozen["embed"])
    batch = recall.sample(task, _key(0, 2), batch_size=8, alpha=0.0)
    trace = network.run(model, weights, batch.tokens, batch.positions)
    expected = outputs.means(task, trace.logits, batch)
    for name in ("p_noise", "p_correct", "loss"):
        assert history[f"clean/full/{name}"][-1] == pytest.approx(float(expected[name]), rel=1e-4)
    assert np.abs(params["layers"][0]["fc_in"] - weights["layers"][0]["fc_in"]).max() > 0


def _key(seed, purpose):
    return jax.random.fold_in(jax.random.key(seed), purpose)


def test_what_was_not_recorded_is_named(history):
    with pytest.raises(KeyError, match=r"clean/9\.mlp@0/loss was not"):
        history["clean/9.mlp@0/loss"]
    with pytest.raises(ValueError, match="alpha is 2"):
        toy.train(alpha=2.0)
    assert len(history.plot().axes) == 2


def test_several_seeds_lead(history):
    several = toy.train(**TINY, num_seeds=2)
    assert several["clean/full/p_noise"].shape == (2, 4)
    np.testing.assert_allclose(
        several["clean/full/p_noise"][0], history["clean/full/p_noise"], rtol=1e-4
    )
    assert several.weights["embed"].shape[0] == 2
    assert NoisyRecall(**TINY, num_seeds=2) == several.setup.config


@pytest.mark.fault("D1")
def test_a_plot_in_a_notebook_has_the_look_of_the_notebook(history):
    with mpl.rc_context({"axes.titlesize": 31.0}):
        figure = history.plot()
        assert figure.axes[0].title.get_fontsize() == 31.0
        assert mpl.rcParams["axes.titlesize"] == 31.0
