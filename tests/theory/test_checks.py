"""What every function of theory/ refuses, and the smallest thing it still takes."""

import inspect

import numpy as np
import pytest

from truncated_weights.theory import attention_step, checks


def test_laws_are_rescaled_to_one_and_refused_where_they_are_none():
    law = np.array([[0.2, 0.8], [0.5, 0.5]]) * (1 + 5e-6)
    np.testing.assert_allclose(checks.probabilities("law", law).sum(axis=-1), 1.0, atol=1e-15)
    np.testing.assert_allclose(checks.probabilities("law", law)[0, 0], 0.2, rtol=1e-15)
    with pytest.raises(ValueError, match=r"law rows must each sum to one, off by 1.5e-05"):
        checks.probabilities("law", law * (1 + 1e-5))
    with pytest.raises(ValueError, match=r"law must sum to one, off by 0.5"):
        checks.probabilities("law", np.array([0.5]))
    for wrong in (-0.5, np.nan, np.inf):
        with pytest.raises(ValueError, match="finite probabilities that are not negative"):
            checks.probabilities("law", np.array([1.5, wrong]))


def test_times_are_one_dimensional_finite_and_not_negative():
    np.testing.assert_array_equal(checks.nonnegative_times(np.array([0, 2])), [0.0, 2.0])
    refuse = inspect.unwrap(checks.nonnegative_times)
    with pytest.raises(ValueError, match=r"one-dimensional, got shape \(1, 2\)"):
        refuse(np.ones((1, 2)))
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="times must be finite and not negative"):
            checks.nonnegative_times(np.array([1.0, wrong]))


def test_whole_numbers_and_open_fractions():
    refuse = inspect.unwrap(checks.at_least)
    assert refuse("n", np.int64(3), 3) == 3
    with pytest.raises(ValueError, match=r"n must be an integer, got 3.0"):
        refuse("n", 3.0, 3)
    with pytest.raises(ValueError, match="n must be at least 3, got 2"):
        checks.at_least("n", 2, 3)
    for wrong in (0.0, 1.0, -0.5, 2.0, float("nan")):
        with pytest.raises(ValueError, match="x must lie strictly between 0 and 1"):
            checks.open_fraction("x", wrong)


def test_the_smallest_language_has_a_trigger_and_two_outputs():
    unigram, bigram = np.full(3, 1 / 3), np.full((3, 3), 1 / 3)
    assert checks.language(unigram, bigram, 2)[2] == 2
    assert attention_step.asymptotic_scores(3, 0.5).after_trigger == pytest.approx(1 / 12)
    refuse = inspect.unwrap(checks.language)
    with pytest.raises(ValueError, match="N at least 3"):
        refuse(unigram[:2], bigram[:2, :2], 0)
    with pytest.raises(ValueError, match="unigram must have shape"):
        refuse(bigram, bigram, 0)
    with pytest.raises(ValueError, match="bigram must have shape"):
        refuse(unigram, bigram[:2], 0)
    with pytest.raises(ValueError, match="trigger must be below 3"):
        refuse(unigram, bigram, 3)
