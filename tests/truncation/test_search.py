import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.truncation import editing, notation, spectrum
from truncated_weights.truncation.search import network
from truncated_weights.truncation.search.cache import Cache, digest_of_arrays
from truncated_weights.truncation.search.examples import Examples

TEXTS = [
    "1.fc_in@0.5",
    "0.fc_out@0",
    "1.fc_in@-0.07",
    "0.fc_in@0.1:0.9",
    "1.ov@0.25",
    "1.v_proj@auto",
    "0.mlp@0.5",
    "1.fc_in@1",
    "0.fc_in@0.5+1.fc_in@0",
    "-1.fc_in@0.5",
    "*.fc_in@0.3",
    "1.fc_in@magnitude:0.3",
    "0.fc_in@magnitude:-0.1+1.v_proj@0.5",
    "*.fc_in@magnitude:0.2:0.7",
]
HALF = np.arange(0, 60, 2)


def one_by_one(world, texts, indices, given=""):
    """Each candidate by itself: fresh SVD, edited parameters, the whole model."""
    batch = world.select(indices)
    results = []
    for text in texts:
        params = editing.apply(world.params, given, world.matrices) if given else world.params
        results.append(world.scores(editing.apply(params, text, world.matrices), batch))
    return {name: np.stack([r[name] for r in results]) for name in results[0]}


@pytest.mark.parametrize("can_stop", [True, False])
@pytest.mark.parametrize(("batch_size", "together"), [(None, 1), (7, 4)])
def test_agrees_with_candidates_one_by_one(planted, can_stop, batch_size, together):
    scorer = planted.scorer(can_stop=can_stop, batch_size=batch_size, together=together)
    found = scorer.evaluate([notation.parse(t) for t in TEXTS], HALF)
    expected = one_by_one(planted, TEXTS, HALF)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=3e-6, err_msg=name)


def test_composes_with_what_is_cut_already(planted):
    scorer = planted.scorer()
    given = notation.parse("0.mlp@0.5+1.fc_in@0.2")
    texts = ["1.v_proj@0.5", "1.fc_in@-0.07", "1.fc_in@magnitude:0.5", "1.v_proj@magnitude:0.5"]
    found = scorer.evaluate([notation.parse(t) for t in texts], HALF, given)
    # A candidate replaces the cut of its matrix.
    for index, text in enumerate(texts):
        base = "0.mlp@0.5" if "fc_in" in text else str(given)
        expected = one_by_one(planted, [text], HALF, base)
        np.testing.assert_allclose(found["loss"][index], expected["loss"][0], atol=3e-6)


def test_entering_and_leaving_is_the_model(planted):
    batch = planted.select(np.arange(60))
    expected = planted.scores(planted.params, batch)["loss"]
    np.testing.assert_allclose(
        network.scores(planted.network, planted.params, batch)["loss"], expected, atol=3e-6
    )
    for key, address in planted.matrices.items():
        x = network.prefix(planted.network, planted.params, key[0], batch)
        stopped = planted.network.stop(planted.params, key, x, batch)
        outputs = stopped.inputs @ address.read(planted.params)
        found = planted.network.resume(planted.params, key, outputs, stopped.rest, batch)["loss"]
        np.testing.assert_allclose(found, expected, atol=3e-6, err_msg=str(key))


def test_each_prefix_and_distinct_rank_is_computed_once(planted):
    scorer = planted.scorer()
    planted.network.calls.clear()
    scorer.evaluate(notation.candidates(["1.fc_in"]), HALF)
    # Ranks of 16 at .9 .8 .6 .4 .2 .1 .05 .01 0: 14 12 9 6 3 1 0 0 0.
    once = {"embed": 1, ("layer", 0): 1, ("stop", (1, "fc_in")): 1, ("resume", (1, "fc_in")): 7}
    assert planted.network.calls == once
    # The layer below has run for every other matrix of its layer too.
    planted.network.calls.clear()
    scorer.evaluate(notation.candidates(["1.v_proj"], ["0.5"]), HALF)
    assert planted.network.calls == {("stop", (1, "v_proj")): 1, ("resume", (1, "v_proj")): 1}


@pytest.mark.parametrize("together", [1, 4])
def test_nothing_is_compiled_for_a_candidate(planted, compilations, together):
    """Other ranks, matrices seen before and a fresh scorer trace nothing again."""
    keys = ["0.fc_in", "1.fc_in", "1.v_proj", "1.out_proj"]
    search = notation.candidates(keys, ["0.9", "0.5", "0.3", "0.1"])
    planted.scorer(together=together).evaluate(search, HALF)
    others = notation.candidates(keys, ["0.8", "0.45", "-0.3", "0.2"])
    with compilations() as found:
        planted.scorer(together=together).evaluate(others, HALF)
    assert found == []


