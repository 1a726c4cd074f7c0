from fractions import Fraction

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truncated_weights.truncation import curves, editing, notation
from truncated_weights.truncation.address import at_path, product


def model(key):
    """Two layers, rectangular feed-forwards, and the product of values and outputs."""
    shapes = {"q_proj": (6, 6), "v_proj": (6, 6), "out_proj": (6, 6), "fc_in": (6, 20)}
    params, matrices = {"layers": []}, {}
    for layer in range(2):
        params["layers"].append({})
        for name, shape in shapes.items():
            key, subkey = jax.random.split(key)
            params["layers"][layer][name] = jax.random.normal(subkey, shape)
            matrices[layer, name] = at_path("layers", layer, name)
        matrices[layer, "ov"] = product(
            matrices[layer, "v_proj"], matrices[layer, "out_proj"], ("v_proj", "out_proj")
        )
    return params, matrices


def svd_by_numpy(matrix, start, stop):
    u, s, vt = np.linalg.svd(np.asarray(matrix, np.float64), full_matrices=False)
    return (u[:, start:stop] * s[start:stop]) @ vt[start:stop]


@pytest.fixture(scope="module")
def world():
    return model(jax.random.key(0))


@pytest.mark.parametrize(
    ("rho", "start", "stop"),
    [("0.5", 0, 3), ("-0.5", 3, 6), ("0.17:0.84", 1, 5), ("0", 0, 0), ("-0", 0, 6), ("1", 0, 6)],
)
@pytest.mark.parametrize("name", ["q_proj", "fc_in", "ov"])
def test_matches_an_svd_in_float64(world, rho, start, stop, name):
    params, matrices = world
    address = matrices[1, name]
    edited = editing.apply(params, f"1.{name}@{rho}", matrices)
    expected = svd_by_numpy(address.read(params), start, stop)
    np.testing.assert_allclose(address.read(edited), expected, atol=2e-5)
    # Nothing else moves: every other matrix to the bit.
    for (layer, other), where in matrices.items():
        if (layer, other) != (1, name) and not (name == "ov" and other == "out_proj"):
            if other == "ov" or (other == "v_proj" and name == "ov"):
                continue
            np.testing.assert_array_equal(where.read(edited), where.read(params))


def test_rho_one_returns_the_same_bits(world):
    params, matrices = world
    edited = editing.apply(params, "0.all@1+1.ov@1", matrices)
    chex.assert_trees_all_equal(edited, params)


@pytest.mark.parametrize("name", ["q_proj", "fc_in", "ov"])
@pytest.mark.parametrize("rho", ["0", "0.2", "0.5", "1"])
def test_plain_and_minus_are_complementary(world, rho, name):
    params, matrices = world
    address = matrices[0, name]
    kept = address.read(editing.apply(params, f"0.{name}@{rho}", matrices))
    dropped = address.read(editing.apply(params, f"0.{name}@-{rho}", matrices))
    np.testing.assert_allclose(kept + dropped, address.read(params), atol=2e-5)


def test_zero_is_exactly_zero_and_groups_expand(world):
    params, matrices = world
    edited = editing.apply(params, "1.all@0", matrices)
    for name in ("q_proj", "v_proj", "out_proj", "fc_in"):
        assert not np.any(edited["layers"][1][name])
    chex.assert_trees_all_equal(edited["layers"][0], params["layers"][0])


def test_a_curve_in_one_call_equals_one_at_a_time(world):
    params, matrices = world
    x = jax.random.normal(jax.random.key(1), (5, 6))

    def evaluate(p):
        for layer in p["layers"]:
            hidden = x @ layer["v_proj"] @ layer["out_proj"] @ layer["q_proj"] @ layer["fc_in"]
        return {"mean": jnp.mean(hidden), "outputs": hidden}

    texts = ["1.fc_in@0.5", "1.ov@0.2", "1.fc_in@auto", "0.all@0", "1.fc_in@-0.2+1.q_proj@0.5"]
    texts += ["1.fc_in@magnitude:0.5", "1.fc_in@magnitude:-0.1", "*.q_proj@0.5+-1.fc_in@auto"]
    together = jax.jit(
        lambda p: curves.evaluate_all(evaluate, p, [notation.parse(t) for t in texts], matrices)
    )(params)
    for index, text in enumerate(texts):
        alone = evaluate(editing.apply(params, text, matrices))
        np.testing.assert_allclose(together["outputs"][index], alone["outputs"], atol=2e-3)


