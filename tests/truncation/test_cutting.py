"""cut on trees that are not ours, against an SVD by numpy in float64."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from truncated_weights import truncation
from truncated_weights.truncation import ablation, address, curves, editing, factored, notation
from truncated_weights.truncation.search import decompositions


def best(matrix, start, stop):
    """Components start to stop of a matrix."""
    u, s, vt = np.linalg.svd(np.asarray(matrix, np.float64), full_matrices=False)
    return (u[:, start:stop] * s[start:stop]) @ vt[start:stop]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=5e-6)


@pytest.fixture
def linen():
    """What flax.linen's Dense and MultiHeadDotProductAttention call their parameters."""
    return {
        "params": {
            f"block_{n}": {
                "attention": {
                    "query": {"kernel": normal(6, 2, 3, seed=n), "bias": normal(2, 3)},
                    "out": {"kernel": normal(2, 3, 6, seed=9 + n), "bias": normal(6)},
                },
                "mlp": {"kernel": normal(6, 10, seed=20 + n), "bias": normal(10)},
            }
            for n in range(2)
        },
        "head": normal(6, 4),
    }


WHERE = {
    "q_proj": ("params/block_{layer}/attention/query/kernel", "in out out"),
    "out_proj": ("params/block_{layer}/attention/out/kernel", "in in out"),
    "fc_in": "params/block_{layer}/mlp/kernel",
}


def test_dense_kernels_of_nested_dicts(linen):
    before = jax.tree.map(np.copy, linen)
    found = truncation.cut(linen, "1.fc_in@0.5", WHERE)
    old = linen["params"]["block_1"]["mlp"]["kernel"]
    close(found["params"]["block_1"]["mlp"]["kernel"], best(old, 0, 3))
    # Nothing was changed in place, and every other leaf is the very same array.
    chex.assert_trees_all_equal(linen, before)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(linen), strict=True)
    assert sum(a is not b for a, b in pairs) == 1


@pytest.mark.parametrize(("name", "rows"), [("q_proj", 6), ("out_proj", 6)])
def test_kernels_with_head_axes_are_one_matrix(linen, name, rows):
    """All heads side by side: [d, heads * head_dim] and [heads * head_dim, d]."""
    found = truncation.cut(linen, f"0.{name}@-0.34", WHERE)
    part = {"q_proj": "query", "out_proj": "out"}[name]
    old, new = (t["params"]["block_0"]["attention"][part]["kernel"] for t in (linen, found))
    assert new.shape == old.shape
    close(np.asarray(new).reshape(rows, -1), best(old.reshape(rows, -1), 2, 6))


def test_interleaved_axes_are_put_back_in_their_order():
    """Kernels stored [heads, d, head_dim], with the output axes on both sides of the input."""
    leaf = normal(2, 5, 3)
    found = truncation.cut({"w": leaf}, "0.q_proj@0.4", {"q_proj": ("w", "out in out")})["w"]
    flat = leaf.transpose(1, 0, 2).reshape(5, 6)
    close(np.asarray(found).transpose(1, 0, 2).reshape(5, 6), best(flat, 0, 2))


def test_transposed_kernels():
    leaf = normal(4, 7)
    found = truncation.cut({"w": leaf}, "0.fc_in@magnitude:0.25", {"fc_in": ("w", "out in")})["w"]
    kept = np.abs(leaf) >= np.sort(np.abs(leaf).ravel())[-7]
    np.testing.assert_array_equal(found, np.where(kept, leaf, 0))


@pytest.mark.parametrize("axis", [0, 1])
def test_scanned_layers(axis):
    """A scan stacks layers along an axis; the others of the stack stay to the bit."""
    stack = np.moveaxis(normal(3, 5, 8), 0, axis)
    axes = "layer in out" if axis == 0 else "in layer out"
    where = {"fc_in": ("scan/kernel", axes)}
    params = {"scan": {"kernel": jnp.asarray(stack)}}
    found = np.moveaxis(
        np.asarray(truncation.cut(params, "1.fc_in@0.4", where)["scan"]["kernel"]), axis, 0
    )
    old = np.moveaxis(stack, axis, 0)
    close(found[1], best(old[1], 0, 2))
    np.testing.assert_array_equal(found[[0, 2]], old[[0, 2]])
    every = np.moveaxis(
        np.asarray(truncation.cut(params, "*.fc_in@0.4", where)["scan"]["kernel"]), axis, 0
    )
    close(every, np.stack([best(one, 0, 2) for one in old]))
    last = truncation.cut(params, "-1.fc_in@0", where)["scan"]["kernel"]
    assert not np.any(np.moveaxis(np.asarray(last), axis, 0)[2])


class Block(nnx.Module):
    def __init__(self, rngs):
        self.wi = nnx.Linear(4, 6, rngs=rngs)
        self.wo = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, x):
        return x + self.wo(jax.nn.relu(self.wi(x)))


