import inspect

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tests.theory import brute_force
from truncated_weights.theory import first_step

few = settings(max_examples=15, deadline=None, derandomize=True)


def uniform(n):
    return np.full(n, 1 / n), np.full((n, n), 1 / n)


def every_sequence(unigram, bigram, setting):
    """Weights over ybar and sequence together, ybar, xbar and x_T."""
    rows = list(brute_force.sequences(unigram, bigram, **setting))
    num_tokens = len(unigram) + 1
    tables = [brute_force.features(tokens, num_tokens) for _, tokens, _ in rows]
    weights = np.array([w for *_, w in rows]) / (len(unigram) - 1)
    ybar = np.array([y for y, *_ in rows])
    return weights, ybar, np.array([x.mean(0) for x in tables]), np.array([x[-1] for x in tables])


@pytest.mark.parametrize("length", [2, 6])
def test_steps_equal_the_sum_over_all_sequences_and_labels(length):
    unigram, bigram = brute_force.random_language(3, 5)
    setting = dict(trigger=2, alpha=0.3, length=length)
    got = first_step.population_gradients(unigram, bigram, **setting)
    weights, ybar, attended, final = every_sequence(unigram, bigram, setting)
    labels = 0.7 * np.eye(4)[ybar] + 0.3 * np.eye(4)[3]
    residual = (labels - 0.25) * weights[:, None]
    np.testing.assert_allclose(got.feed_forward, residual.T @ final, atol=1e-12)
    np.testing.assert_allclose(got.value, residual.T @ attended, atol=1e-12)


def test_checked_values():
    got = first_step.population_gradients(*uniform(16), trigger=0, alpha=0.3, length=64)
    q, tau = 0, 16
    assert round(got.feed_forward[tau, q], 7) == 0.2411765
    assert round(got.feed_forward[1, q], 7) == -0.0121569
    assert round(got.value[tau, 1], 7) == 0.0146202
    assert round(got.value[1, 1], 7) == 0.0010021
    assert round(got.value[1, 17 + q], 7) == -0.0007046


@pytest.mark.parametrize(
    ("n", "length", "checked"), [(8, 32, 1.60), (16, 64, 1.80), (32, 64, 1.87), (64, 128, 1.94)]
)
def test_checked_ratio_of_the_margins(n, length, checked):
    # The checked figures were sampled: they lie within 0.01 of the exact bracket.
    got = first_step.mean_margins(*uniform(n), trigger=0, alpha=0.3, length=length)
    lower, upper = n * got.value_lower / got.feed_forward, n * got.value_upper / got.feed_forward
    assert lower - 0.01 < checked < upper + 0.01


def test_ratio_of_the_margins_approaches_two():
    # Means alone are cheap, so this may go further than the bracket.
    gaps = []
    for n in (16, 32, 64):
        steps = first_step.population_gradients(*uniform(n), trigger=0, alpha=0.3, length=8 * n)
        # Margins over a fixed class other than the correct one, at mean features.
        probe = steps.value[-1] / (0.3 - 1 / (n + 1))  # E[xbar] over test sequences
        fed = steps.feed_forward[-1] / (0.3 - 1 / (n + 1))
        value = (steps.value[-1] - steps.value[1]) @ probe
        feed_forward = (steps.feed_forward[-1] - steps.feed_forward[1]) @ fed
        gaps.append(2 - n * value / feed_forward)
    assert gaps[-1] < 0.06
    np.testing.assert_allclose(np.array(gaps[:-1]) / gaps[1:], 2, atol=0.15)  # O(1/N)


@pytest.mark.parametrize("test_alpha", [None, 0.0])
def test_mean_margins_equal_the_sum_over_all_test_sequences(test_alpha):
    unigram, bigram = brute_force.random_language(4, 7)
    setting = dict(trigger=1, alpha=0.4, length=5)
    got = first_step.mean_margins(unigram, bigram, **setting, test_alpha=test_alpha)
    steps = first_step.population_gradients(unigram, bigram, **setting)
    if test_alpha is not None:
        setting["alpha"] = test_alpha
    weights, ybar, attended, final = every_sequence(unigram, bigram, setting)
    assert got.feed_forward == pytest.approx(
        weights @ first_step.margins(steps.feed_forward, final), abs=1e-13
    )
    rows = np.arange(len(ybar))
    value, fed = attended @ steps.value.T, final @ steps.feed_forward.T
    over_correct = weights @ (value[:, -1] - value[rows, ybar])
    assert got.value_over_correct == pytest.approx(over_correct, abs=1e-13)
    over_correct = weights @ (fed[:, -1] - fed[rows, ybar])
    assert got.feed_forward_over_correct == pytest.approx(over_correct, abs=1e-13)
    best = weights @ first_step.margins(steps.value, attended)
    assert got.value_lower <= best <= got.value_upper


