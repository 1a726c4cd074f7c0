"""The figure of bigrams and held-out outputs, from arrays of a run that never was."""

import numpy as np

from experiments.noisy_recall import figures


def arrays(*, heldout: bool) -> dict[str, np.ndarray]:
    steps = np.array([0, 1, 10, 100])
    rng = np.random.default_rng(0)
    found = {f"{group}/steps": steps for group in ("bigrams", "mechanisms", "models")}
    for name in ("loss", "without_feed_forwards", "without_last_attention", "entropy"):
        found[f"bigrams/bigram/{name}"] = rng.random((4, 3))
    for name in ("0", "1", "1/even", "uniform"):
        found[f"mechanisms/bigram_kl/{name}"] = rng.random((4, 3))
    for part in ("clean", "heldout") if heldout else ("clean",):
        for model in ("full", "1.mlp@0", "0.mlp@0"):
            found[f"models/{part}/{model}/p_correct"] = rng.random((4, 3))
    return found


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_each_part_has_its_line_and_what_is_unseen_its_panel():
    loss, divergence = figures.bigrams(arrays(heldout=False)).axes
    assert labels(loss) == ["full", "without last attention", "without feed-forwards"]
    assert labels(divergence) == ["feed-forward 0", "feed-forward 1"]
    *_, unseen = figures.bigrams(arrays(heldout=True)).axes
    assert labels(unseen) == [
        f"{name}, outputs {told}"
        for name in ("full", "1.mlp@0")
        for told in ("trained", "never trained")
    ]


def test_lines_are_means_over_seeds_at_their_steps():
    given = arrays(heldout=True)
    loss, *_ = figures.bigrams(given).axes
    by_label = dict(zip(labels(loss), loss.get_lines(), strict=False))
    line = by_label["without feed-forwards"]
    wanted = given["bigrams/bigram/without_feed_forwards"][1:].mean(axis=1)
    np.testing.assert_allclose(line.get_ydata(), wanted)
    np.testing.assert_array_equal(line.get_xdata(), [1, 10, 100])
