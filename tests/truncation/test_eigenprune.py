import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncation import linear
from truncation.rules import eigenprune
from truncation.rules.eigenprune import Pruning
from truncation.search import statistics
from truncation.search.evaluator import Evaluator

EXAMPLES = np.arange(60)
KEY = (0, "fc_out")


@pytest.fixture(scope="module")
def evaluator(planted):
    return Evaluator(planted.model, planted.params)


def test_derangements_have_no_fixed_point_and_are_uniform():
    for count in (2, 3, 17):
        permutation = eigenprune.derangement(count, seed=count)
        assert sorted(permutation) == list(range(count))
        assert not np.any(permutation == np.arange(count))
    # Of four elements there are nine derangements.
    draws = {}
    for seed in range(900):
        draw = tuple(eigenprune.derangement(4, seed))
        draws[draw] = draws.get(draw, 0) + 1
    assert len(draws) == 9
    assert sum((n - 100) ** 2 / 100 for n in draws.values()) < 26.1  # chi^2, 8 degrees, p = 0.001
    with pytest.raises(ValueError, match="second example"):
        eigenprune.derangement(1, 0)


@pytest.mark.parametrize("key", [(0, "fc_in"), (0, "fc_out"), (1, "ov"), (1, "fc_in")])
def test_effects_agree_with_exact_recomputation_for_small_sigma(planted, evaluator, key):
    """Patch t of the counterfactual coordinate in, run the rest, and let t go to zero."""
    signed, _ = eigenprune.effects(evaluator, key, EXAMPLES, seed=5)
    partners = EXAMPLES[eigenprune.derangement(60, 5)]
    model = planted.model
    batch, other = model.select(EXAMPLES), model.select(partners)
    entry, counterfactual = (model.enter(planted.params, key, b) for b in (batch, other))
    outputs = entry.inputs @ model.matrices[key].read(planted.params)
    both = (entry.valid & counterfactual.valid)[..., None]
    u, s, vt = evaluator.decompositions([key])[key]
    weights = model.weights / model.weights.sum(axis=1, keepdims=True)

    def losses(change):
        scores = model.leave(planted.params, key, outputs + change, entry.rest, batch)
        return np.sum(np.asarray(scores["loss"], np.float64) * weights, axis=1)

    for i in (0, 2, 9):
        patch = ((counterfactual.inputs - entry.inputs) * both @ u[:, i : i + 1]) * (s[i] * vt[i])[
            None, None
        ]
        errors = []
        for t in (0.2, 0.1):
            exact = (losses(t * patch) - losses(-t * patch)) / (2 * t)
            errors.append(np.abs(exact - signed[:, i]).max())
        # Symmetric differences are exact to second order: halving t quarters the error.
        assert errors[1] < 0.02 * np.abs(signed[:, i]).max() + 1e-5
        assert errors[1] < 0.3 * errors[0] + 1e-5


@pytest.mark.parametrize("batch_size", [1, 7, 59])
def test_batches_do_not_matter(planted, evaluator, batch_size):
    expected = eigenprune.effects(evaluator, KEY, EXAMPLES)
    batched = Evaluator(planted.in_batches(batch_size), planted.params)
    found = eigenprune.effects(batched, KEY, EXAMPLES)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(theirs).max() > 1e-3
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_padding_has_no_effect(planted, evaluator):
    """Whatever stands at padded positions, scores are the same."""
    examples = dict(planted.model.examples)
    examples["x"] = jnp.where(examples["valid"][..., None], examples["x"], 100.0)
    disturbed = Evaluator(dataclasses.replace(planted.model, examples=examples), planted.params)
    for key in (KEY, (1, "fc_in")):
        expected, _ = eigenprune.effects(evaluator, key, EXAMPLES)
        found, _ = eigenprune.effects(disturbed, key, EXAMPLES)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        np.testing.assert_allclose(
            eigenprune.mean_input(disturbed, planted.params, key, EXAMPLES),
            eigenprune.mean_input(evaluator, planted.params, key, EXAMPLES),
            atol=1e-6,
        )


def mean_output(model, params, key, leaf):
    """Mean over valid positions of what the matrix, with its bias, gives."""
    entry = model.enter(params, key, model.select(EXAMPLES))
    outputs = linear.apply(leaf, entry.inputs)
    return np.asarray(outputs)[np.asarray(entry.valid)].mean(axis=0)


