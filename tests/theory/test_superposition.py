"""The memory of one step in few dimensions: formulas against memories that are drawn."""

import numpy as np
import pytest
from scipy import optimize

from truncated_weights.theory.spectra import superposition


def unit(rng, rows, d):
    x = rng.normal(size=(rows, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def drawn(seed, n, d, alpha, pi=None):
    """Inputs, outputs with the noise last, and W."""
    rng = np.random.default_rng(seed)
    inputs, outputs = unit(rng, n, d), unit(rng, n + 1, d)
    pi = np.ones(n) if pi is None else pi
    told = (1 - alpha) * outputs[:-1] + alpha * outputs[-1]
    return inputs, outputs, (inputs * pi[:, None]).T @ told


def right(inputs, outputs, w, noise=True):
    logits = inputs @ w @ outputs[: len(outputs) if noise else -1].T
    return np.mean(logits.argmax(axis=1) == np.arange(len(inputs)))


@pytest.mark.parametrize(("n", "d", "alpha"), [(128, 64, 0.3), (512, 128, 0.3), (512, 128, 0.2)])
def test_accuracy_full_and_cut_of_drawn_memories(n, d, alpha):
    """The cut of the formula is perfect: the noise's direction is projected out."""
    full, cut = [], []
    for seed in range(4):
        inputs, outputs, w = drawn(seed, n, d, alpha)
        full.append(right(inputs, outputs, w))
        noise = outputs[-1]
        cut.append(right(inputs, outputs, w - np.outer(w @ noise, noise)))
    found = superposition.accuracy(n, d, alpha)
    assert found.full == pytest.approx(np.mean(full), abs=0.04)
    assert found.cut == pytest.approx(np.mean(cut), abs=0.04)
    assert found.cut > found.full + 0.05


def test_without_noise_or_crosstalk_everything_is_right():
    found = superposition.accuracy(16, 4096, 1e-6)
    assert found.full == pytest.approx(1, abs=1e-6)
    # Where noise is shown more often than the fact, more than half of the facts say noise.
    assert superposition.accuracy(64, 4096, 0.6).full < 0.01
    assert superposition.accuracy(64, 64, 0.6).full < 0.5


def test_capacities_are_where_their_formulas_say():
    d, alpha = 10_000, 0.3
    n = round(superposition.noise_capacity(d, alpha))
    # With d so large crosstalk is nothing: accuracy Phi(1).
    assert superposition.accuracy(n, d, alpha).full == pytest.approx(0.8413, abs=0.01)
    n = superposition.clean_capacity(256)
    assert n * 2 * np.log(n) == pytest.approx(256**2)


@pytest.mark.parametrize(("m", "n"), [(300, 300), (200, 400), (400, 200)])
def test_a_planted_spike_is_read_off_the_spectrum(m, n):
    rng = np.random.default_rng(1)
    left, right_, strength = unit(rng, 1, m)[0], unit(rng, 1, n)[0], 2.0
    w = rng.normal(size=(m, n)) / np.sqrt(max(m, n)) + strength * np.outer(left, right_)
    u, s, vt = np.linalg.svd(w, full_matrices=False)
    found = superposition.read_spike(s, (m, n))
    assert found.strength == pytest.approx(strength, rel=0.05)
    assert found.share == pytest.approx((vt[0] @ right_) ** 2, abs=0.05)
    kept = strength - s[0] * (u[:, 0] @ left) * (vt[0] @ right_)
    assert found.left == pytest.approx(kept / strength, abs=0.05)


def test_the_noise_of_a_memory_is_such_a_spike():
    """Shares of W u_0 in the top component, and what its drop leaves, without looking at u_0."""
    for n, d, alpha in ((512, 128, 0.3), (1024, 256, 0.2)):
        assert superposition.spike_edge(n, d, alpha) > 1
        _, outputs, w = drawn(2, n, d, alpha)
        u, s, vt = np.linalg.svd(w)
        noise = outputs[-1]
        found = superposition.read_spike(s, w.shape)
        assert found.share == pytest.approx((vt[0] @ noise) ** 2, abs=0.06)
        # Of the spike e u_0, e the mean input: what of it stays when the component is dropped.
        mean = w @ noise / np.linalg.norm(w @ noise)
        kept = found.strength - s[0] * abs(u[:, 0] @ mean) * abs(vt[0] @ noise)
        assert found.left == pytest.approx(kept / found.strength, abs=0.05)


def test_components_of_frequencies_solve_their_secular_equation():
    pi = 1 / np.arange(1, 201)
    pi /= pi.sum()
    found = superposition.components(pi, 0.2)
    for value in found.values[:3]:
        x = value**2
        assert 0.2**2 * np.sum(pi**2 / (x - 0.8**2 * pi**2)) == pytest.approx(1, rel=1e-6)
    assert found.noise.sum() == pytest.approx(1)
    # As recorded for Zipf frequencies of 200 facts.
    np.testing.assert_allclose(found.noise[:3], [0.664, 0.161, 0.068], atol=5e-4)
    # And of a memory with orthonormal rows, drawn.
    w = np.concatenate([0.8 * np.diag(pi), 0.2 * pi[:, None]], axis=1)
    u, s, _ = np.linalg.svd(w)
    np.testing.assert_allclose(found.values, s, atol=1e-12)
    np.testing.assert_allclose(found.noise, (u.T @ pi) ** 2 / (pi @ pi), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: superposition.accuracy(1, 8, 0.3), "num_facts"),
        (lambda: superposition.accuracy(8, 8, 1.0), "alpha"),
        (lambda: superposition.noise_capacity(8, 0.6), "alpha"),
        (lambda: superposition.read_spike(np.array([1.0, 1.0, 0.5]), (3, 3)), "the first above"),
        (lambda: superposition.read_spike(np.array([2.0, 1.0, 0.5]), (2, 3)), "has not 3"),
        (lambda: superposition.components([0.5, -0.5], 0.3), "positive"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_the_edge_is_where_a_component_appears():
    """Below it the top component has nothing of the noise, above it most, in drawn memories."""
    d = 256
    for alpha, low in ((0.02, True), (0.3, False)):
        _, outputs, w = drawn(3, 4 * d, d, alpha)
        vt = np.linalg.svd(w)[2]
        share = (vt[0] @ outputs[-1]) ** 2
        assert (superposition.spike_edge(4 * d, d, alpha) < 1) == low
        assert (share < 0.1) == low
    edge = optimize.brentq(lambda a: superposition.spike_edge(4 * d, d, a) - 1, 1e-4, 0.5)
    assert edge == pytest.approx(1 / 17)
