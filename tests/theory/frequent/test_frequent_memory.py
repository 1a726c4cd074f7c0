import functools

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from truncated_weights.theory import frequent_memory, frequent_window, memory_flow

ALPHA = 0.3


def brute_velocity(frequencies, noise, shared):
    """Right side for the whole matrix of logits, written from the definition of the loss."""
    size, noise = len(frequencies), np.atleast_1d(noise)
    target = np.zeros((size, size + noise.size))
    target[np.arange(size), np.arange(size)] = 1 - noise.sum()
    target[:, size:] = noise
    embeddings = np.concatenate(
        [np.full((size, 1), np.sqrt(shared)), np.sqrt(1 - shared) * np.eye(size)], axis=1
    )
    gram = embeddings @ embeddings.T

    def velocity(z):
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return gram @ (frequencies[:, None] * (target - p))

    return velocity


def brute_flow(frequencies, noise, shared, times):
    velocity = brute_velocity(frequencies, noise, shared)
    shape = (len(frequencies), len(frequencies) + np.size(noise))
    solution = solve_ivp(
        lambda _, z: velocity(z.reshape(shape)).ravel(),
        (0, max(times)),
        np.zeros(shape[0] * shape[1]),
        method="DOP853",
        t_eval=times,
        rtol=1e-11,
        atol=1e-12,
    )
    return solution.y.T.reshape(-1, *shape)


def thirds(z):
    """Accuracy, p(correct), p(noise) of the frequent, middle and rare third, as in a table."""
    size = len(z)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return np.array(
        [
            [np.mean(np.argmax(z[s], axis=1) == s), np.mean(p[s, s]), np.mean(p[s, size])]
            for s in np.array_split(np.arange(size), 3)
        ]
    )


# Gradient descent with steps of 1; N = 64, Zipf exponent 1, r = .5, alpha = .3.
TABLE = {
    300: (".27 .20 .31, 0 .01 .36, 0 .01 .36", "1 .18 .03, .29 .03 .03, 0 .02 .03"),
    1000: (".82 .47 .27, 0 .09 .37, 0 .02 .40", ".95 .56 .06, .57 .13 .10, 0 .04 .11"),
    3000: ("1 .64 .29, 1 .47 .29, .10 .25 .38", "1 .81 .04, 1 .64 .06, 1 .37 .10"),
    10000: ("1 .69 .30, 1 .66 .30, 1 .62 .30", "1 .92 .02, 1 .91 .03, 1 .87 .04"),
}


@functools.cache
def descended():
    velocity = brute_velocity(frequent_memory.zipf(64), ALPHA, 0.5)
    z, done, kept = np.zeros((64, 65)), 0, {}
    for stop in TABLE:
        for _ in range(stop - done):
            z = z + velocity(z)
        done, kept[stop] = stop, z.copy()
    return kept


def read_table(text):
    return np.array([[float(x) for x in cell.split()] for cell in text.split(",")])


@pytest.mark.parametrize("time", list(TABLE))
def test_recorded_accuracies_by_frequency_to_their_digits(time):
    memory = frequent_memory.facts(frequent_memory.zipf(64), ALPHA, 0.5)
    flow = frequent_memory.logits(memory, np.array([float(time)]), num_nodes=32)[0]
    for z in (descended()[time], flow):
        for found, text in zip(
            (z, frequent_window.truncated_logits(memory, z)), TABLE[time], strict=True
        ):
            # Two digits, and half a fact of 21 for accuracies written with two digits.
            np.testing.assert_allclose(thirds(found), read_table(text), atol=0.0051)


@pytest.mark.parametrize("shared", [0.0, 0.2, 0.5, 0.9])
def test_reduced_equations_are_the_full_flow(shared):
    law = frequent_memory.zipf(64)
    times = [0.0, 3.0, 40.0, 300.0, 1500.0]
    memory = frequent_memory.facts(law, ALPHA, shared)
    found = frequent_memory.logits(memory, np.array(times))
    np.testing.assert_allclose(found, brute_flow(law, ALPHA, shared, times), rtol=0, atol=1e-8)


def test_interpolation_error_falls_geometrically():
    law, times = frequent_memory.zipf(64), [300.0]
    exact = brute_flow(law, ALPHA, 0.5, times)
    memory = frequent_memory.facts(law, ALPHA, 0.5)
    errors = [
        np.abs(frequent_memory.logits(memory, np.array(times), num_nodes=n) - exact).max()
        for n in (16, 24, 32, 40)
    ]
    assert errors[0] < 2e-3
    assert np.all(np.diff(np.log(errors)) < np.log(0.1))


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("noise", [0.3, (0.1, 0.25)])
def test_brute_force_of_small_memories(size, noise):
    law = np.array([0.5, 0.3, 0.2])[:size] / np.sum([0.5, 0.3, 0.2][:size])
    noise = np.atleast_1d(noise)
    memory = frequent_memory.facts(law, noise, 0.4)
    times = [1.0, 10.0, 200.0]
    np.testing.assert_allclose(
        frequent_memory.logits(memory, np.array(times)),
        brute_flow(law, noise, 0.4, times),
        rtol=0,
        atol=1e-8,
    )


