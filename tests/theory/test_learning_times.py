import numpy as np
import pytest
from scipy.integrate import solve_ivp

from truncated_weights.theory import attention_step, first_step, learning_times


def uniform(n):
    return np.full(n, 1 / n), np.full((n, n), 1 / n)


@pytest.mark.parametrize("alpha", [0.2, 0.5])
def test_first_velocity_approaches_the_exact_first_step(alpha):
    errors = []
    for n in (16, 64):
        exact = first_step.population_gradients(*uniform(n), trigger=0, alpha=alpha, length=8 * n)
        reduced = learning_times._velocity(n, alpha, np.zeros(9))
        noise_over_other = exact.feed_forward[n, 0] - exact.feed_forward[1, 0]
        # Copying: a token's own logit above that of another output, per attended token.
        copying = exact.value[1, 1] - exact.value[2, 1]
        errors.append(
            [
                (reduced[0] - reduced[1]) / noise_over_other - 1,
                reduced[6] / copying - 1,
                reduced[0] / exact.feed_forward[n, 0] - 1,
            ]
        )
    errors = np.abs(errors)
    assert np.all(errors[0] < 2.5 / 16)
    assert np.all(errors[1] < 2.5 / 64)


def test_copying_starts_as_the_exact_first_step_of_long_sequences():
    """One over N above it, the share of the last token, once T is long enough to forget starts."""
    for n in (8, 32):
        exact = first_step.population_gradients(*uniform(n), trigger=0, alpha=0.3, length=128 * n)
        reduced = learning_times._velocity(n, 0.3, np.zeros(9))
        copying = exact.value[1, 1] - exact.value[2, 1]
        assert n * (reduced[6] / copying - 1) == pytest.approx(1.0, abs=0.03)


def log_likelihood(n, alpha, state):
    masses = learning_times._masses(n, alpha, state)
    p = learning_times._probabilities(n, *learning_times._logits(n, masses, state))
    return (1 - alpha) * np.log(p[0]) + alpha * np.log(p[2])


