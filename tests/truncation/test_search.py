import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from truncation import intervention as iv
from truncation.search import evaluator as search
from truncation.search import table
from truncation.search.evaluator import Evaluator

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
]
HALF = np.arange(0, 60, 2)


def one_by_one(world, texts, indices, given=""):
    """Each candidate by itself: fresh SVD, edited parameters, the whole model."""
    batch = world.model.select(indices)
    results = []
    for text in texts:
        params = iv.apply(world.params, given, world.model.matrices) if given else world.params
        results.append(world.model.scores(iv.apply(params, text, world.model.matrices), batch))
    return {name: np.stack([r[name] for r in results]) for name in results[0]}


@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize(("batch_size", "together"), [(None, 1), (7, 4)])
def test_agrees_with_candidates_one_by_one(planted, stops, batch_size, together):
    model = planted.model if stops else planted.without_stops()
    model = dataclasses.replace(model, batch_size=batch_size)
    evaluator = Evaluator(model, planted.params, together=together)
    found = evaluator.evaluate([iv.parse(t) for t in TEXTS], HALF)
    expected = one_by_one(planted, TEXTS, HALF)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=3e-6, err_msg=name)


def test_composes_with_what_is_cut_already(planted):
    evaluator = Evaluator(planted.model, planted.params)
    given = iv.parse("0.mlp@0.5+1.fc_in@0.2")
    found = evaluator.evaluate([iv.parse("1.v_proj@0.5"), iv.parse("1.fc_in@-0.07")], HALF, given)
    first = one_by_one(planted, ["1.v_proj@0.5"], HALF, "0.mlp@0.5+1.fc_in@0.2")
    # The second candidate replaces the cut of its matrix.
    second = one_by_one(planted, ["1.fc_in@-0.07"], HALF, "0.mlp@0.5")
    np.testing.assert_allclose(found["loss"][0], first["loss"][0], atol=3e-6)
    np.testing.assert_allclose(found["loss"][1], second["loss"][0], atol=3e-6)


def test_entering_and_leaving_is_the_model(planted):
    batch = planted.model.select(np.arange(60))
    expected = planted.model.scores(planted.params, batch)["loss"]
    for key, address in planted.model.matrices.items():
        entry = planted.model.stop(planted.params, key, batch)
        outputs = entry.inputs @ address.read(planted.params)
        found = planted.model.leave(planted.params, key, outputs, entry.rest, batch)["loss"]
        np.testing.assert_allclose(found, expected, atol=3e-6, err_msg=str(key))


def test_each_prefix_svd_and_distinct_rank_is_computed_once(planted):
    evaluator = Evaluator(planted.model, planted.params)
    evaluator.evaluate(search.candidates(["1.fc_in"]), HALF)
    calls = {}
    for name, function in list(evaluator._compiled.items()):

        def counted(*arguments, name=name, function=function):
            calls[name] = calls.get(name, 0) + 1
            return function(*arguments)

        evaluator._compiled[name] = counted
    evaluator.evaluate(search.candidates(["1.fc_in"]), HALF)
    # Ranks of 16 at .9 .8 .6 .4 .2 .1 .05 .01 0: 14 12 9 6 3 1 0 0 0.
    # Nothing is added for the first, which keeps nothing.
    assert calls == {("enter", (1, "fc_in")): 1, ("resume", (1, "fc_in")): 7, "add": 6}


def test_a_killed_search_continues(planted, tmp_path):
    file = tmp_path / "cache.jsonl"
    candidates = search.candidates(["0.fc_in", "1.fc_in"])

    def evaluate():
        cache = table.Cache(file, {"checkpoint": "final"})
        evaluator = Evaluator(planted.model, planted.params, cache=cache)
        return evaluator, evaluator.evaluate(candidates, HALF)

    first, expected = evaluate()
    lines = file.read_text().splitlines()
    entries = [json.loads(line) for line in lines if line]
    assert [e["cuts"][0] for e in entries] == ["0.fc_in@0.9", "1.fc_in@0.9"]
    # Killed while the second matrix was being written.
    file.write_text("\n".join(lines)[: -len(lines[-1]) // 2])
    second, found = evaluate()
    assert ("enter", (0, "fc_in")) not in second._compiled
    assert ("enter", (1, "fc_in")) in second._compiled
    assert second.spent == first.spent
    third, _ = evaluate()
    assert not any(name[0] == "enter" for name in third._compiled)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    # Another checkpoint, or other examples, share nothing.
    other = table.Cache(file, {"checkpoint": "step 100"})
    assert other.get({k: entries[0][k] for k in ("given", "cuts", "examples")}) is None


def test_refuses_by_name(planted):
    broken = planted.model.matrices[0, "fc_out"].write(planted.params, jnp.full((24, 16), jnp.inf))
    with pytest.raises(ValueError, match=r"0\.fc_out holds NaN or infinity"):
        Evaluator(planted.model, broken).evaluate([iv.parse("0.fc_out@0.5")], HALF)
    evaluator = Evaluator(planted.model, planted.params)
    with pytest.raises(ValueError, match="layer 1 has only"):
        evaluator.evaluate([iv.parse("1.fc_out@0.5")], HALF)
    with pytest.raises(ValueError, match="none to evaluate"):
        evaluator.evaluate([], HALF)
    with pytest.raises(ValueError, match="both or neither"):
        dataclasses.replace(planted.model, enter=None)
    with pytest.raises(ValueError, match="leading axes"):
        dataclasses.replace(planted.model, weights=np.ones((3, 2)))


def test_tables_are_written_whole(tmp_path):
    rows = [{"a": 1, "b": "x, y"}, {"a": 2.5, "c": None}]
    table.write_csv(tmp_path / "t.csv", rows)
    assert (tmp_path / "t.csv").read_text() == 'a,b,c\n1,"x, y",\n2.5,,\n'
    table.write_jsonl(tmp_path / "t.jsonl", rows)
    lines = (tmp_path / "t.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert table.markdown(rows, ["a", "b"]).splitlines()[2:] == ["| 1 | x, y |", "| 2.500 |  |"]