def test_equal_frequencies_without_sharing_are_the_uniform_memory():
    times = np.array([5.0, 300.0])
    memory = frequent_memory.facts(np.full(6, 1 / 6), ALPHA)
    z = frequent_memory.logits(memory, times)
    expected = memory_flow.logits(6, ALPHA, times)
    np.testing.assert_allclose(z[:, 2, 2], expected.correct, atol=1e-8)
    np.testing.assert_allclose(z[:, 2, 3], expected.other, atol=1e-8)
    np.testing.assert_allclose(z[:, 2, 6], expected.noise, atol=1e-8)


def test_without_sharing_each_row_is_a_memory_on_its_own_clock():
    law, times = frequent_memory.zipf(20, 1.5), np.array([2.0, 500.0])
    memory = frequent_memory.facts(law, ALPHA)
    triples = frequent_memory.independent_logits(memory, times)
    z = brute_flow(law, ALPHA, 0.0, list(times))
    here = np.arange(20)
    np.testing.assert_allclose(triples[..., 0], z[:, here, here], atol=1e-8)
    np.testing.assert_allclose(triples[..., 1], z[:, here, (here + 1) % 20], atol=1e-8)
    np.testing.assert_allclose(triples[..., 2], z[:, :, 20], atol=1e-8)


def test_limits_of_the_overlap():
    law, times = frequent_memory.zipf(12), np.array([40.0])

    def at(shared):
        return frequent_memory.logits(frequent_memory.facts(law, ALPHA, shared), times)[0]

    # r -> 0 joins r = 0 linearly, r -> 1 leaves one row that every input reads.
    first, second = (np.abs(at(r) - at(0.0)).max() for r in (1e-4, 1e-5))
    assert first / second == pytest.approx(10, rel=0.02)
    assert np.ptp(at(1 - 1e-9), axis=0).max() < 1e-6
    # ... and learns the law of the targets, noise included.
    late = frequent_memory.logits(frequent_memory.facts(law, ALPHA, 1 - 1e-9), np.array([2000.0]))[
        0, 0
    ]
    np.testing.assert_allclose(
        np.exp(late) / np.exp(late).sum(), np.append((1 - ALPHA) * law, ALPHA), atol=1e-3
    )


def test_rare_noise_vanishes():
    memory = frequent_memory.facts(frequent_memory.zipf(8), 1e-9, 0.5)
    z = frequent_memory.logits(memory, np.array([400.0]))[0]
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert p[:, 8].max() < 2e-2
    assert np.all(np.argmax(z, axis=1) == np.arange(8))


def test_weights_give_the_logits_back_and_follow_their_own_flow():
    law, step = frequent_memory.zipf(5), 1e-3
    memory = frequent_memory.facts(law, ALPHA, 0.4)
    z = frequent_memory.logits(memory, np.array([7.0, 7.0 + step]))
    matrix, later = (frequent_memory.weights(memory, x) for x in z)
    np.testing.assert_allclose(frequent_memory.read(memory, matrix), z[0], atol=1e-12)
    p = np.exp(z[0]) / np.exp(z[0]).sum(axis=1, keepdims=True)
    residual = law[:, None] * (np.eye(5, 6) * (1 - ALPHA) - p)
    residual[:, 5] += law * ALPHA
    expected = np.concatenate([np.sqrt(0.4) * residual.sum(axis=0)[None], np.sqrt(0.6) * residual])
    np.testing.assert_allclose((later - matrix) / step, expected, atol=2e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], 0.3, 0.5), "frequencies"),
        (([1.0, 0.0], 0.3, 0.5), "frequencies"),
        (([0.5, 0.6], 0.3, 0.5), "frequencies"),
        (([0.5, 0.5], 1.0, 0.5), "noise"),
        (([0.5, 0.5], [0.2, -0.1], 0.5), "noise"),
        (([0.5, 0.5], 0.3, 1.0), "shared"),
    ],
)
def test_memories_that_cannot_be(arguments, message):
    law, noise, shared = arguments
    noise = noise if isinstance(noise, float) else np.array(noise)
    with pytest.raises(ValueError, match=message):
        frequent_memory.facts(np.array(law), noise, shared)


def test_independent_rows_need_no_sharing():
    with pytest.raises(ValueError, match="shared = 0"):
        frequent_memory.independent_logits(
            frequent_memory.facts(np.array([0.5, 0.5]), ALPHA, 0.1), np.array([1.0])
        )