class Model(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([Block(rngs) for _ in range(2)])

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def test_nnx_states_and_modules():
    model = Model(nnx.Rngs(0))
    graph, state = nnx.split(model)
    where = {"fc_in": "layers/{layer}/wi/kernel", "fc_out": "layers/{layer}/wo/kernel"}
    found = truncation.cut(state, "0.mlp@0+1.fc_in@0.5", where)
    x = normal(3, 4)
    kernels = {n: np.asarray(getattr(model.layers[1], n).kernel[...]) for n in ("wi", "wo")}
    # Biases start at zero, and the first feed-forward is cut away.
    expected = x + np.maximum(x @ best(kernels["wi"], 0, 2), 0) @ kernels["wo"]
    np.testing.assert_allclose(nnx.merge(graph, found)(x), expected, atol=1e-5)
    # A whole module is a pytree too, and the one given is not touched.
    before = np.asarray(model(x))
    whole = truncation.cut(model, "0.mlp@0+1.fc_in@0.5", where)
    np.testing.assert_allclose(whole(x), expected, atol=1e-5)
    np.testing.assert_array_equal(model(x), before)


def test_boxed_parameters_of_linen():
    """Partitioned boxes put a step `value` behind the name, which may be left out."""
    params = {"kernel": nn.Partitioned(jnp.asarray(normal(5, 5)), names=("a", "b"))}
    for path in ("kernel", "kernel/value"):
        found = truncation.cut(params, "0.fc_in@0.4", {"fc_in": path})
        close(found["kernel"].value, best(params["kernel"].value, 0, 2))
        assert found["kernel"].names == ("a", "b")


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_dtypes_stay(dtype):
    leaf = jnp.asarray(normal(6, 6), dtype)
    found = truncation.cut({"w": leaf}, "0.fc_in@0.5", {"fc_in": "w"})["w"]
    assert found.dtype == dtype
    np.testing.assert_allclose(
        np.asarray(found, np.float32), best(np.asarray(leaf, np.float32), 0, 3), atol=0.03
    )


@pytest.mark.parametrize(
    ("intervention", "where", "words"),
    [
        ("0.fc_in@0.5", {"wi": "head"}, "matrices are called q_proj"),
        ("0.fc_in@0.5", {"mlp": "head"}, "matrices are called q_proj"),
        ("0.fc_in@0.5", {"fc_in": "params/blok_{layer}/mlp/kernel"}, "no leaf at params/blok_"),
        ("0.fc_in@0.5", {"fc_in": ("head", "in")}, "axes 'in'"),
        ("0.fc_in@0.5", {"fc_in": ("head", "in out heads")}, "axes 'in out heads'"),
        ("0.fc_in@0.5", {"fc_in": ("head", "in out out")}, r"head is \(6, 4\)"),
        ("0.fc_out@0.5", {"fc_in": "head"}, "layer 0 has only fc_in"),
        ("1.fc_in@0.5", {"fc_in": "head"}, "layers 0-0"),
        ("0.fc_in@2", {"fc_in": "head"}, "outside"),
    ],
)
def test_mistakes_are_told(linen, intervention, where, words):
    with pytest.raises(ValueError, match=words):
        truncation.cut(linen, intervention, where)


def test_nan_is_refused():
    with pytest.raises(ValueError, match=r"0\.fc_in holds NaN"):
        truncation.cut({"w": np.full((3, 3), np.nan)}, "0.fc_in@0.5", {"fc_in": "w"})
    with pytest.raises(AttributeError, match="no attribute 'cuts'"):
        truncation.cuts  # noqa: B018


@pytest.mark.fault("A10")
@pytest.mark.parametrize("dtype", ["int32", "int8", "bool"])
@pytest.mark.parametrize(
    "text", ["0.fc_in@0.5", "0.fc_in@magnitude:0.5", "0.fc_in@-0.1", "0.fc_in@auto"]
)
def test_matrices_without_fractions_are_refused(dtype, text):
    params = {"deep": {"w": np.ones((4, 6), dtype)}}
    with pytest.raises(ValueError, match=rf"0\.fc_in at deep/w is {dtype}, .* convert it"):
        truncation.cut(params, text, {"fc_in": "deep/w"})


@pytest.mark.fault("A10")
def test_every_entry_of_surgery_refuses_matrices_without_fractions():
    whole = jnp.asarray(normal(4, 4))
    parts = ("v_proj", "out_proj")
    where = {(0, name): address.at_path("layers", 0, name) for name in parts}
    where[0, "ov"] = address.product(*where.values(), parts)
    entries = (
        lambda known, one: editing.apply(known.params, one, where),
        lambda known, one: known.edited(one),
        lambda known, one: factored.apply(known, one),
        lambda known, one: ablation.part(known, one, "removed"),
        lambda known, one: curves.evaluate_all(lambda p: 0.0, known.params, [one], where),
        lambda known, one: known.keep({(0, one.cuts[0].matrix): np.ones(4)}),
    )
    for integer in parts:
        layer = {"v_proj": whole, "out_proj": {"kernel": whole}} | {integer: jnp.ones((4, 4), int)}
        known = decompositions.Decompositions(where, {"layers": [layer]})
        for text in ("0.ov@0.5", f"0.{integer}@0.5"):
            for entry in entries:
                with pytest.raises(ValueError, match=rf"at layers/0/{integer} is int32"):
                    entry(known, notation.parse(text))
