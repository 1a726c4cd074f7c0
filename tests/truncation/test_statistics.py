import numpy as np
import pytest
from scipy import stats

from truncated_weights.truncation.search import statistics


def test_split_is_a_partition_by_seed():
    validation, test = statistics.split(101, validation=0.2, seed=3)
    assert sorted([*validation, *test]) == list(range(101))
    assert len(validation) == 20
    again, _ = statistics.split(101, validation=0.2, seed=3)
    np.testing.assert_array_equal(validation, again)
    other, _ = statistics.split(101, validation=0.2, seed=4)
    assert list(validation) != list(other)
    with pytest.raises(ValueError, match="validation"):
        statistics.split(3, validation=0.01)


def test_weighted_mean_ignores_padding():
    values = np.array([[[1.0, 100.0], [2.0, 3.0]]])
    weights = np.array([[1.0, 0.0], [1.0, 2.0]])
    np.testing.assert_allclose(statistics.weighted_mean(values, weights), [9 / 4])
    with pytest.raises(ValueError, match="weights"):
        statistics.weighted_mean(values, np.zeros((2, 2)))


def test_intervals_agree_with_the_normal_law():
    rng = np.random.default_rng(0)
    values = rng.normal(0.3, 2.0, (3, 800, 1))
    interval = statistics.paired_bootstrap(values, np.ones((800, 1)), samples=4000)
    error = values[..., 0].std(axis=1) / np.sqrt(800)
    mean = values[..., 0].mean(axis=1)
    np.testing.assert_allclose(interval.mean, mean)
    # The quantile of 4,000 resamples is known to about 3 % of the half-width.
    np.testing.assert_allclose(interval.low, mean - 1.96 * error, atol=0.12 * error.max())
    np.testing.assert_allclose(interval.high, mean + 1.96 * error, atol=0.12 * error.max())


def test_coverage_with_answers_that_move_together():
    """Answers of an example are one draw: treating them as independent would cover far less."""
    rng = np.random.default_rng(1)
    covered, trials = 0, 300
    for trial in range(trials):
        values = np.repeat(rng.normal(size=(1, 60, 1)), 5, axis=2)
        interval = statistics.paired_bootstrap(values, np.ones((60, 5)), seed=trial, samples=400)
        covered += bool(interval.low[0] <= 0 <= interval.high[0])
    # Nominal 0.95 less the known optimism at 60 examples; binomial error 0.013.
    assert abs(covered / trials - 0.94) < 0.04


def test_noise_of_the_best_is_the_quantile_of_a_maximum():
    rng = np.random.default_rng(2)
    candidates, examples = 40, 900
    gains = rng.normal(size=(candidates, examples, 1))
    found = statistics.noise_of_the_best(gains, np.ones((examples, 1)), samples=4000)
    # P(max of C independent standard normals < z) = Phi(z)^C.
    expected = stats.norm.ppf(0.95 ** (1 / candidates)) / np.sqrt(examples)
    np.testing.assert_allclose(np.mean(found), expected, rtol=0.05)
    # Identical candidates are one candidate.
    same = statistics.noise_of_the_best(
        np.repeat(gains[:1], 40, axis=0), np.ones((examples, 1)), samples=4000
    )
    one = stats.norm.ppf(0.95) * gains[0].std() / np.sqrt(examples)
    np.testing.assert_allclose(same, one, rtol=0.06)


def test_a_wrecked_model_does_not_hide_a_small_sure_gain():
    rng = np.random.default_rng(4)
    gains = rng.normal(size=(20, 200, 1)) * 10 - 50
    gains[0] = 0.1 + 0.05 * rng.normal(size=(200, 1))
    threshold = statistics.noise_of_the_best(gains, np.ones((200, 1)))
    assert np.mean(gains[0]) > 5 * threshold[0]
    assert threshold[1] > 1


def test_candidates_share_resamples():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(1, 50, 2))
    interval = statistics.paired_bootstrap(
        np.concatenate([values, values + 1]), np.ones((50, 2)), samples=200
    )
    np.testing.assert_allclose(interval.high[1] - interval.high[0], 1, rtol=1e-9)