@pytest.mark.parametrize(("n", "alpha"), [(4, 0.3), (9, 0.6)])
def test_values_and_scores_climb_the_log_likelihood(n, alpha):
    """By difference quotients, at a state where nothing is symmetric or small."""
    state = np.random.default_rng(n).normal(size=9)
    slope = np.array(
        [
            (log_likelihood(n, alpha, state + h) - log_likelihood(n, alpha, state - h)) / 2e-5
            for h in 1e-5 * np.eye(9)
        ]
    )
    got = learning_times._velocity(n, alpha, state)
    # V at the key etilde(q); the n - 1 outputs share one variable, which moves by their mean.
    np.testing.assert_allclose(got[3:6] * [1, n - 1, 1], slope[3:6], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(got[7], slope[7], rtol=1e-6, atol=1e-9)
    # The advantage of a correct token has one share of the n - 1 in what pulls at correct tokens.
    correct, noise = slope[7] + slope[8], -slope[8]
    np.testing.assert_allclose(got[8], correct / (n - 1) - noise, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("alpha", [0.2, 0.5])
def test_scores_start_as_the_exact_attention_step(alpha):
    for n in (16, 64):
        # The setting of that step: F has learned the noise, V copies with unit strength.
        state = np.zeros(9)
        logits = np.log([alpha, (1 - alpha) / (n - 1), 1e-12])
        state[:3] = logits / (1 + 3 / n)
        state[6] = 1e-6
        exact = attention_step.population_gradient(
            *uniform(n), trigger=0, alpha=alpha, length=8 * n
        )
        pull = learning_times._velocity(n, alpha, state)[7] / state[6]
        assert pull == pytest.approx(exact[n + 1], rel=2.5 / n)


@pytest.mark.parametrize("alpha", [0.3, 0.6])
def test_half_times_approach_their_scaling_laws(alpha):
    gaps = []
    for n in (64, 512, 4096):
        found = learning_times.half_times(n, alpha)
        law = learning_times.asymptotic_half_times(n, alpha)
        assert found.ratio == pytest.approx(found.attention / found.noise)
        gaps.append([found.noise / law.noise - 1, found.attention / law.attention - 1])
    gaps = np.abs(gaps)
    assert np.all(gaps[-1] < 3e-3)
    np.testing.assert_allclose(gaps[:-1] / gaps[1:], 8, rtol=0.35)  # O(1/N), up to logarithms


def test_noise_before_attention_and_more_so_for_more_tokens():
    ratios = [learning_times.half_times(n, 0.3).ratio for n in (32, 64, 128, 256)]
    assert ratios[0] > 50
    # From one N to twice N, between N and N^(3/2).
    assert np.all(np.diff(np.log2(ratios)) > 0.9)
    assert np.all(np.diff(np.log2(ratios)) < 1.5)


def test_curves_pass_through_the_half_times_and_stay_probabilities():
    n, alpha = 32, 0.3
    half = learning_times.half_times(n, alpha)
    at = learning_times.curves(n, alpha, np.array([half.attention, half.noise, 0.0]))
    assert at.p_noise[1] == pytest.approx(alpha / 2, abs=1e-5)
    assert at.attention_correct[0] == pytest.approx(0.5, abs=1e-4)
    assert at.p_noise[2] == pytest.approx(1 / (n + 1))
    assert at.attention_correct[2] == pytest.approx((1 - alpha) / n)
    assert at.feed_forward_margin[2] == at.attention_margin[2] == 0
    path = learning_times.curves(n, alpha, np.linspace(0, 3 * half.attention, 200))
    assert np.all(path.attention_correct + path.attention_noise < 1)
    assert np.all(np.diff(path.attention_correct) > -1e-9)
    assert path.p_noise[-1] == pytest.approx(alpha, rel=0.05)


def test_attention_holds_its_small_share_of_the_margin_until_it_moves():
    n = 64
    half = learning_times.half_times(n, 0.3)
    got = learning_times.curves(n, 0.3, np.array([half.noise, 0.2 * half.attention]))
    share = got.attention_margin / (got.attention_margin + got.feed_forward_margin)
    np.testing.assert_allclose(share, 2 / n, rtol=0.15)


@pytest.mark.parametrize(("frequency", "outputs", "alpha"), [(0.2, 31, 0.3), (0.05, 7, 0.5)])
def test_take_over_time_solves_the_pair(frequency, outputs, alpha):
    speed = frequency * (1 - alpha) ** 2

    def velocity(_, state):
        copy, score = state
        return speed * np.exp(score) * np.array([1 / outputs, copy])

    for score in (0.5, 3.0):
        event = lambda _, state, score=score: state[1] - score  # noqa: E731
        event.terminal = True
        found = solve_ivp(velocity, (0, 1e5), [0, 0], events=event, rtol=1e-10, atol=1e-12)
        got = learning_times.take_over_time(frequency, outputs, alpha, score)
        assert got == pytest.approx(found.t[-1], rel=1e-7)


def test_take_over_time_of_a_uniform_language_is_the_law_of_attention():
    law = learning_times.asymptotic_half_times(64, 0.3).attention
    assert learning_times.take_over_time(1 / 64, 64, 0.3) == pytest.approx(law, rel=1e-12)


def test_steps_approach_the_time_as_the_rate_falls():
    """With and without momentum; what is left is attention's saturation, small at low frequency."""
    time = learning_times.take_over_time(0.01, 32, 0.3)
    for momentum in (0.0, 0.9):
        steps = learning_times.take_over_steps(
            frequency=0.01, num_outputs=32, alpha=0.3, momentum=momentum, speed=1.0,
            learning_rate=0.2 * (1 - momentum),
        )  # fmt: skip
        assert 0.2 * steps == pytest.approx(time, rel=0.05)


def test_the_lag_of_momentum_is_an_offset():
    def steps(outputs, frequency):
        return learning_times.take_over_steps(
            frequency=frequency, num_outputs=outputs, alpha=0.3, learning_rate=0.03, momentum=0.9
        )

    points = [(k, f) for k in (7, 15, 31, 63) for f in (0.05, 0.1, 0.15, 0.23)]
    found = np.array([steps(*point) for point in points])
    slopes = np.array([np.sqrt(k) / f for k, f in points])
    (offset, slope), *_ = np.linalg.lstsq(np.c_[1 / found, slopes / found], np.ones(16), rcond=None)
    assert 9 < offset < 27  # between one lag of 9 steps and three
    assert slope == pytest.approx(np.sqrt(np.pi / 2) * 0.1 / (0.03 * 4.0 * 0.7**2), rel=0.2)
    assert np.max(np.abs((offset + slope * slopes) / found - 1)) < 0.06


def test_attention_that_starts_at_half_takes_no_step_and_a_short_run_reaches_none():
    some = dict(num_outputs=8, alpha=0.1, learning_rate=0.03, momentum=0.9)
    assert learning_times.take_over_steps(frequency=0.6, **some) == 0
    assert np.isnan(learning_times.take_over_steps(frequency=0.1, at_most=3, **some))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="num_ordinary must be at least 4"):
        learning_times.half_times(3, 0.3)
    with pytest.raises(ValueError, match="alpha"):
        learning_times.asymptotic_half_times(10, 0.0)
    with pytest.raises(ValueError, match="alpha must exceed 2 /"):
        learning_times.half_times(10, 0.1)
    at_half = 2 / 11  # p(noise) = 1 / (N + 1) at the start is half of alpha
    with pytest.raises(ValueError, match="alpha must exceed"):
        learning_times.half_times(10, at_half)
    assert learning_times.half_times(10, at_half * (1 + 1e-6)).noise < 1e-3
    assert learning_times.asymptotic_half_times(4, 0.5).noise > 0
    with pytest.raises(ValueError, match="times"):
        learning_times.curves(10, 0.3, np.array([-1.0]))