def test_compensation_keeps_the_mean_output(planted, evaluator):
    rng = np.random.default_rng(0)
    keys = [(0, "fc_in"), (0, "fc_out"), (1, "fc_in")]
    pruning = Pruning({k: (rng.random(16) < 0.5).astype(np.float32) for k in keys})
    params = eigenprune.apply(evaluator, pruning, compensate_on=EXAMPLES)
    for layer, name in keys:
        pruned = params["layers"][layer][name]
        # The inputs the matrix now gets, multiplied by the matrix that it was.
        whole = planted.params["layers"][layer][name]
        np.testing.assert_allclose(
            mean_output(planted.model, params, (layer, name), pruned),
            mean_output(planted.model, params, (layer, name), whole),
            atol=2e-6,
        )
    plain = eigenprune.apply(evaluator, pruning)
    assert not isinstance(plain["layers"][0]["fc_in"], dict)


def test_prunes_the_lowest_of_each_type(planted, evaluator):
    keys = [(0, "fc_in"), (1, "fc_in"), (0, "fc_out")]
    pruning = eigenprune.prune(evaluator, {"fc_in": 0.25}, keys, EXAMPLES)
    assert set(pruning.masks) == {(0, "fc_in"), (1, "fc_in")}
    assert pruning.removed == 8
    for key, mask in pruning.masks.items():
        scores = eigenprune.effects(evaluator, key, EXAMPLES)[0].mean(axis=0)
        assert scores[mask == 0].max() <= scores[mask == 1].min()
    other = eigenprune.random_like(pruning, 0)
    assert {k: m.sum() for k, m in other.masks.items()} == {
        k: m.sum() for k, m in pruning.masks.items()
    }
    assert any(np.any(other.masks[k] != pruning.masks[k]) for k in pruning.masks)


def test_held_out_rows(planted, evaluator):
    train, held_out = statistics.split(60, validation=0.5)
    pruning = eigenprune.prune(
        evaluator, {"fc_in": 0.25}, [(1, "fc_in")], train, aggregate="absolute"
    )
    rows = eigenprune.evaluate(evaluator, pruning, train, held_out, random_seeds=(0, 1))
    assert [(r["model"], r["compensated"]) for r in rows] == [
        ("unpruned", False), ("pruned", False), ("pruned", True),
        ("random 0", False), ("random 0", True), ("random 1", False), ("random 1", True),
    ]  # fmt: skip
    assert rows[0]["loss_change"] == rows[0]["loss_change_high"] == 0
    params = eigenprune.apply(evaluator, pruning, compensate_on=train)
    scores = planted.model.scores(params, planted.model.select(held_out))
    expected = statistics.weighted_mean(np.asarray(scores["loss"]), planted.model.weights[held_out])
    np.testing.assert_allclose(rows[2]["loss"], expected, rtol=1e-5)


def test_what_all_examples_share_is_invisible(planted):
    """An input that never varies cancels in x' - x, so a global bias scores zero.

    Removed first by its absolute effect, it comes back whole with the mean compensation.
    """
    constant = jnp.linalg.qr(jax.random.normal(jax.random.key(9), (16, 16)))[0][:, 0]
    key = (0, "fc_in")
    # Project the varying part of the input away from one direction, and read only that.
    examples = dict(planted.model.examples)
    x = examples["x"]
    examples["x"] = x + (1 - x @ constant)[..., None] * constant[None, None]
    write = jnp.outer(constant, jnp.ones(24)) / 5
    params = planted.model.matrices[key].write(planted.params, write)
    evaluator = Evaluator(dataclasses.replace(planted.model, examples=examples), params)
    _, absolute = eigenprune.effects(evaluator, key, EXAMPLES)
    assert np.abs(absolute[:, 0]).max() < 1e-5
    pruning = Pruning({key: np.r_[0, np.ones(15)].astype(np.float32)})
    scores = {
        name: evaluator.model_scores(p, EXAMPLES)["loss"][0]
        for name, p in {
            "whole": params,
            "pruned": eigenprune.apply(evaluator, pruning),
            "compensated": eigenprune.apply(evaluator, pruning, compensate_on=EXAMPLES),
        }.items()
    }
    assert np.abs(scores["pruned"] - scores["whole"]).max() > 1e-2
    np.testing.assert_allclose(scores["compensated"], scores["whole"], atol=1e-5)


@pytest.mark.parametrize(
    ("fractions", "options", "words"),
    [
        ({"fc_mid": 0.1}, {}, "no such matrix"),
        ({"fc_in": 1.5}, {}, "outside"),
        ({"fc_in": 0.1}, {"aggregate": "median"}, "aggregate 'median'"),
    ],
)
def test_bad_arguments(evaluator, fractions, options, words):
    with pytest.raises(ValueError, match=words):
        eigenprune.prune(evaluator, fractions, [(0, "fc_in")], EXAMPLES, **options)


def test_needs_a_model_that_stops(planted):
    with pytest.raises(ValueError, match="enter and leave"):
        eigenprune.effects(Evaluator(planted.without_stops(), planted.params), KEY, EXAMPLES)
