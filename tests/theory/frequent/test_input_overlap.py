import numpy as np
import pytest

from truncated_weights.theory import frequent_memory, input_overlap


def test_shared_feature_gives_its_own_r_back():
    law, r = frequent_memory.zipf(6), 0.35
    rows = np.concatenate([np.full((6, 1), np.sqrt(r)), np.sqrt(1 - r) * np.eye(6)], axis=1)
    drive = input_overlap.noise_drive(rows, law)
    np.testing.assert_allclose(drive, (1 - r) * law + r)
    np.testing.assert_allclose(input_overlap.effective_shared(drive, law), r)
    memory = frequent_memory.facts(law, 0.3, r)
    z = frequent_memory.logits(memory, np.array([1e-3]))[0]
    np.testing.assert_allclose(z[:, 6], (0.3 - 1 / 7) * drive * 1e-3, rtol=1e-3)


def test_random_rows_have_the_stated_mean_and_deviation():
    law, width, draws = frequent_memory.zipf(12), 5, 5_000
    rows = np.random.default_rng(0).normal(size=(draws, 12, width)) / np.sqrt(width)
    found = np.array([input_overlap.noise_drive(x, law) for x in rows])
    predicted = input_overlap.random_drive(law, width)
    error = predicted.deviation / np.sqrt(draws)
    assert np.all(np.abs(found.mean(axis=0) - predicted.mean) < 4.5 * error)
    allowed = 4.5 * np.sqrt(2 / draws)  # kurtosis of a sum of products of Gaussians is below 9
    np.testing.assert_allclose(found.std(axis=0), predicted.deviation, rtol=allowed)


def test_rectified_features_share_one_over_pi():
    known = input_overlap.rectified_overlap(np.array([0.0, 1.0, -1.0]))
    np.testing.assert_allclose(known, [1 / np.pi, 1, 0], atol=1e-12)
    rng = np.random.default_rng(1)
    for cosine in (0.0, 0.6):
        inputs = np.array([[1, 0], [cosine, np.sqrt(1 - cosine**2)]])
        features = np.maximum(inputs @ rng.normal(size=(2, 400_000)), 0)
        gram = features @ features.T
        assert gram[0, 1] / gram[0, 0] == pytest.approx(
            input_overlap.rectified_overlap(np.array([cosine])).item(), abs=0.01
        )


def test_refusals():
    with pytest.raises(ValueError, match="cosine"):
        input_overlap.rectified_overlap(np.array([1.5]))