def test_asymptotics_of_the_margins():
    errors = []
    for n in (16, 32, 64):
        got = first_step.mean_margins(*uniform(n), trigger=0, alpha=0.3, length=4 * n)
        limit = first_step.asymptotic_margins(n, 0.3)
        errors.append(
            [got.feed_forward / limit.feed_forward - 1, got.value_upper / limit.value - 1]
        )
    errors = np.abs(errors)
    assert np.all(errors[-1] < 0.06)
    assert np.all(errors[0] / errors[-1] > 3)  # O(1/N) over a factor of four


def test_the_feed_forward_margin_of_the_trigger_alone_is_exact():
    for n, alpha in ((3, 0.2), (8, 0.3)):
        step = first_step.population_gradients(*uniform(n), trigger=0, alpha=alpha, length=5)
        law = first_step.asymptotic_margins(n, alpha).feed_forward
        assert step.feed_forward[n, 0] - step.feed_forward[1, 0] == pytest.approx(law, abs=1e-14)


def test_the_lower_margin_is_the_bound_of_its_docstring_by_enumeration():
    setting = dict(trigger=1, alpha=0.4, length=4)
    unigram, bigram = brute_force.random_language(4, 3)
    steps = first_step.population_gradients(unigram, bigram, **setting)
    bounds = []
    for ybar in (0, 2, 3):
        rows = [r for r in brute_force.sequences(unigram, bigram, **setting) if r[0] == ybar]
        chances = np.array([chance for *_, chance in rows])
        average = [brute_force.features(tokens, 5).mean(0) for _, tokens, _ in rows]
        values = np.array(average) @ steps.value.T
        upper = chances @ values
        ordinary = values[:, :-1] - values[:, :-1].mean(axis=1, keepdims=True)
        variance = chances @ ordinary**2 - (chances @ ordinary) ** 2
        bounds.append(upper[-1] - upper[:-1].max() - np.sqrt(variance.sum()))
    got = first_step.mean_margins(unigram, bigram, **setting)
    assert got.value_lower == pytest.approx(np.mean(bounds), abs=1e-12)


@few
@given(st.integers(3, 12), st.integers(2, 30), st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
def test_steps_move_no_probability_in_total(n, length, alpha, seed):
    unigram, bigram = brute_force.random_language(n, seed)
    got = first_step.population_gradients(
        unigram, bigram, trigger=seed % n, alpha=alpha, length=length
    )
    np.testing.assert_allclose(got.feed_forward.sum(0), 0, atol=1e-14)
    np.testing.assert_allclose(got.value.sum(0), 0, atol=1e-14)
    assert got.feed_forward[n, seed % n] == pytest.approx(alpha - 1 / (n + 1))


@few
@given(st.integers(3, 8), st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_relabelling_tokens_relabels_the_steps(n, length, seed):
    unigram, bigram = brute_force.random_language(n, seed)
    order = np.random.default_rng(seed).permutation(n)
    new = np.argsort(order)
    mine = first_step.population_gradients(unigram, bigram, trigger=0, alpha=0.3, length=length)
    theirs = first_step.population_gradients(
        unigram[order], bigram[np.ix_(order, order)], trigger=int(new[0]), alpha=0.3, length=length
    )
    full = np.append(new, n)
    columns = np.concatenate([full, n + 1 + full])
    for x, y in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(x, y[np.ix_(full, columns)], atol=1e-14)


def test_features_of_given_sequences():
    tokens = np.array([[0, 3, 1, 0], [2, 2, 3, 0]])
    attended, final = first_step.sequence_features(tokens, 4)
    for i in range(2):
        table = brute_force.features(tokens[i], 4)
        np.testing.assert_allclose(attended[i], table.mean(0))
        np.testing.assert_allclose(final[i], table[-1])
    with pytest.raises(ValueError, match=r"tokens must be at least 0 and below 3"):
        first_step.sequence_features(tokens, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(bigram=np.full((4, 4), 0.3)), "bigram rows must each sum to one"),
        (dict(trigger=4), "trigger must be below 4"),
        (dict(alpha=0.0), "alpha must lie strictly between"),
        (dict(alpha=1.2), "alpha must lie strictly between"),
        (dict(length=1), "length must be at least 2"),
    ],
)
def test_bad_input_is_named(change, message):
    unigram, bigram = uniform(4)
    setting = dict(unigram=unigram, bigram=bigram, trigger=0, alpha=0.3, length=5) | change
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(first_step.population_gradients)(**setting)


def test_float32_laws_are_accepted_and_renormalised():
    unigram, bigram = brute_force.random_language(40, 2)
    double = first_step.population_gradients(unigram, bigram, trigger=3, alpha=0.3, length=30)
    single = first_step.population_gradients(
        unigram.astype(np.float32), bigram.astype(np.float32), trigger=3, alpha=0.3, length=30
    )
    assert single.value.dtype == np.float64
    np.testing.assert_allclose(single.value, double.value, atol=1e-7)
    np.testing.assert_allclose(single.value.sum(0), 0, atol=1e-14)