@given(numerator=st.integers(0, 100), rank=st.integers(1, 400))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_the_number_of_ranks_is_an_exact_floor(numerator, rank):
    cut = notation.parse(f"0.fc_in@{numerator / 100:.2f}").cuts[0]
    assert notation.kept_band(cut, rank) == (0, numerator * rank // 100)


@given(
    text=st.lists(
        st.builds(
            "{}.{}@{}".format,
            st.sampled_from([*range(31), -1, -2, "*"]),
            st.sampled_from([*notation.MATRICES, *notation.GROUPS]),
            st.sampled_from(["0", "0.1", "-0.02", "0.1:0.5", "1", "auto"])
            | st.sampled_from(["0", "0.1", "-0.02", "0.1:0.5", "1"]).map("magnitude:{}".format),
        ),
        min_size=1,
        max_size=3,
    ).map("+".join)
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_notation_round_trips(text):
    assert str(notation.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fc_in@0.1", "expected LAYER.MATRIX@RHO"),
        ("1.fc_mid@0.1", "unknown matrix 'fc_mid'"),
        ("1.fc_in@1.5", "outside"),
        ("1.fc_in@nan", "not a number"),
        ("1.fc_in@0.5:0.1", "backwards"),
        ("7.fc_in@0.1", "layers 0-1"),
        ("-3.fc_in@0.1", "layers 0-1"),
        ("*.fc_out@0.1", "no layer has fc_out"),
        ("1.fc_in@magnitude:auto", "not a number"),
        ("1.fc_in@magnitude:2", "outside"),
        ("1.fc_in@magnitude", "not a number"),
        ("1.ov@magnitude:0.5", "has no entries of its own to keep"),
        ("*.fc_in@0.1+-1.fc_in@0.5", "1.fc_in is cut twice"),
        ("1.fc_out@0.1", "layer 1 has only"),
        ("1.fc_in@0.1+1.all@0", "cut twice"),
        ("1.ov@0.1+1.v_proj@0.5", "made of 1.v_proj"),
    ],
)
def test_bad_interventions_say_what_is_wrong(world, text, words):
    params, matrices = world
    with pytest.raises(ValueError, match=words):
        editing.apply(params, text, matrices)


def test_layers_from_the_top_and_all_at_once(world):
    params, matrices = world
    jax.tree.map(
        np.testing.assert_array_equal,
        editing.apply(params, "-1.fc_in@0.5+-2.q_proj@0", matrices),
        editing.apply(params, "1.fc_in@0.5+0.q_proj@0", matrices),
    )
    resolved = editing.resolve(notation.parse("*.attn@0.5"), matrices)
    assert list(resolved) == [(n, m) for n in range(2) for m in ("q_proj", "v_proj", "out_proj")]
    assert {str(cut) for cut in resolved.values()} >= {"0.q_proj@0.5", "1.out_proj@0.5"}


@pytest.mark.parametrize(
    ("rho", "start", "stop"),
    [("0.3", 0, 36), ("-0.3", 36, 120), ("0.1:0.6", 12, 72), ("0", 0, 0), ("1", 0, 120)],
)
def test_magnitude_pruning_keeps_the_largest_entries(world, rho, start, stop):
    params, matrices = world
    whole = np.asarray(matrices[1, "fc_in"].read(params))
    edited = editing.apply(params, f"1.fc_in@magnitude:{rho}", matrices)
    order = np.argsort(-np.abs(whole).ravel())
    expected = np.zeros(120, np.float32)
    expected[order[start:stop]] = whole.ravel()[order[start:stop]]
    np.testing.assert_array_equal(edited["layers"][1]["fc_in"], expected.reshape(6, 20))
    chex.assert_trees_all_equal(edited["layers"][0], params["layers"][0])


def test_of_equal_entries_exactly_so_many_stay():
    params, matrices = {"w": jnp.ones((4, 5))}, {(0, "fc_in"): at_path("w")}
    edited = editing.apply(params, "0.fc_in@magnitude:0.35", matrices)
    np.testing.assert_array_equal(edited["w"].ravel(), np.arange(20) < 7)


def test_non_finite_matrices_are_named(world):
    params, matrices = world
    broken = matrices[1, "fc_in"].write(params, jnp.full((6, 20), jnp.nan))
    with pytest.raises(ValueError, match=r"1\.fc_in holds NaN"):
        editing.require_finite(broken, matrices, list(matrices))


def test_automatic_rank_finds_planted_directions():
    key = jax.random.key(3)
    noise = jax.random.normal(key, (80, 200)) / jnp.sqrt(200)
    u, _, vt = np.linalg.svd(np.random.default_rng(0).normal(size=(80, 200)), full_matrices=False)
    planted = noise + (u[:, :3] * np.array([9.0, 7.0, 5.0])) @ vt[:3]
    params, matrices = {"w": jnp.asarray(planted)}, {(0, "fc_in"): at_path("w")}
    edited = editing.apply(params, "0.fc_in@auto", matrices)
    assert np.linalg.matrix_rank(np.asarray(edited["w"]), tol=1e-3) == 3


def test_cuts_are_exact_fractions():
    assert notation.parse("3.out_proj@-0.02").cuts[0].start == Fraction(1, 50)


@pytest.mark.parametrize("rank", [1, 7, 16, 128, 1000])
def test_keeping_a_number_of_components_is_the_shortest_decimal(rank):
    for kept in {0, 1, rank // 3, rank - 1, rank}:
        cut = notation.keep_top(2, "fc_in", kept, rank)
        assert (cut.layer, cut.matrix, cut.start) == (2, "fc_in", 0)
        assert notation.kept_band(cut, rank) == (0, kept)
        digits = len(str(cut).partition("@")[2].partition(".")[2])
        for fewer in range(digits):
            # No decimal with fewer digits keeps as many.
            assert all(j * rank // 10**fewer != kept for j in range(10**fewer + 1))


def test_what_no_decimal_keeps_is_refused():
    for kept in (-1, 17):
        with pytest.raises(ValueError, match="expected 0 to 16"):
            notation.keep_top(0, "fc_in", kept, 16)
    assert notation.kept_band(notation.keep_top(0, "fc_in", 1, 10**9), 10**9) == (0, 1)
    with pytest.raises(ValueError, match="too large for a decimal RHO"):
        notation.keep_top(0, "fc_in", 1, 3 * 10**9)


def test_an_intervention_less_some_matrices():
    given = notation.parse("0.fc_in@0.5+1.fc_in@0+1.fc_out@0.1")
    assert str(notation.without(given, [(1, "fc_in"), (0, "fc_out")])) == "0.fc_in@0.5+1.fc_out@0.1"
    assert notation.without(given, []) == given
