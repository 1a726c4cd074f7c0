import inspect
import json
import pathlib

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given, settings

from truncated_weights.theory import memory_flow

RECORD = json.loads(pathlib.Path(__file__).with_name("reference_flow.json").read_text())
few = settings(max_examples=25, deadline=None, derandomize=True)
sizes = st.integers(2, 200)
alphas = st.floats(1e-6, 1 - 1e-6)
moments = st.floats(1e-3, 1e12)


@pytest.mark.parametrize(
    "row", RECORD, ids=lambda r: f"N{r['num_inputs']}-a{r['alpha']}-t{r['time']}"
)
def test_logits_match_thirty_digits(row):
    got = memory_flow.logits(row["num_inputs"], float(row["alpha"]), np.array([float(row["time"])]))
    expected = np.array(row["logits"], dtype=np.float64)
    np.testing.assert_allclose(np.concatenate(got), expected, atol=1e-8, rtol=0)


def test_far_and_short_times_in_one_call_agree_with_separate_calls():
    times = np.array([1e8, 0.0, 3.0, 1e-6, 3.0])
    together = memory_flow.logits(5, 0.2, times)
    for i, time in enumerate(times):
        alone = memory_flow.logits(5, 0.2, times[i : i + 1])
        np.testing.assert_allclose([x[i] for x in together], np.concatenate(alone), atol=1e-9)
        assert time > 0 or np.all(np.concatenate(alone) == 0)


def test_the_fallback_integrator_takes_over_where_the_first_gives_up():
    n, alpha = 1740, 0.9755813888661906
    time = np.array([memory_flow.settled(n, alpha)])
    np.testing.assert_allclose(
        np.concatenate(memory_flow.logits(n, alpha, time)),
        np.concatenate(memory_flow.asymptotic_logits(n, alpha, time)),
        atol=1e-8,
    )


def test_float64_whatever_the_caller_chose():
    with jax.enable_x64(False):
        values = memory_flow.logits(4, 0.3, np.array([10.0], dtype=np.float32))
    assert all(x.dtype == np.float64 for x in values)


@few
@given(sizes, alphas, moments)
def test_conserved_sum_and_probabilities(n, alpha, time):
    values = memory_flow.logits(n, alpha, np.array([time]))
    assert abs(values.correct + (n - 1) * values.other + values.noise) < 1e-10
    p = memory_flow.probabilities(n, values)
    assert abs(p.correct + (n - 1) * p.other + p.noise - 1) < 1e-12
    assert min(np.concatenate(p)) > 0


@few
@given(sizes, alphas)
def test_early_times_follow_the_first_derivative(n, alpha):
    time = 1e-6
    values = np.concatenate(memory_flow.logits(n, alpha, np.array([time])))
    u = 1 / (n + 1)
    slope = np.array([1 - alpha - u, -u, alpha - u]) / n
    np.testing.assert_allclose(values, time * slope, atol=1e-11)


@few
@given(sizes, alphas)
def test_late_times_reach_the_target_and_the_asymptotics(n, alpha):
    time = np.array([1e6 * n / (alpha * (1 - alpha))])
    values = memory_flow.logits(n, alpha, time)
    np.testing.assert_allclose(
        np.concatenate(values),
        np.concatenate(memory_flow.asymptotic_logits(n, alpha, time)),
        atol=1e-3,
    )
    p = memory_flow.probabilities(n, values)
    assert abs(p.noise / alpha - 1) < 1e-3
    assert abs(p.correct / (1 - alpha) - 1) < 1e-3


def test_error_of_the_asymptotics_vanishes_like_log_t_over_t():
    times = np.array([1e4, 1e5, 1e6, 1e7])
    exact = memory_flow.logits(6, 0.4, times).noise
    errors = np.abs(exact - memory_flow.asymptotic_logits(6, 0.4, times).noise)
    scaled = errors * times / np.log(times)
    assert np.ptp(scaled) < 0.1 * scaled.min()


def test_without_noise_the_noise_class_is_like_any_other():
    values = memory_flow.logits(7, 1e-12, np.array([5.0, 500.0]))
    np.testing.assert_allclose(values.noise, values.other, atol=1e-9)


def test_with_only_noise_the_correct_class_is_like_any_other():
    values = memory_flow.logits(7, 1 - 1e-12, np.array([5.0, 500.0]))
    np.testing.assert_allclose(values.correct, values.other, atol=1e-9)


def test_correct_and_noise_trade_places_at_one_half():
    # With equal targets the two classes cannot be told apart within a row.
    values = memory_flow.logits(9, 0.5, np.array([1.0, 1e2, 1e6]))
    np.testing.assert_allclose(values.noise, values.correct, atol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 0.3, [1.0]), "num_inputs must be at least 2"),
        ((4, 0.0, [1.0]), "alpha must lie strictly between 0 and 1"),
        ((4, 1.0, [1.0]), "alpha must lie strictly between 0 and 1"),
        ((4, float("nan"), [1.0]), "alpha must lie"),
        ((4, 0.3, [-1.0]), "times must be finite and not negative"),
        ((4, 0.3, [np.inf]), "times must be finite"),
    ],
)
def test_bad_input_is_named(arguments, message):
    n, alpha, times = arguments
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(memory_flow.logits)(n, alpha, np.array(times))


def test_times_that_rounding_alone_tells_apart():
    times = np.array([50.0, np.nextafter(50.0, 51.0), 1e-20, 2e-20])
    found = memory_flow.logits(12, 0.3, times)
    np.testing.assert_allclose(found.correct[0], found.correct[1], rtol=1e-12)
    np.testing.assert_allclose(found.correct[2:], 0.0, atol=1e-15)
