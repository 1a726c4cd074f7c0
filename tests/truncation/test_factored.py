import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.truncation import editing, factored, linear, notation

EXAMPLES = np.arange(60)


def numbers(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("text", ["0.fc_in@0.2", "1.fc_in@-0.7", "1.ov@0.2", "0.mlp@0.3:0.5"])
def test_factors_give_the_same_outputs_in_fewer_numbers(planted, text):
    scorer = planted.scorer()
    params, rows = factored.apply(scorer.decompositions, notation.parse(text))
    assert all(row["factored"] for row in rows)
    dense = editing.apply(planted.params, text, planted.matrices)
    np.testing.assert_allclose(
        scorer.of_params(params, EXAMPLES)["loss"],
        scorer.of_params(dense, EXAMPLES)["loss"],
        atol=1e-5,
    )
    saved = sum(row["parameters_before"] - row["parameters_after"] for row in rows)
    assert saved > 0
    assert numbers(dense) - numbers(params) == saved
    # A factored matrix reads, and can be cut again, like any other.
    for key in planted.matrices:
        address = planted.matrices[key]
        np.testing.assert_allclose(address.read(params), address.read(dense), atol=1e-5)
    again = editing.apply(params, "0.fc_in@0.06", planted.matrices)
    twice = editing.apply(dense, "0.fc_in@0.06", planted.matrices)
    read = planted.matrices[0, "fc_in"].read
    np.testing.assert_allclose(read(again), read(twice), atol=1e-5)


def test_factors_only_where_they_pay(planted):
    assert factored.pays(63, (128, 128))
    assert not factored.pays(64, (128, 128))
    scorer = planted.scorer()
    params, (row,) = factored.apply(scorer.decompositions, notation.parse("1.fc_in@0.5"))
    assert not row["factored"]
    size = planted.matrices[1, "fc_in"].read(planted.params).size
    assert row["parameters_before"] == row["parameters_after"] == size
    dense = editing.apply(planted.params, "1.fc_in@0.5", planted.matrices)
    chex.assert_trees_all_close(params, dense, rtol=1e-7, atol=1e-6)
    same, _ = factored.apply(scorer.decompositions, notation.parse("1.all@1"))
    chex.assert_trees_all_equal(same, planted.params)


def test_a_linear_map_in_all_its_forms():
    x = jax.random.normal(jax.random.key(0), (4, 3, 8))
    a, b = (jax.random.normal(jax.random.key(i), s) for i, s in ((1, (8, 2)), (2, (2, 6))))
    bias = jnp.arange(6.0)
    expected = x @ a @ b
    leaf = linear.with_factors(a @ b, a, b)
    np.testing.assert_allclose(linear.apply(a @ b, x), expected, atol=1e-4)
    np.testing.assert_allclose(linear.apply(leaf, x), expected, atol=1e-4)
    np.testing.assert_allclose(linear.dense(leaf), a @ b, atol=1e-5)
    biased = linear.with_added_bias(linear.with_added_bias(leaf, bias), bias)
    np.testing.assert_allclose(linear.apply(biased, x), expected + 2 * bias[None, None], atol=1e-4)
    dense = linear.with_matrix(biased, a @ b)
    assert set(dense) == {"kernel", "bias"}
    np.testing.assert_allclose(linear.apply(dense, x), linear.apply(biased, x), atol=1e-4)
    np.testing.assert_allclose(
        linear.apply(linear.with_added_bias(a @ b, bias), x), expected + bias[None, None], atol=1e-4
    )


def test_a_cut_by_magnitude_stays_dense(planted):
    text = "1.fc_in@magnitude:0.25"
    params, (row,) = factored.apply(planted.scorer().decompositions, notation.parse(text))
    expected = editing.apply(planted.params, text, planted.matrices)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert (row["factored"], row["kept"], row["rank"]) == (False, row["rank"] // 4, row["rank"])
    assert row["parameters_before"] == row["parameters_after"] == row["rank"]
