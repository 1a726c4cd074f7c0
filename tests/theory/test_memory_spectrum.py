import inspect

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from truncated_weights.theory import memory_flow, memory_spectrum

few = settings(max_examples=25, deadline=None, derandomize=True)


def logit_matrix(n, values, i=0):
    """[N, N + 1], rows inputs, the noise class last."""
    table = np.full((n, n + 1), values.other[i])
    table[np.arange(n), np.arange(n)] = values.correct[i]
    table[:, n] = values.noise[i]
    return table


def softmax(table):
    weights = np.exp(table - table.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@few
@given(st.integers(2, 40), st.floats(1e-3, 0.999), st.floats(1e-2, 1e8))
def test_singular_values_and_vectors_match_a_decomposition(n, alpha, time):
    times = np.array([time])
    table = logit_matrix(n, memory_flow.logits(n, alpha, times))
    signal, noise = (x[0] for x in memory_spectrum.singular_values(n, alpha, times))
    expected = np.sort(np.append(np.full(n - 1, signal), noise))[::-1]
    np.testing.assert_allclose(np.linalg.svd(table, compute_uv=False), expected, atol=1e-9)
    read, write = memory_spectrum.noise_vectors(n)
    np.testing.assert_allclose(read @ table, read @ table @ write * write, atol=1e-9)
    assert abs(abs(read @ table @ write) - noise) < 1e-9


@pytest.mark.parametrize("keep", ["full", "signal", "noise"])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_truncation_matches_a_decomposition(n, keep):
    times = np.array([0.5, 40.0, 1e4])
    values = memory_flow.logits(n, 0.3, times)
    predicted = memory_spectrum.truncated_probabilities(n, 0.3, times, keep=keep)
    read, _ = memory_spectrum.noise_vectors(n)
    for i in range(3):
        table = logit_matrix(n, values, i)
        noise = np.outer(read, read @ table)
        p = softmax({"full": table, "signal": table - noise, "noise": noise}[keep])
        np.testing.assert_allclose(p[0, 0], predicted.correct[i], atol=1e-12)
        np.testing.assert_allclose(p[0, 1], predicted.other[i], atol=1e-12)
        np.testing.assert_allclose(p[0, n], predicted.noise[i], atol=1e-12)


def test_checked_values_two_inputs():
    times = np.array([1e3])
    signal, noise = memory_spectrum.singular_values(2, 0.3, times)
    assert round(signal[0], 3) == 6.258
    assert round(noise[0], 3) == 2.633
    full = memory_spectrum.truncated_probabilities(2, 0.3, times, keep="full")
    kept = memory_spectrum.truncated_probabilities(2, 0.3, times, keep="signal")
    assert round(full.noise[0], 4) == 0.2993
    assert round(kept.noise[0], 3) == 0.042
    assert round(kept.correct[0], 3) == 0.956


def test_checked_values_eight_inputs():
    times = np.array([1e3])
    signal, noise = memory_spectrum.singular_values(8, 0.3, times)
    assert round(noise[0], 3) == 11.482
    assert round(signal[0], 3) == 5.904
    kept = memory_spectrum.truncated_probabilities(8, 0.3, times, keep="noise")
    assert round(kept.noise[0], 3) == 0.903


def test_rank_one_noise_falls_like_the_inverse_root_of_time_for_two_inputs():
    times = np.geomspace(1e6, 1e12, 30)
    p = memory_spectrum.truncated_probabilities(2, 0.3, times, keep="signal").noise
    slope = np.polyfit(np.log(times), np.log(p), 1)[0]
    assert abs(slope + 0.5) < 1e-3


def test_checked_crossing_four_inputs():
    found = memory_spectrum.crossing(4, 0.3)
    assert round(found.asymptotic_time) == 193
    assert found.times.shape == (1,)
    assert 100 < found.times[0] < 1000
    # The long-time formula is 17 % low here: e^{s*} is only about 80.
    assert found.times[0] == pytest.approx(233.349139, abs=1e-5)


@pytest.mark.thorough
@few
@given(st.integers(2, 100).filter(lambda n: n != 3), st.floats(1e-6, 0.999))
def test_the_order_changes_once_exactly_when_early_and_late_disagree(n, alpha):
    early, late = memory_spectrum.early_ratio(n, alpha), memory_spectrum.late_ratio(n)
    if abs(early - 1) < 1e-3:
        return
    found = memory_spectrum.crossing(n, alpha)
    assert len(found.times) == int((early - 1) * (late - 1) < 0)
    threshold = 1 / np.sqrt(n + 1)
    assert len(found.times) == int((alpha < threshold) if n >= 4 else (alpha > threshold))
    if found.times.size:
        signal, noise = memory_spectrum.singular_values(n, alpha, found.times)
        np.testing.assert_allclose(signal, noise, rtol=1e-7)
        np.testing.assert_allclose(found.signals, signal, rtol=1e-12)


def test_asymptotic_crossing_time_is_approached_for_rare_noise():
    found = memory_spectrum.crossing(4, 1e-3)
    assert found.times[0] / found.asymptotic_time == pytest.approx(1, abs=1e-9)
    assert found.signals[0] == pytest.approx(found.asymptotic_signal, rel=1e-9)


def test_three_inputs_never_cross_and_coincide_at_one_half():
    assert memory_spectrum.crossing(3, 0.3).times.size == 0
    assert memory_spectrum.crossing(3, 0.5).times.size == 0
    assert memory_spectrum.crossing(3, 0.8).times.size == 0
    signal, noise = memory_spectrum.singular_values(3, 0.5, np.array([0.1, 10.0, 1e6]))
    np.testing.assert_allclose(signal, noise, rtol=1e-10)


@pytest.mark.thorough
@few
@given(st.integers(2, 100), st.floats(0.01, 0.99))
def test_early_and_late_ratios_are_the_limits(n, alpha):
    signal, noise = memory_spectrum.singular_values(n, alpha, np.array([1e-4, 1e250]))
    assert noise[0] / signal[0] == pytest.approx(memory_spectrum.early_ratio(n, alpha), abs=1e-4)
    assert noise[1] / signal[1] == pytest.approx(memory_spectrum.late_ratio(n), rel=0.05)


def test_phase_diagram_changes_sign_at_the_crossing():
    time = memory_spectrum.crossing(6, 0.2).times[0]
    table = memory_spectrum.phase_diagram(
        np.array([2, 6]), np.array([0.2]), np.array([0.999, 1.001]) * time
    )
    assert table.shape == (2, 1, 2)
    assert np.all(table[0] < 0)
    assert table[1, 0, 0] < 0 < table[1, 0, 1]


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="times must be positive"):
        memory_spectrum.phase_diagram(np.array([4]), np.array([0.3]), np.array([0.0]))
    with pytest.raises(ValueError, match="alpha"):
        memory_spectrum.crossing(4, 1.5)
    with pytest.raises(ValueError, match="num_inputs"):
        memory_spectrum.late_ratio(1)
    unchecked = inspect.unwrap(memory_spectrum.truncated_probabilities)
    with pytest.raises(ValueError, match="keep must be"):
        unchecked(4, 0.3, np.array([1.0]), keep="top")
