import numpy as np
import pytest

from truncated_weights.theory import plateau


@pytest.mark.parametrize(("momentum", "sharpness"), [(0.9, 15.0), (0.5, 40.0), (0.0, 20.0)])
def test_wander_of_a_simulated_heavy_ball(momentum, sharpness):
    rate, alpha, labels, copies, steps = 0.03, 0.3, 50, 4000, 400
    predicted = plateau.wander(
        sharpness=sharpness,
        learning_rate=rate,
        momentum=momentum,
        alpha=alpha,
        labels=labels,
        lags=8,
    )
    rng = np.random.default_rng(0)
    kernel = sharpness / (alpha * (1 - alpha))
    z, v, kept = np.zeros(copies), np.zeros(copies), []
    for _ in range(steps):
        flips = rng.binomial(labels, alpha, copies) / labels
        v = momentum * v - rate * (sharpness * z - kernel * (flips - alpha))
        z = z + v
        kept.append(z * alpha * (1 - alpha))
    found = np.array(kept)[-9:]
    deviation = found[-1].std()
    assert deviation == pytest.approx(predicted.deviation, rel=4.5 / np.sqrt(2 * copies))
    measured = np.array([np.mean(found[-1] * found[-1 - k]) for k in range(9)]) / deviation**2
    np.testing.assert_allclose(measured, predicted.correlation, atol=4.5 / np.sqrt(copies))


def test_period_is_that_of_the_free_oscillation():
    rate, momentum, sharpness = 0.02, 0.97, 30.0
    z, v, path = 1.0, 0.0, []
    for _ in range(400):
        v = momentum * v - rate * sharpness * z
        z += v
        path.append(z)
    path = np.array(path)
    ups = np.flatnonzero((path[:-1] < 0) & (path[1:] >= 0))
    period = plateau.wander(
        sharpness=sharpness, learning_rate=rate, momentum=momentum, alpha=0.5, labels=1
    ).period
    assert np.diff(ups).mean() == pytest.approx(period, rel=0.01)
    assert period == pytest.approx(2 * np.pi / np.sqrt(rate * sharpness), rel=0.1)


def test_no_ringing_without_momentum_and_no_rest_beyond_the_edge():
    settings = dict(learning_rate=0.1, momentum=0.0, alpha=0.5, labels=10)
    assert plateau.wander(sharpness=5.0, **settings).period == np.inf
    assert plateau.edge_of_stability(0.1, 0.5) == pytest.approx(30)
    with pytest.raises(ValueError, match="edge"):
        plateau.wander(sharpness=20.0, **settings)


def test_wander_of_several_modes_as_a_window_shows_it():
    rate, momentum, labels, window, runs = 0.03, 0.9, 100, 120, 600
    curvatures, weights = np.array([1.0, 15.0, 60.0]), np.array([0.01, 0.02, 0.005])
    predicted = plateau.wander_of_modes(
        curvatures,
        weights,
        learning_rate=rate,
        momentum=momentum,
        labels=labels,
        window=window,
        lags=8,
    )
    rng = np.random.default_rng(1)
    z, v, kept = np.zeros((runs, 3)), np.zeros((runs, 3)), []
    for _ in range(1000 + window):
        strike = np.sqrt(curvatures / labels) * rng.normal(size=(runs, 3))
        v = momentum * v - rate * (curvatures * z + strike)
        z = z + v
        kept.append(z @ np.sqrt(weights))
    found = plateau.observed(np.array(kept[-window:]).T, lags=8)
    assert found.deviation == pytest.approx(predicted.deviation, rel=0.02)
    np.testing.assert_allclose(found.correlation, predicted.correlation, atol=0.03)
    assert found.period == pytest.approx(predicted.period, rel=0.02)
    # The spread of the deviation over runs is what Bartlett's formula says of one run.
    each = np.array(kept[-window:]).T.std(axis=1)
    alone = plateau.observed(np.array(kept[-window:]).T, lags=60)
    assert each.std() == pytest.approx(plateau.deviation_error(alone, window), rel=0.15)


def test_one_mode_is_the_limit_of_modes_and_flat_directions_are_alike():
    settings = dict(learning_rate=0.03, momentum=0.9, labels=700)
    one = plateau.wander(sharpness=15.0, alpha=0.5, **settings)
    many = plateau.wander_of_modes(
        np.array([15.0]), np.array([15.0 / 4]), window=100_000, **settings
    )
    assert many.deviation == pytest.approx(one.deviation, rel=1e-3)
    np.testing.assert_allclose(many.correlation, one.correlation, atol=1e-3)
    # eta |g|^2 / (2 n (1 - mu)) whatever the curvatures, far below the edge.
    low = plateau.wander_of_modes(
        np.array([0.5, 1.0]), np.array([1.0, 3.0]), window=100_000, **settings
    )
    assert low.deviation**2 == pytest.approx(0.03 * 4 / (2 * 700 * 0.1), rel=0.01)
    with pytest.raises(ValueError, match="edge"):
        plateau.wander_of_modes(np.array([1.0, 200.0]), np.ones(2), window=100, **settings)


def test_first_dip_of_a_cosine():
    lags = np.arange(30)
    assert plateau.first_dip(np.cos(2 * np.pi * lags / 11)) == pytest.approx(5.5, rel=0.01)
    assert plateau.first_dip(np.exp(-lags / 5.0)) == np.inf
