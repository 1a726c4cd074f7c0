import inspect

import numpy as np
import pytest

from tests.theory import brute_force
from truncated_weights.theory import finite_samples, first_step

SETTING = dict(trigger=0, alpha=0.3, length=5)


@pytest.fixture(scope="module")
def enumerated():
    """Every (sequence, label) of a tiny chain: weights, labels, x_T, xbar."""
    unigram, bigram = brute_force.random_language(4, 11)
    rows = []
    for ybar, tokens, weight in brute_force.sequences(unigram, bigram, **SETTING):
        table = brute_force.features(tokens, 5)
        for label, chance in ((ybar, 0.7), (4, 0.3)):
            rows.append((weight * chance / 3, label, table[-1], table.mean(0)))
    weights, labels, final, attended = (np.array(x) for x in zip(*rows, strict=True))
    return finite_samples.sampled_step(unigram, bigram, **SETTING), weights, labels, final, attended


@pytest.mark.parametrize("against", [None, 1, 3])
def test_deviations_equal_the_sum_over_all_sequences_and_labels(enumerated, against):
    step, weights, labels, final, attended = enumerated
    generator = np.random.default_rng(0)
    probe = (generator.normal(size=10), generator.normal(size=10))
    other = 1 / 5 if against is None else (labels == against)
    combination = 1.0 * (labels == 4) - other
    means = finite_samples.margin_means(step, probe, against=against)
    deviations = finite_samples.margin_deviations(step, probe, against=against)
    for x, features, mean, deviation in zip(
        probe, (final, attended), means, deviations, strict=True
    ):
        sample = combination * (features @ x)
        expected = weights @ sample
        assert mean == pytest.approx(expected, abs=1e-12)
        assert deviation**2 == pytest.approx(weights @ sample**2 - expected**2, abs=1e-12)


@pytest.mark.parametrize("block", ["feed_forward", "value"])
def test_entry_deviations_equal_the_sum_over_all(enumerated, block):
    step, weights, labels, final, attended = enumerated
    features = final if block == "feed_forward" else attended
    entries = (np.eye(5)[labels] - 0.2)[:, :, None] * features[:, None, :]
    mean = np.tensordot(weights, entries, 1)
    variance = np.tensordot(weights, entries**2, 1) - mean**2
    got = finite_samples.entry_deviations(step, block)
    np.testing.assert_allclose(got**2, variance, atol=1e-12)


@pytest.mark.parametrize("alpha", [1e-3, 0.3, 0.9])
def test_noise_entry_at_the_trigger_is_a_bernoulli_mean(alpha):
    unigram, bigram = brute_force.random_language(6, 1)
    step = finite_samples.sampled_step(unigram, bigram, trigger=2, alpha=alpha, length=9)
    expected = np.sqrt(alpha * (1 - alpha))
    assert finite_samples.entry_deviations(step, "feed_forward")[6, 2] == pytest.approx(expected)
    probe = (np.eye(14)[2], np.eye(14)[2])
    deviations = finite_samples.margin_deviations(step, probe, against=None)
    assert deviations.feed_forward == pytest.approx(expected)


def test_both_blocks_reach_the_same_signal_to_noise():
    n, alpha = 48, 0.3
    step = finite_samples.sampled_step(
        np.full(n, 1 / n), np.full((n, n), 1 / n), trigger=0, alpha=alpha, length=4 * n
    )
    got = finite_samples.signal_to_noise(step, against=None)
    assert got.feed_forward == pytest.approx(got.value, rel=1e-3)
    assert got.value == pytest.approx(np.sqrt(alpha / (1 - alpha)), rel=0.1)


def test_mean_probe_gives_the_margin_of_the_population_step():
    unigram, bigram = brute_force.random_language(7, 4)
    setting = dict(trigger=3, alpha=0.6, length=8)
    step = finite_samples.sampled_step(unigram, bigram, **setting)
    population = first_step.population_gradients(unigram, bigram, **setting)
    probe = finite_samples.mean_probe(step)
    got = finite_samples.margin_means(step, probe, against=5)
    for mean, x, table in zip(got, probe, population, strict=True):
        assert mean == pytest.approx((table[7] - table[5]) @ x, abs=1e-14)


def test_bad_input_is_named():
    unigram, bigram = brute_force.random_language(4, 1)
    step = finite_samples.sampled_step(unigram, bigram, **SETTING)
    with pytest.raises(ValueError, match="against must be below 4"):
        finite_samples.signal_to_noise(step, against=4)
    with pytest.raises(ValueError, match="alpha"):
        finite_samples.sampled_step(unigram, bigram, trigger=0, alpha=1.0, length=5)
    with pytest.raises(ValueError, match=r'"feed_forward" or "value"'):
        inspect.unwrap(finite_samples.entry_deviations)(step, "values")