def test_a_killed_search_continues(planted, tmp_path):
    file = tmp_path / "of a" / "search" / "cache.jsonl"
    candidates = notation.candidates(["0.fc_in", "1.fc_in"], ["0.5", "0.1"])
    candidates += notation.candidates(["1.v_proj"], ["magnitude:0.5"])

    def evaluate(**keywords):
        scorer = planted.scorer(cache=Cache(file, {}), **keywords)
        planted.network.calls.clear()
        scores = scorer.evaluate(candidates, HALF)
        entered = {name[1] for name in planted.network.calls if name[0] == "stop"}
        return scorer.cost.evaluations, scores, entered

    spent, expected, entered = evaluate()
    assert entered == {(0, "fc_in"), (1, "fc_in"), (1, "v_proj")}
    lines = [line for line in file.read_text().splitlines() if line]
    assert [json.loads(line)["cuts"][0] for line in lines] == [
        "0.fc_in@0.5", "1.fc_in@0.5", "1.v_proj@magnitude:0.5",
    ]  # fmt: skip
    # Killed while the third matrix was being written.
    file.write_text("\n".join(lines)[: -len(lines[-1]) // 2])
    again, found, entered = evaluate()
    assert entered == {(1, "v_proj")}
    assert again == spent
    assert evaluate()[2] == set()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_retrained_model_never_gets_old_scores(planted, tmp_path):
    """The key is the content of weights and examples: one bit of either, and all runs anew."""
    file = tmp_path / "cache.jsonl"
    candidates = notation.candidates(["1.fc_in"], ["0.5"])

    def loss(**keywords):
        scorer = planted.scorer(cache=Cache(file, {}), **keywords)
        return scorer.evaluate(candidates, HALF)["loss"]

    def entries():
        return sum(1 for line in file.read_text().splitlines() if line)

    before = loss()
    assert entries() == 1
    np.testing.assert_array_equal(loss(), before)
    assert entries() == 1
    # A copy of the same weights and examples is the same.
    same = jax.tree.map(jnp.array, planted.params)
    loss(params=same)
    assert entries() == 1
    retrained = jax.tree.map(jnp.array, planted.params)
    retrained["unembed"] = retrained["unembed"].at[0, 0].add(1e-6)
    loss(params=retrained)
    assert entries() == 2
    data = dict(planted.examples.data)
    data["x"] = data["x"].at[2, 0, 0].add(1e-6)
    loss(examples=Examples(data, planted.examples.weights))
    assert entries() == 3
    # Examples that are not looked at do not matter.
    data["x"] = planted.examples.data["x"].at[1, 0, 0].add(1.0)
    np.testing.assert_array_equal(loss(examples=Examples(data, planted.examples.weights)), before)
    assert entries() == 3


def test_digests_of_arrays_see_every_byte():
    tree = {"a": jnp.zeros((2, 3), jnp.bfloat16), "b": [np.arange(3, dtype=np.int32)]}
    assert digest_of_arrays(tree) == digest_of_arrays(jax.tree.map(jnp.array, tree))
    others = [
        {"a": tree["a"].at[1, 2].set(1e-3), "b": tree["b"]},
        {"a": tree["a"].reshape(3, 2), "b": tree["b"]},
        {"a": tree["a"].astype(jnp.float16), "b": tree["b"]},
        {"c": tree["a"], "b": tree["b"]},
    ]
    assert len({digest_of_arrays(one) for one in (tree, *others)}) == 5


def test_refuses_by_name(planted):
    broken = planted.matrices[0, "fc_out"].write(planted.params, jnp.full((24, 16), jnp.inf))
    for rho in ("0.5", "magnitude:0.5"):
        with pytest.raises(ValueError, match=r"0\.fc_out holds NaN or infinity"):
            planted.scorer(params=broken).evaluate([notation.parse(f"0.fc_out@{rho}")], HALF)
    scorer = planted.scorer()
    with pytest.raises(ValueError, match="layer 1 has only"):
        scorer.evaluate([notation.parse("1.fc_out@0.5")], HALF)
    with pytest.raises(ValueError, match="none to evaluate"):
        scorer.evaluate([], HALF)
    with pytest.raises(ValueError, match="leading axes"):
        Examples(planted.examples.data, np.ones((3, 2)))
    with pytest.raises(ValueError, match="no example selected"):
        scorer.full(np.arange(0))


def test_a_network_that_cannot_stop_says_so(planted):
    box, key = planted.black_box(), (1, "fc_in")
    with pytest.raises(ValueError, match="can stop in front of a matrix"):
        box.stop(planted.params, key, None, {})
    with pytest.raises(ValueError, match="can resume from a matrix"):
        box.resume(planted.params, key, jnp.zeros(3), None, {})


def test_counts_of_cut_matrices_and_of_cut_entries(planted):
    count = planted.scorer().decompositions.count
    assert count(notation.parse("0.fc_in@0.5")) == (8, 16)
    assert count(notation.parse("1.fc_in@-0.25+0.fc_in@0")) == (12, 32)
    assert count(notation.parse("1.fc_in@magnitude:0.25")) == (64, 256)
    # The largest quarter goes: the kept band does not begin at the first stopped.
    assert count(notation.parse("1.fc_in@magnitude:-0.25")) == (192, 256)


def test_the_threshold_of_a_tall_matrix_is_that_of_its_shape(planted):
    """The singular values of noise, a few in excess; a square matrix keeps fewer of them."""
    rng = np.random.default_rng(3)
    values = np.linalg.svd(rng.normal(size=(24, 16)), compute_uv=False)
    bounds = [
        spectrum.gavish_donoho_threshold(jnp.asarray(values), s) for s in ((24, 16), (16, 16))
    ]
    assert float(bounds[0]) < float(bounds[1])
    values[0] = float(sum(bounds)) / 2
    u, vt = (np.linalg.qr(rng.normal(size=s))[0] for s in ((24, 16), (16, 16)))
    key = (0, "fc_out")
    params = planted.matrices[key].write(
        planted.params, jnp.asarray((u * values) @ vt, jnp.float32)
    )
    mask = planted.scorer(params=params).decompositions.mask(
        notation.parse("0.fc_out@auto").cuts[0]
    )
    assert mask.sum() == 1


def test_a_search_is_silent_unless_asked(planted, capsys):
    planted.scorer().evaluate(notation.candidates(["0.fc_in"], ["0.5", "0.1"]), HALF)
    assert capsys.readouterr() == ("", "")
