import numpy as np
import pytest
from scipy.special import softmax

from truncated_weights.theory import frequent_memory
from truncated_weights.theory.text import shared_answers

ZIPF = frequent_memory.zipf(12)


def test_of_own_answers_it_is_the_memory_with_frequencies():
    own = shared_answers.memory(ZIPF, np.arange(12), 0.3, 0.4)
    times = np.array([200.0, 0.0, 3.0])
    expected = frequent_memory.logits(own.facts, times)
    np.testing.assert_allclose(shared_answers.logits(own, times), expected, atol=2e-7)


def test_against_small_steps_of_the_matrix_itself():
    """Descent on W, rows of e_0 and of every fact, classes in columns."""
    given = shared_answers.memory(ZIPF, np.arange(12) % 3, 0.4, 0.6)
    inputs = np.concatenate([np.full((12, 1), np.sqrt(0.6)), np.sqrt(0.4) * np.eye(12)], axis=1)
    matrix, step = np.zeros((13, 4)), 0.01
    for _ in range(2000):
        residual = shared_answers.targets(given) - softmax(inputs @ matrix, axis=-1)
        matrix += step * inputs.T @ (ZIPF[:, None] * residual)
    found = shared_answers.logits(given, np.array([20.0]))[0]
    np.testing.assert_allclose(found, inputs @ matrix, atol=2e-3)
    found_matrix = frequent_memory.weights(given.facts, found)
    np.testing.assert_allclose(found_matrix, matrix, atol=2e-3)
    own_rows = inputs[:, 1:] @ found_matrix[1:]
    np.testing.assert_allclose(shared_answers.without_row(given, found), own_rows, atol=1e-12)
    half = (own_rows + found) / 2
    np.testing.assert_allclose(shared_answers.without_row(given, found, 0.5), half, atol=1e-12)
    _, values, write = np.linalg.svd(found_matrix)
    rest = found_matrix @ (np.eye(4) - np.outer(write[0], write[0]))
    np.testing.assert_allclose(
        shared_answers.without_top(given, found), inputs @ rest, atol=1e-9 * values[0]
    )


def test_the_ends_of_time():
    given = shared_answers.memory(ZIPF[:4] / ZIPF[:4].sum(), np.array([0, 1, 1, 0]), 0.3, 0.5)
    start, end = shared_answers.logits(given, np.array([0.0, 2e3]))
    np.testing.assert_array_equal(start, 0.0)
    np.testing.assert_allclose(softmax(end, axis=-1), shared_answers.targets(given), atol=0.01)
    assert shared_answers.known(given, end).all()


def test_the_shared_row_learns_the_law_of_the_answers_first():
    """r -> 1: before any fact is known all rows say the answers' law, with the noise."""
    given = shared_answers.memory(ZIPF, np.arange(12) % 3, 0.3, 0.999)
    probabilities = softmax(shared_answers.logits(given, np.array([200.0]))[0], axis=-1)
    expected = np.append(0.7 * np.bincount(given.answers, ZIPF), 0.3)
    np.testing.assert_allclose(probabilities, np.tile(expected, (12, 1)), atol=0.02)


def test_the_noise_gets_further_ahead_while_rare_facts_wait():
    """Two to six times later than at the lead they start with, as the docstring says."""
    law = frequent_memory.zipf(60)
    given = shared_answers.memory(law, np.arange(60) % 4, 0.4, 0.3)
    times = np.geomspace(1.0, 3000.0, 120)
    values = shared_answers.logits(given, times)
    ahead = values[:, np.arange(60), given.answers] > values[:, :, -1]
    lead = np.log(0.4 / (0.6 * np.bincount(given.answers, law)[given.answers]))
    late = times[ahead.argmax(axis=0)] / (lead / (0.7 * 0.6 * law))
    assert ahead[-1].all()
    assert np.all((late[10:] > 1.7) & (late[10:] < 7.0))


def test_answers_that_are_none_are_refused():
    with pytest.raises(ValueError, match="answers must be at least 0"):
        shared_answers.memory(np.array([0.5, 0.5]), np.array([0, -1]), 0.3)
