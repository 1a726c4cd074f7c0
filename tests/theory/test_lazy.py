import numpy as np
import pytest

from truncated_weights.theory import input_overlap, lazy, recall_chain


def test_arc_cosine_kernels_against_sampling():
    rng = np.random.default_rng(0)
    for cosine in (-0.5, 0.0, 0.5, 0.9):
        inputs = np.array([[1, 0], [cosine, np.sqrt(1 - cosine**2)]])
        z = inputs @ rng.normal(size=(2, 400_000))
        both = np.mean(np.all(z > 0, axis=0))
        products = np.mean(np.prod(np.maximum(z, 0), axis=0))
        zeroth, first = lazy.arc_cosine(cosine)
        assert 2 * both == pytest.approx(zeroth, abs=0.006)
        assert 2 * products == pytest.approx(first, abs=0.01)
        known = input_overlap.rectified_overlap(np.array([cosine]))
        assert first == pytest.approx(known.item())


def test_kernel_of_a_wide_network_by_its_derivatives():
    """One wide feed-forward pair after another, differentiated by hand, no attention."""
    d, hidden, classes, draws = 256, 1024, 4, 6
    rng = np.random.default_rng(1)
    sums = {name: [] for name in lazy.PARTS}
    for _ in range(draws):
        shared = rng.normal(size=d)
        x = np.stack([shared + rng.normal(size=d) for _ in range(2)])
        draw = lambda *shape: rng.uniform(-1, 1, shape) / np.sqrt(shape[0])  # noqa: E731
        a1, b1, a2, b2 = draw(d, hidden), draw(hidden, d), draw(d, hidden), draw(hidden, d)
        out = rng.uniform(-1, 1, (d, classes)) / np.sqrt(d)
        z1 = x @ a1
        x1 = x + np.maximum(z1, 0) @ b1
        z2 = x1 @ a2
        top = np.broadcast_to(out, (2, d, classes))
        inner2 = (z2 > 0)[:, :, None] * (b2 @ top)
        back = top + a2 @ inner2
        inner1 = (z1 > 0)[:, :, None] * (b1 @ back)
        for name, features, gradients in (
            ("0.fc_in", x, inner1),
            ("0.fc_out", np.maximum(z1, 0), back),
            ("1.fc_in", x1, inner2),
            ("1.fc_out", np.maximum(z2, 0), top),
        ):
            together = np.einsum("ik,ik->k", gradients[0], gradients[1]).mean()
            sums[name].append(features[0] @ features[1] * together)
    predicted = lazy.part_kernels(d, hidden, 1.0)
    for name in lazy.PARTS:
        found, error = np.mean(sums[name]), np.std(sums[name], ddof=1) / np.sqrt(draws)
        assert abs(found - predicted[name]) < 4 * error + 0.03 * predicted[name], name


def test_triggers_overlap_as_a_memory_with_a_shared_feature():
    limit = [lazy.trigger_kernel(d, 4 * d) / d for d in (64, 512)]
    assert limit[0] == pytest.approx(limit[1])
    ratio = lazy.trigger_kernel(64, 256) / lazy.trigger_kernel(64, 256, same=True)
    assert ratio == pytest.approx(0.55, abs=0.005)
    parts = lazy.part_kernels(64, 256, 1.0, attended=0.1)
    assert parts["1.v_proj"] == pytest.approx(64 * 0.1 / 9, rel=0.05)
    assert parts["0.fc_out"] / parts["0.fc_in"] == pytest.approx(1.83 * 4, rel=0.01)
    assert parts["1.fc_out"] == pytest.approx(parts["0.fc_out"], rel=0.05)


def test_descent_in_function_space_is_descent_of_the_weights():
    rng = np.random.default_rng(2)
    features, weights = rng.normal(size=(6, 4)), np.zeros((4, 3))
    targets = rng.dirichlet(np.ones(3), size=6)
    velocity = np.zeros_like(weights)
    path = lazy.descend(
        features @ features.T, targets, np.zeros((6, 3)), learning_rate=0.1, momentum=0.8, steps=30
    )
    for step in range(30):
        z = features @ weights
        np.testing.assert_allclose(path[step], z, atol=1e-12)
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        velocity = 0.8 * velocity + features.T @ (targets - p) / 6
        weights = weights + 0.1 * velocity


def test_noise_is_predicted_to_come_within_four_steps():
    """Recorded p(noise) at steps 1, 2, 4 of full training, two seeds: .03-.05, .10-.16, .70-.79."""
    curves = lazy.trigger_curves(
        width=64,
        hidden=256,
        num_outputs=31,
        num_classes=33,
        alpha=0.5,
        learning_rate=0.03,
        momentum=0.9,
        steps=64,
    )
    np.testing.assert_allclose(curves.noise[[1, 2, 4]], [0.05, 0.14, 0.75], atol=0.03)
    assert curves.correct.max() < 0.04


def test_refusals():
    with pytest.raises(ValueError, match="cosine"):
        lazy.arc_cosine(1.2)
    with pytest.raises(ValueError, match="width"):
        lazy.part_kernels(0, 4, 1.0)


def test_what_two_positions_attend_to():
    """Uniform attention over drawn embeddings: the mean overlap of two such means."""
    rng = np.random.default_rng(0)
    frequencies, length, width, found = np.array([[0.5, 0.3, 0.2]]), 12, 3000, []
    for _ in range(60):
        embed, position = rng.normal(size=(3, width)), rng.normal(size=(length, width))
        means = []
        for place in rng.integers(2, length + 1, 2):
            tokens = rng.choice(3, place, p=frequencies[0])
            means.append((embed[tokens] + position[:place]).mean(axis=0))
        found.append(means[0] @ means[1] / width)
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - lazy.attended_overlap(frequencies, length)) < 4 * error
    assert error < 0.03


