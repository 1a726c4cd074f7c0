import inspect
import itertools
import time

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tests.theory import brute_force
from truncated_weights.theory import recall_chain

few = settings(max_examples=15, deadline=None, derandomize=True)


@pytest.mark.parametrize("length", [2, 3, 6])
@pytest.mark.parametrize("own_noise_row", [False, True])
def test_moments_equal_the_sum_over_all_sequences(length, own_noise_row):
    n, trigger, alpha = 3, 1, 0.35
    unigram, bigram = brute_force.random_language(n, 0)
    noise_row = np.array([0.2, 0.5, 0.3]) if own_noise_row else None
    setting = dict(trigger=trigger, alpha=alpha, length=length, noise_row=noise_row)
    law = recall_chain.chain(unigram, bigram, **setting)
    got = recall_chain.moments(law)
    size = 2 * (n + 1)
    expected = recall_chain.Moments(
        np.array([0, 2]),
        *(np.zeros((2, size)) for _ in range(2)),
        *(np.zeros((2, size, size)) for _ in range(2)),
        np.zeros((2, n + 1, n + 1)),
    )
    total = np.zeros(2)
    for ybar, tokens, weight in brute_force.sequences(unigram, bigram, **setting):
        i = {0: 0, 2: 1}[ybar]
        table = brute_force.features(tokens, n + 1)
        attended, final = table.mean(axis=0), table[-1]
        total[i] += weight
        expected.attended[i] += weight * attended
        expected.final[i] += weight * final
        expected.attended_second[i] += weight * np.outer(attended, attended)
        expected.final_second[i] += weight * np.outer(final, final)
        for before, after in itertools.pairwise(tokens):
            expected.pairs[i, before, after] += weight / length
    np.testing.assert_allclose(total, 1, atol=1e-12)
    for name, mine, theirs in zip(got._fields, got, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12, err_msg=name)


def test_means_are_the_first_moments():
    unigram, bigram = brute_force.random_language(6, 1)
    law = recall_chain.chain(unigram, bigram, trigger=5, alpha=0.4, length=9)
    for mine, theirs in zip(recall_chain.means(law), recall_chain.moments(law), strict=False):
        np.testing.assert_allclose(mine, theirs, atol=1e-15)


@few
@given(st.integers(3, 9), st.integers(2, 20), st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
def test_probabilities_stay_probabilities(n, length, alpha, seed):
    unigram, bigram = brute_force.random_language(n, seed)
    law = recall_chain.chain(unigram, bigram, trigger=seed % n, alpha=alpha, length=length)
    got = recall_chain.moments(law)
    assert min(x.min() for x in got) >= 0
    np.testing.assert_allclose(got.attended[:, : n + 1].sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(got.attended[:, n + 1 :].sum(1), 1 - 1 / length, atol=1e-12)
    np.testing.assert_allclose(got.final.sum(1), 2, atol=1e-12)
    np.testing.assert_allclose(got.pairs.sum((1, 2)), 1 - 1 / length, atol=1e-12)
    # A row of second moments sums to the mean times the (fixed) length of xbar.
    np.testing.assert_allclose(
        got.attended_second.sum(2), (2 - 1 / length) * got.attended, atol=1e-12
    )
    centred = got.attended_second - got.attended[:, :, None] * got.attended[:, None, :]
    assert np.linalg.eigvalsh(centred).min() > -1e-12


@few
@given(st.integers(3, 8), st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_relabelling_tokens_relabels_the_moments(n, length, seed):
    unigram, bigram = brute_force.random_language(n, seed)
    order = np.random.default_rng(seed).permutation(n)
    new = np.argsort(order)  # token k is called new[k]
    law = recall_chain.chain(unigram, bigram, trigger=0, alpha=0.3, length=length)
    other = recall_chain.chain(
        unigram[order], bigram[np.ix_(order, order)], trigger=int(new[0]), alpha=0.3, length=length
    )
    mine, theirs = recall_chain.moments(law), recall_chain.moments(other)
    rows = np.searchsorted(theirs.outputs, new[mine.outputs])
    full = np.append(new, n)
    columns = np.concatenate([full, n + 1 + full])
    np.testing.assert_allclose(mine.attended, theirs.attended[rows][:, columns], atol=1e-13)
    np.testing.assert_allclose(
        mine.attended_second, theirs.attended_second[rows][:, columns][:, :, columns], atol=1e-13
    )
    np.testing.assert_allclose(mine.pairs, theirs.pairs[rows][:, full][:, :, full], atol=1e-13)


def test_alpha_approaches_its_limits():
    unigram, bigram = brute_force.random_language(4, 3)
    clean = recall_chain.moments(
        recall_chain.chain(unigram, bigram, trigger=1, alpha=0.0, length=7)
    )
    small = recall_chain.moments(
        recall_chain.chain(unigram, bigram, trigger=1, alpha=1e-12, length=7)
    )
    np.testing.assert_allclose(small.attended_second, clean.attended_second, atol=1e-10)
    assert not np.any(clean.attended[:, 4])
    # When noise always follows the trigger, the correct output cannot matter.
    large = recall_chain.moments(
        recall_chain.chain(unigram, bigram, trigger=1, alpha=1 - 1e-12, length=7)
    )
    np.testing.assert_allclose(large.attended, large.attended[[0, 0, 0]], atol=1e-10)


def test_reference_size_takes_seconds():
    unigram, bigram = brute_force.random_language(65, 4)
    start = time.perf_counter()
    law = recall_chain.chain(unigram, bigram, trigger=0, alpha=0.5, length=256)
    got = recall_chain.moments(law)
    assert time.perf_counter() - start < 30
    np.testing.assert_allclose(got.attended_second.sum((1, 2)), (2 - 1 / 256) ** 2, atol=1e-10)


UNIFORM = np.full(4, 0.25)
SQUARE = np.full((4, 4), 0.25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(unigram=UNIFORM * 1.1), "unigram must sum to one, off by 0.1"),
        (dict(unigram=np.full(2, 0.5)), "unigram must have shape"),
        (dict(bigram=SQUARE * 0.9), "bigram rows must each sum to one"),
        (dict(bigram=SQUARE * np.nan), "bigram must hold finite probabilities"),
        (dict(unigram=np.array([1.5, -0.5, 0.0, 0.0])), "unigram must hold finite probabilities"),
        (dict(trigger=4), "trigger must be below 4"),
        (dict(trigger=-1), "trigger must be at least 0"),
        (dict(alpha=1.0), r"alpha must lie in \[0, 1\)"),
        (dict(alpha=-0.1), r"alpha must lie in \[0, 1\)"),
        (dict(length=1), "length must be at least 2"),
        (dict(noise_row=UNIFORM * 2), "noise_row must sum to one"),
        (dict(noise_row=np.full(3, 1 / 3)), "noise_row must have shape"),
    ],
)
def test_bad_input_is_named(change, message):
    setting = dict(unigram=UNIFORM, bigram=SQUARE, trigger=0, alpha=0.3, length=5, noise_row=None)
    setting |= change
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(recall_chain.chain)(**setting)


def test_shapes_that_disagree_are_named():
    with pytest.raises(ValueError, match="bigram must have shape"):
        inspect.unwrap(recall_chain.chain)(UNIFORM, np.eye(5), trigger=0, alpha=0.3, length=5)
