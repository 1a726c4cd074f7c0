import numpy as np
import pytest

from truncated_weights.truncation import ablation, editing, notation

EXAMPLES = np.arange(60)


@pytest.mark.parametrize("text", ["1.fc_in@0.1", "1.fc_in@-0.2", "0.fc_out@0.2:0.6", "1.ov@auto"])
def test_kept_and_removed_are_the_whole(planted, text):
    decompositions = planted.scorer().decompositions
    layer, _, name = text.partition("@")[0].partition(".")
    read = planted.matrices[int(layer), name].read
    parts = {
        p: read(ablation.part(decompositions, notation.parse(text), p)) for p in ablation.PARTS
    }
    np.testing.assert_allclose(parts["kept"] + parts["removed"], parts["full"], atol=1e-5)
    np.testing.assert_allclose(
        parts["kept"], read(editing.apply(planted.params, text, planted.matrices)), atol=1e-5
    )
    with pytest.raises(ValueError, match="which 'middle'"):
        ablation.part(decompositions, notation.parse(text), "middle")


def test_what_was_cut_says_noise(planted):
    """The removed top component alone answers the noise class; the rest answers right."""
    batched = planted.scorer(batch_size=7)
    cut = notation.parse("1.fc_in@-0.07")
    rows = {r["part"]: r for r in ablation.report(batched, cut, EXAMPLES)}
    assert rows["removed"]["top_classes"][0] == 5
    assert rows["removed"]["p_noise"] > rows["full"]["p_noise"] > 0.3 > rows["kept"]["p_noise"]
    assert rows["kept"]["p_correct"] > 0.6 > rows["full"]["p_correct"]
    weights = planted.examples.weights
    for row in rows.values():
        np.testing.assert_allclose(sum(row["top_probabilities"]), 1, atol=0.2)
        assert row["top_probabilities"] == sorted(row["top_probabilities"], reverse=True)
    # The mean probability of the noise class is the score p_noise.
    params = ablation.part(batched.decompositions, cut, "removed")
    probabilities = ablation.mean_probabilities(batched, params, EXAMPLES)
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(probabilities[5], rows["removed"]["p_noise"], rtol=1e-5)
    assert weights.min() == 0


def test_flips_are_counted_by_level():
    before = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    after = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    weights = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    level = np.array([[0, 1], [0, 1], [0, 1]])
    rows = ablation.flips(before, after, weights, {"noise_tokens": level}, samples=50)
    told = [
        (r["covariate"], r["level"], r["answers"], r["wrong_to_right"], r["right_to_wrong"])
        for r in rows
    ]
    assert told == [
        ("all", 0, 5, pytest.approx(0.4), pytest.approx(0.4)),
        ("noise_tokens", 0, 3, pytest.approx(1 / 3), pytest.approx(1 / 3)),
        ("noise_tokens", 1, 2, pytest.approx(0.5), pytest.approx(0.5)),
    ]
    for row in rows:
        assert row["wrong_to_right_low"] <= row["wrong_to_right"] <= row["wrong_to_right_high"]