def test_the_ratio_of_margins_stops_at_what_every_stream_shares():
    def ratio(size, length):
        flat = np.full((1, size), 1 / size)
        return lazy.margin_ratio(64, 256, lazy.attended_overlap(flat, length))

    far = 10**5
    assert 1.2 < ratio(16, far) / ratio(8, far) < 2
    assert ratio(10**6, 64) / ratio(10**5, 64) == pytest.approx(1, rel=1e-2)
    # No tokens and no positions in common: layer 1 reads the mean of the first feed-forward.
    fed = sum(lazy.part_kernels(64, 256, 1.0)[name] for name in lazy.PARTS)
    shared = lazy.arc_cosine(0.0)[1] * (2 * 64 / 81 + 256 / 81)
    assert lazy.margin_ratio(64, 256, 1e-9) == pytest.approx(fed / (lazy.KEYS * shared))


@pytest.mark.parametrize("law", [[0.5, 0.3, 0.2], [0.9, 0.1], [0.1] * 10])
def test_what_two_softmaxes_agree_on_by_drawing_their_scores(law):
    rng, law = np.random.default_rng(3), np.array(law)
    common = rng.normal(size=(200_000, law.size)) / np.sqrt(3)
    one, other = (
        law * np.exp(common + rng.normal(size=common.shape) / np.sqrt(3)) for _ in range(2)
    )
    agreed = np.sum(one * other, axis=1) / one.sum(axis=1) / other.sum(axis=1)
    far = dict(length=10**5, width=10**9)
    expected = lazy.softmax_overlap(law[None], **far)
    assert agreed.mean() == pytest.approx(expected, rel=2e-3)


def test_overlaps_where_tokens_are_many_and_layers_narrow():
    """One token and many: the weight is one and e^(1/3); width adds 4 / (3 d)."""
    far = dict(length=10**5, width=10**9)
    assert lazy.softmax_overlap(np.ones((1, 1)), **far) == pytest.approx(1, abs=2e-3)
    flat = np.full((1, 2000), 1 / 2000)
    assert lazy.softmax_overlap(flat, 10**6, 10**9) == pytest.approx(
        np.exp(1 / 3) * lazy.attended_overlap(flat, 10**6), rel=5e-3
    )
    narrow, wide = (lazy.softmax_overlap(flat, 64, d) for d in (32, 10**9))
    assert narrow - wide == pytest.approx(4 / 96, rel=1e-6)


def test_paths_of_attention():
    """Measured at d = T = 64, N = 8: .58 to .68, .78 to .83, .27 to .35, .07 to .08."""
    paths = lazy.attention_paths(64, 256, 0.2375)
    found = 0.189 * np.array(list(paths.values()))
    np.testing.assert_allclose(found, [0.638, 0.824, 0.243, 0.071], rtol=5e-3)
    # Layer 1 writes what layer 0 does, what it attends to of it, and the mean of a feed-forward.
    direct, above, _, through = paths.values()
    assert through == pytest.approx(direct / 9)
    features = lazy.arc_cosine(0.0)[1] * (1 - 0.2375) + lazy.arc_cosine(0.5)[1] * 0.2375
    assert above == pytest.approx(direct + through + 128 / 9 * features / 9)


def test_first_step_margins_of_feed_forwards_over_attention():
    """A chain of Zipf tokens, d = T = 64: measured 4.0-5.3, 3.9-4.8, 5.9-6.4, 7.1-9.1."""
    ratios = []
    for size in (8, 16, 32, 64):
        law = 1 / np.arange(1, size + 1)
        unigram = law / law.sum()
        chain = recall_chain.chain(
            unigram, np.tile(unigram, (size, 1)), trigger=0, alpha=0.3, length=64
        )
        frequencies = recall_chain.means(chain).attended[:, : size + 1]
        uniform = lazy.attended_overlap(frequencies, 64)
        softmax = lazy.softmax_overlap(frequencies, 64, 64)
        ratios.append(lazy.margin_ratio(64, 256, uniform, softmax))
        # Without the softmax: its limit of many tokens and wide layers.
        limit = lazy.margin_ratio(64, 256, uniform, np.exp(1 / 3) * uniform)
        assert lazy.margin_ratio(64, 256, uniform) == pytest.approx(limit)
    np.testing.assert_allclose(ratios, [4.04, 5.02, 5.87, 6.57], atol=0.02)


def test_deviation_of_labels_by_drawing_them():
    alpha, outputs, classes, sequences, per_sequence = 0.3, 5, 8, 40, 4
    rng = np.random.default_rng(1)
    correct = rng.integers(1, 1 + outputs, (20_000, sequences, 1))
    noisy = rng.random((20_000, sequences, per_sequence)) < alpha
    labels = np.where(noisy, 0, correct).reshape(20_000, -1)
    residual = np.stack([(labels == k).mean(axis=1) for k in range(classes)], axis=1) - 1 / classes
    along = residual @ residual.mean(axis=0)
    expected = lazy.label_deviation(
        alpha=alpha,
        num_classes=classes,
        num_outputs=outputs,
        labels=float(sequences * per_sequence),
    )
    assert along.std() / along.mean() == pytest.approx(expected, rel=0.02)
