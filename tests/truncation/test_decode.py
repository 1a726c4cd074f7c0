import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.truncation.decode import decode
from truncated_weights.truncation.search.effects import mean_input
from truncated_weights.truncation.spectrum import Decomposition, decompose

NOISE = 5


def orthonormal(size, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def test_the_planted_component_says_noise(planted):
    """It is built as 3 (constant outer unembedding of the noise), and inputs hold the constant."""
    scorer = planted.scorer()
    parts = scorer.decompositions[1, "fc_in"]
    x = mean_input(scorer, planted.params, (1, "fc_in"), np.arange(60))
    rows = decode(parts, np.asarray(planted.params["unembed"]), mean_input=x, top=2)
    assert [row["component"] for row in rows] == list(range(8))
    assert rows[0]["tokens"][0] == NOISE
    assert rows[0]["logits"][0] > 0.9
    assert rows[0]["near"] == ""
    assert max(range(8), key=lambda i: rows[i]["strength"]) == 0
    # The other planted components are the answers', none of which is the noise.
    assert all(row["tokens"][0] != NOISE for row in rows[1:5])


def test_both_ends_where_no_input_is_given():
    u, v, readout = orthonormal(4, 0), orthonormal(4, 1), np.eye(4)[:, [2, 0, 1, 3]]
    parts = Decomposition(u, np.array([4.0, 3, 2, 1]), v.T)
    rows = decode(parts, readout, components=[1], top=4)
    up, down = rows
    assert (up["end"], down["end"]) == ("+", "-")
    assert up["tokens"] == down["tokens"][::-1]
    expected = v[:, 1] @ readout
    np.testing.assert_allclose(up["logits"], np.sort(expected)[::-1])
    assert up["tokens"] == np.argsort(-expected).tolist()
    np.testing.assert_allclose(up["energy"], 9 / 30)


def test_a_mean_input_chooses_the_end_whatever_the_sign_of_the_basis():
    u, v, readout = orthonormal(5, 2), orthonormal(5, 3), orthonormal(5, 4)
    s, x = np.arange(5.0, 0, -1), np.random.default_rng(5).normal(size=5)
    signs = np.array([1, -1, 1, -1, -1])
    one = decode(Decomposition(u, s, v.T), readout, mean_input=x)
    other = decode(Decomposition(u * signs, s, (v * signs).T), readout, mean_input=x)
    assert [row["tokens"] for row in one] == [row["tokens"] for row in other]
    for row, mirrored, sign in zip(one, other, signs, strict=True):
        np.testing.assert_allclose(row["strength"], mirrored["strength"])
        assert (row["end"] == mirrored["end"]) == (sign == 1)
    # What the mean input makes the component write is sigma (u . x) v.
    written = np.outer(x @ u[:, 0] * s[0], v[:, 0])[0] @ readout
    np.testing.assert_allclose(one[0]["strength"] * one[0]["logits"][0], written.max())


def test_near_equal_singular_values_are_told():
    matrix = (orthonormal(6, 0) * np.array([5, 3, 2.99, 2.98, 1, 0.5])) @ orthonormal(6, 1).T
    rows = decode(decompose(jnp.asarray(matrix, jnp.float32)), np.eye(6), mean_input=np.ones(6))
    assert [row["near"] for row in rows] == ["", "1-3", "1-3", "1-3", "", ""]


def test_mistakes_are_told():
    parts = Decomposition(np.eye(3), np.ones(3), np.eye(3))
    with pytest.raises(ValueError, match="4 rows, but the matrix writes 3"):
        decode(parts, np.eye(4))
    with pytest.raises(ValueError, match="has 0 to 2"):
        decode(parts, np.eye(3), components=[3])
    with pytest.raises(ValueError, match=r"mean_input: \(2,\)"):
        decode(parts, np.eye(3), mean_input=np.ones(2))
