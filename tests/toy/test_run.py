"""A run in one call, against the loop it stands for."""

import dataclasses
import json

import jax
import matplotlib as mpl
import numpy as np
import pytest

from truncated_weights import toy
from truncated_weights.toy import network, recall, transformer
from truncated_weights.toy.probes import outputs
from truncated_weights.toy.settings import NoisyRecall
from truncated_weights.training import records

TINY = {
    "num_tokens": 5, "length": 12, "d_model": 8, "batch_size": 4, "feed_forward": ("linear",),
    "interventions": ("0.fc_in@0",), "rhos": ("0.5",), "devices": 1, "eval_batch": 8,
    "eval_every": 2, "steps": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def run():
    return toy.train(**TINY)


def test_a_record_is_what_the_weights_say(run):
    full = run.models.sel(set="clean", model="full", seed=0)
    assert full.step.values.tolist() == [0, 1, 2, 3] == run.spectra.step.values.tolist()
    assert full.p_noise.dims == ("step",)
    assert {"0.fc_in@0", "full"} == set(run.models.model.values)
    assert "copy" in run.mechanisms.recall.sel(step=3).association
    task, model = run.setup.task, run.setup.model
    weights = run.weights
    assert set(weights) == {"embed", "position", "unembed", "layers"}
    assert weights["embed"].shape == (task.vocab_size, 8)
    params, frozen = transformer.init(model, _key(0, 0))
    np.testing.assert_array_equal(weights["embed"], frozen["embed"])
    batch = recall.sample(task, _key(0, 2), batch_size=8, alpha=0.0)
    trace = network.run(model, weights, batch.tokens, batch.positions)
    expected = outputs.means(task, trace.logits, batch)
    for name in ("p_noise", "p_correct", "loss"):
        assert float(full[name][-1]) == pytest.approx(float(expected[name]), rel=1e-4)
    assert np.abs(params["layers"][0]["fc_in"] - weights["layers"][0]["fc_in"]).max() > 0


def _key(seed, purpose):
    return jax.random.fold_in(jax.random.key(seed), purpose)


def test_what_was_not_recorded_is_named(run):
    with pytest.raises(AttributeError, match="no block 'bigrams'; there are"):
        run.bigrams  # noqa: B018
    with pytest.raises(KeyError, match="model"):
        run.models.loss.sel(model="9.mlp@0")
    with pytest.raises(ValueError, match="alpha is 2"):
        toy.train(alpha=2.0)
    assert len(run.plot().axes) == 2
    assert len(repr(run).splitlines()) < 8


def test_seeds_are_an_axis(run):
    several = toy.train(**TINY, num_seeds=2)
    both, one = (each.models.p_noise.sel(set="clean", model="full") for each in (several, run))
    assert both.sizes == {"step": 4, "seed": 2}
    np.testing.assert_allclose(both.sel(seed=0), one.sel(seed=0), rtol=1e-4)
    assert several.weights["embed"].shape[0] == 2
    assert NoisyRecall(**TINY, num_seeds=2) == several.setup.config


@pytest.mark.fault("D1")
def test_a_plot_in_a_notebook_has_the_look_of_the_notebook(run):
    with mpl.rc_context({"axes.titlesize": 31.0}):
        figure = run.plot()
        assert figure.axes[0].title.get_fontsize() == 31.0
        assert mpl.rcParams["axes.titlesize"] == 31.0


def test_a_directory_opens_as_what_was_trained(run, tmp_path):
    config = {"program": "noisy_recall", "flags": dataclasses.asdict(run.config)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FileNotFoundError):
        toy.open(tmp_path)
    arrays = {
        "models/steps": np.array([0, 1]), "models/clean/full/p_noise": np.array([[0.5], [0.25]]),
    }  # fmt: skip
    np.savez(tmp_path / "trajectory.npz", **arrays)
    old = toy.open(tmp_path)
    assert float(old.models.p_noise.sel(set="clean", model="full", step=1).mean()) == 0.25
    (tmp_path / "trajectory.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"trajectory\.npz is damaged"):
        toy.open(tmp_path)
    (tmp_path / records.FILE).write_bytes(records.encoded(run.records))
    again = toy.open(tmp_path)
    assert again.config == run.config
    assert again.models.identical(run.models)
    assert repr(again) == repr(run)
    with pytest.raises(ValueError, match="has no checkpoint"):
        again.weights  # noqa: B018
    (tmp_path / records.FILE).write_bytes(records.encoded(run.records)[:-9])
    with pytest.raises(ValueError, match=r"records\.nc: its checksum"):
        toy.open(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"program": "sweep"}))
    with pytest.raises(ValueError, match="is a run of sweep"):
        toy.open(tmp_path)
