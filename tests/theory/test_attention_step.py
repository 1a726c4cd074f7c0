import inspect

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tests.theory import brute_force
from truncated_weights.theory import attention_step

few = settings(max_examples=15, deadline=None, derandomize=True)


def uniform(n):
    return np.full(n, 1 / n), np.full((n, n), 1 / n)


@pytest.mark.parametrize("length", [2, 3, 6])
def test_step_equals_the_derivative_summed_over_all_sequences(length):
    unigram, bigram = brute_force.random_language(3, 9)
    setting = dict(trigger=0, alpha=0.3, length=length)
    outputs = np.array([1, 2])
    expected = np.zeros(8)
    for ybar, tokens, weight in brute_force.sequences(unigram, bigram, **setting):
        residual = np.zeros(4)
        residual[outputs] -= 0.7 / 2
        residual[ybar] += 0.7
        table = brute_force.features(tokens, 4)
        # d/dg of sum_t softmax(X g)_t r_{z_t} at g = 0, by the softmax's own Jacobian.
        jacobian = np.eye(length) / length - np.ones((length, length)) / length**2
        expected += weight / 2 * residual[list(tokens)] @ jacobian @ table
    got = attention_step.population_gradient(unigram, bigram, **setting)
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_checked_values():
    got = attention_step.population_gradient(*uniform(16), trigger=0, alpha=0.3, length=64)
    assert round(got[17], 7) == 0.0242353
    assert round(got[16], 8) == -0.00042585
    assert round(got[1:16].mean(), 8) == 0.00017894


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [8, 24])
def test_predicted_order_of_key_features(n, alpha):
    got = attention_step.population_gradient(*uniform(n), trigger=0, alpha=alpha, length=4 * n)
    assert np.argmax(got) == n + 1
    assert got[n + 1] > 5 * np.abs(np.delete(got, [n + 1, 0])).max()
    assert got[n] < 0
    gap = attention_step.correct_minus_noise(got, 0)
    assert gap.shape == (n - 1,)
    assert gap.min() > 0


def test_asymptotics():
    ratios = []
    for n in (12, 24, 48):
        got = attention_step.population_gradient(*uniform(n), trigger=0, alpha=0.3, length=8 * n)
        limit = attention_step.asymptotic_scores(n, 0.3)
        ratios.append([got[n + 1] / limit.after_trigger, got[n] / limit.noise])
    gaps = 1 - np.array(ratios)
    assert np.all(gaps[-1] < 0.09)
    np.testing.assert_allclose(gaps[:-1] / gaps[1:], 2, atol=0.25)


@few
@given(st.integers(3, 10), st.integers(2, 20), st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
def test_equal_scores_at_every_position_change_nothing(n, length, alpha, seed):
    unigram, bigram = brute_force.random_language(n, seed)
    got = attention_step.population_gradient(
        unigram, bigram, trigger=seed % n, alpha=alpha, length=length
    )
    # Every position holds exactly one current token.
    assert got[: n + 1].sum() == pytest.approx(0, abs=1e-14)


@few
@given(st.integers(3, 8), st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_relabelling_tokens_relabels_the_step(n, length, seed):
    unigram, bigram = brute_force.random_language(n, seed)
    order = np.random.default_rng(seed).permutation(n)
    new = np.argsort(order)
    mine = attention_step.population_gradient(unigram, bigram, trigger=0, alpha=0.3, length=length)
    theirs = attention_step.population_gradient(
        unigram[order], bigram[np.ix_(order, order)], trigger=int(new[0]), alpha=0.3, length=length
    )
    full = np.append(new, n)
    np.testing.assert_allclose(mine, theirs[np.concatenate([full, n + 1 + full])], atol=1e-14)


def test_only_noise_leaves_nothing_to_learn():
    unigram, bigram = brute_force.random_language(5, 3)
    got = attention_step.population_gradient(unigram, bigram, trigger=1, alpha=1 - 1e-9, length=12)
    np.testing.assert_allclose(got, 0, atol=1e-8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(unigram=np.full(4, 0.3)), "unigram must sum to one"),
        (dict(trigger=7), "trigger must be below 4"),
        (dict(alpha=0.0), "alpha must lie strictly between"),
        (dict(length=1), "length must be at least 2"),
    ],
)
def test_bad_input_is_named(change, message):
    unigram, bigram = uniform(4)
    setting = dict(unigram=unigram, bigram=bigram, trigger=0, alpha=0.3, length=5) | change
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(attention_step.population_gradient)(**setting)
    with pytest.raises(ValueError, match="trigger must be below 4"):
        attention_step.correct_minus_noise(np.zeros(10), 4)
