import numpy as np
import pytest

from truncated_weights.theory import memory_decay, memory_spectrum


def descend(size, alpha, decay, step, steps):
    """Gradient descent on the whole matrix of logits, with decay."""
    target = np.hstack([(1 - alpha) * np.eye(size), np.full((size, 1), alpha)])
    z = np.zeros_like(target)
    for _ in range(steps):
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        z = z + step * ((target - p) / size - decay * z)
    return z


@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("alpha", [0.1, 0.6])
def test_descent_with_decay_comes_to_rest_there(size, alpha):
    decay = 3e-3
    z = descend(size, alpha, decay, 2.0 * size, 6000)
    found = memory_decay.stationary_logits(size, alpha, np.array([decay]))
    np.testing.assert_allclose(found.correct, z[0, 0], atol=1e-9)
    np.testing.assert_allclose(found.other, z[0, 1], atol=1e-9)
    np.testing.assert_allclose(found.noise, z[0, size], atol=1e-9)
    values = np.linalg.svd(z, compute_uv=False)
    predicted = memory_decay.singular_values(size, alpha, np.array([decay]))
    expected = np.sort(np.append(np.full(size - 1, predicted.signal), predicted.noise))[::-1]
    np.testing.assert_allclose(values, expected, atol=1e-8)


@pytest.mark.parametrize("size", [2, 3, 16, 200])
@pytest.mark.parametrize("alpha", [0.01, 0.3, 0.9])
def test_the_point_of_rest_satisfies_its_equations(size, alpha):
    decays = np.geomspace(1e-9, 1e3, 25)
    a, b, c = memory_decay.stationary_logits(size, alpha, decays)
    total = np.exp(a - c) + (size - 1) * np.exp(b - c) + 1
    residuals = [
        (1 - alpha) - np.exp(a - c) / total - size * decays * a,
        -np.exp(b - c) / total - size * decays * b,
        alpha - 1 / total - size * decays * c,
    ]
    np.testing.assert_allclose(residuals, 0, atol=1e-12)
    np.testing.assert_allclose(a + (size - 1) * b + c, 0, atol=1e-9 * np.abs(a).max())


def test_limits_of_strong_and_weak_decay_are_those_of_early_and_late_times():
    for size, alpha in ((2, 0.3), (8, 0.2), (40, 0.4)):
        values = memory_decay.singular_values(size, alpha, np.array([1e5]))
        early = memory_spectrum.early_ratio(size, alpha)
        assert (values.noise / values.signal).item() == pytest.approx(early, rel=1e-4)
        # The late ratio is approached like 1 / s: compare increments of both values instead.
        weak = memory_decay.singular_values(size, alpha, np.array([1e-9, 1e-10]))
        slope = (np.diff(weak.noise) / np.diff(weak.signal)).item()
        assert slope == pytest.approx(memory_spectrum.late_ratio(size), rel=1e-4)


@pytest.mark.parametrize(("size", "alpha"), [(8, 0.1), (4, 0.3), (64, 0.05), (2, 0.7)])
def test_order_changes_once_at_the_stated_decay(size, alpha):
    change = memory_decay.change_of_order(size, alpha)
    near = change.decay * np.array([1 / 1.01, 1.01])
    table = memory_decay.phase_diagram(np.array([size]), np.array([alpha]), near)[0, 0]
    noise_on_top_when_weak = size >= 4
    assert (table[0] > 0) == noise_on_top_when_weak
    assert (table[1] > 0) != noise_on_top_when_weak
    grid = memory_decay.phase_diagram(
        np.array([size]), np.array([alpha]), np.geomspace(1e-8, 1e2, 60)
    )[0, 0]
    assert np.count_nonzero(np.diff(np.sign(grid))) == 1


def test_asymptotic_decay_of_the_change():
    ratios = []
    for alpha in (0.3, 0.1, 0.03):
        change = memory_decay.change_of_order(6, alpha)
        ratios.append(change.asymptotic / change.decay)
    assert abs(ratios[-1] - 1) < 0.03
    assert np.all(np.diff(np.abs(np.log(ratios))) < 0)


@pytest.mark.parametrize(("size", "alpha"), [(8, 0.4), (2, 0.3), (3, 0.2)])
def test_no_change_where_one_end_holds_the_noise_for_every_decay(size, alpha):
    assert np.isnan(memory_decay.change_of_order(size, alpha).decay)


def test_refusals():
    with pytest.raises(ValueError, match="decays"):
        memory_decay.stationary_logits(4, 0.3, np.array([0.0]))
