import numpy as np
import pytest

from theory import plateau


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
