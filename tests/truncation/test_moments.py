"""Moments gathered from a network, and candidates that are measured by them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.toy.test_surgery import build
from truncated_weights.toy import surgery
from truncated_weights.truncation import editing, notation
from truncated_weights.truncation.search import moments
from truncated_weights.truncation.search.scorer import Scorer


@pytest.fixture(scope="module")
def scorer():
    _, _, weights, batch, net = build("mlp")
    # Batches of five: the last of twelve is filled up, and must not count twice.
    return Scorer(net, weights, surgery.examples(batch, batch_size=5))


def test_moments_are_sums_over_what_the_matrix_reads(scorer):
    key = (1, "fc_in")
    found = moments.gather(scorer, [key], np.arange(12))[key]
    rows = []
    for index in range(12):
        (batch,) = scorer.examples.batches(np.array([index]))
        stopped = scorer.stop(scorer.params, key, batch)
        rows.append(np.asarray(stopped.inputs, np.float64)[np.asarray(stopped.valid)])
    rows = np.concatenate(rows)
    assert found.number == len(rows)
    np.testing.assert_allclose(found.inputs, rows.T @ rows, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.mean_inputs, rows.sum(axis=0), rtol=1e-4, atol=1e-4)


def test_gradients_are_of_answers_drawn_from_the_model(scorer):
    """By finite differences of the loss of the very tokens that were drawn."""
    key = (1, "fc_out")
    found = moments.gather(scorer, [key], np.arange(4), gradients=True)[key]
    (batch,) = scorer.examples.batches(np.arange(4))
    drawn = moments._drawn(scorer, batch, 0)
    assert not np.array_equal(drawn.data["labels"], batch.data["labels"])
    stopped = scorer.stop(scorer.params, key, drawn)
    outputs = scorer.network.matrices[key].outputs(scorer.params, stopped.inputs)

    def loss(outputs):
        scores = scorer.network.resume(scorer.params, key, outputs, stopped.rest, drawn.data)
        return float(jnp.sum(scores["loss"] * drawn.weights))

    gradient = np.asarray(moments._gradients(scorer, key, stopped, drawn))
    place = (1, 0, 3)
    step = np.zeros(outputs.shape, np.float32)
    step[place] = 0.05
    assert (loss(outputs + step) - loss(outputs - step)) / 0.1 == pytest.approx(
        gradient[place], abs=2e-3
    )
    rows = gradient[np.asarray(stopped.valid)].astype(np.float64)
    np.testing.assert_allclose(found.gradients, rows.T @ rows, rtol=1e-3, atol=1e-5)


def test_candidates_in_every_metric_are_scored_as_edited_models(scorer):
    keys = [(0, "fc_in"), (1, "fc_out")]
    found = moments.gather(scorer, keys, np.arange(12), gradients=True)
    measured = scorer.measured(found)
    rhos = [f"{metric}:{rho}" for metric in notation.METRICS for rho in ("0.2", "-0.2")]
    cuts = notation.candidates([f"{layer}.{name}" for layer, name in keys], [*rhos, "0.2"])
    scores = measured.evaluate(cuts, np.arange(12))
    for index, cut in enumerate(cuts):
        params = editing.apply(scorer.params, cut, scorer.network.matrices, found)
        alone = scorer.of_params(params, np.arange(12))
        np.testing.assert_allclose(
            scores["loss"][index], alone["loss"], rtol=1e-5, atol=1e-4, err_msg=str(cut)
        )
    # Plain components are shared, and what is measured differs from them.
    assert measured.decompositions._known is scorer.decompositions._known
    losses = dict(zip(map(str, cuts), scores["loss"].mean(axis=(1, 2)), strict=True))
    assert (
        len({round(float(losses[f"1.fc_out@{m}0.2"]), 4) for m in ("", "whitened:", "kfac:")}) == 3
    )


def test_without_moments_the_cut_is_refused_by_name(scorer):
    with pytest.raises(ValueError, match=r"moments of 1.fc_in are needed"):
        scorer.evaluate([notation.parse("1.fc_in@whitened:0.2")], np.arange(4))
    with pytest.raises(ValueError, match="a product has no entries"):
        scorer.evaluate([notation.parse("1.ov@kfac:0.2")], np.arange(4))


def test_a_product_is_measured_by_the_inputs_of_its_first_factor(scorer):
    key = (1, "ov")
    found = moments.gather(scorer, [key], np.arange(12))
    cut = notation.parse("1.ov@whitened:0.5")
    params = editing.apply(scorer.params, cut, scorer.network.matrices, found)
    address = scorer.network.matrices[key]
    before, after = (np.asarray(address.read(p), np.float64) for p in (scorer.params, params))
    a = found[key].inputs / found[key].number
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 1e-8 * values[-1]))) @ vectors.T
    u, s, vt = np.linalg.svd(root @ before)
    s[8:] = 0
    np.testing.assert_allclose(after, np.linalg.inv(root) @ (u * s) @ vt, atol=1e-4)
    assert jax.tree.structure(params) == jax.tree.structure(scorer.params)
