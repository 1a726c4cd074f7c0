import jax.numpy as jnp
import numpy as np
import pytest

from truncation import intervention as iv
from truncation.rules import greedy, grid
from truncation.search import evaluator as search
from truncation.search import statistics
from truncation.search.evaluator import Evaluator
from truncation.search.model import Model

RHOS = ("0.5", "0.2", "0", "-0.07", "-0.2")


def switches(losses, *, num_examples=10):
    """A model of 1 x 1 matrices, each 1 (whole) or 0 (cut), whose loss is a table of them."""
    size = losses.ndim
    table = jnp.asarray(losses, jnp.float32)

    def scores(params, batch):
        state = tuple(jnp.round(params[str(i)][0, 0]).astype(int) for i in range(size))
        loss = jnp.full(batch["x"].shape, 1.0) * table[state]
        return {"loss": loss, "accuracy": jnp.zeros_like(loss)}

    return Model(
        matrices={(i, "fc_in"): iv.at_path(str(i)) for i in range(size)},
        examples={"x": jnp.zeros((num_examples, 1))},
        weights=np.ones((num_examples, 1)),
        scores=scores,
    ), {str(i): jnp.ones((1, 1)) for i in range(size)}


def run(losses, **options):
    model, params = switches(np.asarray(losses))
    evaluator = Evaluator(model, params)
    candidates = search.candidates(list(model.matrices), ["0"])
    halves = np.arange(5), np.arange(5, 10)
    return greedy.run(evaluator, candidates, *halves, objective="loss", samples=10, **options)


def test_rolls_back_what_no_longer_helps():
    # Index 1: whole, 0: cut. Cutting 0 is the best first move; once 1 and 2 are cut, having
    # cut 0 hurts, and the best state of all is reached only by taking it back.
    losses = np.full((2, 2, 2), 1.0)
    losses[0, 1, 1], losses[1, 0, 1], losses[1, 1, 0] = 0.5, 0.6, 0.7
    losses[0, 0, 1], losses[0, 1, 0] = 0.4, 0.45
    losses[0, 0, 0], losses[1, 0, 0] = 0.3, 0.1
    outcome = run(losses)
    assert {str(cut) for cut in outcome.best.cuts} == {"1.fc_in@0", "2.fc_in@0"}
    assert [row["action"] for row in outcome.rows] == [
        "start", "accept", "accept", "accept", "roll back", "refuse", "stop",
    ]  # fmt: skip
    figures = [row["validation/loss"] for row in outcome.rows if row["action"] != "refuse"]
    np.testing.assert_allclose(figures, [1.0, 0.5, 0.4, 0.3, 0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(outcome.rows[-1]["test/loss"], 0.1, rtol=1e-6)
    assert [("test/loss" in row) for row in outcome.rows] == [True] + [False] * 5 + [True]


def test_visits_from_the_last_layer_down():
    losses = np.full((2, 2, 2), 1.0)
    losses[1, 1, 0], losses[0, 1, 0] = 0.9, 0.5
    outcome = run(losses, order="last_first")
    steps = [(row["action"], row["intervention"]) for row in outcome.rows]
    assert steps[:4] == [
        ("start", "full"),
        ("accept", "2.fc_in@0"),
        ("refuse", "2.fc_in@0+1.fc_in@0"),
        ("accept", "2.fc_in@0+0.fc_in@0"),
    ]
    assert str(outcome.best) == "2.fc_in@0+0.fc_in@0"


def test_returns_to_the_best_single_cut():
    """The descent takes 2, then 1 on top of it; cutting 0 alone, met on the way, is better."""
    losses = np.full((2, 2), 1.0)
    losses[1, 0], losses[0, 1], losses[0, 0] = 0.9, 0.2, 0.95
    outcome = run(losses, order="last_first")
    # 0.2 is reached: from 2's state, a visit to 0 sees only the pair, then rolls back 1.
    assert outcome.rows[-1]["validation/loss"] <= 0.9 + 1e-6
    best_first = run(losses)
    np.testing.assert_allclose(best_first.rows[-1]["validation/loss"], 0.2, rtol=1e-6)


def test_stops_at_once_where_nothing_helps():
    losses = np.full((2, 2), 1.0)
    losses[1, 1] = 0.5
    outcome = run(losses)
    assert outcome.best == search.NOTHING
    assert "no composition" in outcome.warning
    assert [row["action"] for row in outcome.rows] == ["start", "refuse", "stop"]


@pytest.mark.parametrize("objective", ["accuracy", "loss"])
def test_never_worse_than_the_best_single_cut(planted, objective):
    evaluator = Evaluator(planted.model, planted.params)
    halves = statistics.split(60, validation=0.5, seed=2)
    candidates = search.candidates(planted.model.matrices, RHOS)
    single = grid.run(evaluator, candidates, *halves, objective=objective)
    composed = greedy.run(evaluator, candidates, *halves, objective=objective)
    best = next(row for row in single.rows if row["chosen"])
    before, after = best[f"validation/{objective}"], composed.rows[-1][f"validation/{objective}"]
    assert after <= before + 1e-6 if objective == "loss" else after >= before - 1e-6
    # A product and its factors are never cut together.
    names = {(cut.layer, cut.matrix) for cut in composed.best.cuts}
    assert not ((1, "ov") in names and names & {(1, "v_proj"), (1, "out_proj")})
    # The figure reported is that of the edited model.
    edited = iv.apply(planted.params, composed.best, planted.model.matrices)
    scores = planted.model.scores(edited, planted.model.select(halves[1]))[objective]
    weights = planted.model.weights[halves[1]]
    np.testing.assert_allclose(
        composed.rows[-1][f"test/{objective}"],
        np.sum(scores * weights) / weights.sum(),
        rtol=1e-5,
    )


def test_bounds_and_bad_arguments(planted):
    evaluator = Evaluator(planted.model, planted.params)
    halves = statistics.split(60, validation=0.5, seed=2)
    candidates = search.candidates(["0.fc_in", "1.fc_in"], RHOS)
    short = greedy.run(evaluator, candidates, *halves, objective="loss", max_cuts=1, samples=10)
    assert len(short.best.cuts) == 1
    with pytest.raises(ValueError, match="order 'upwards'"):
        greedy.run(evaluator, candidates, *halves, order="upwards")
    with pytest.raises(ValueError, match=r"0\.mlp@0.*one matrix each"):
        greedy.run(evaluator, [iv.parse("0.mlp@0")], *halves)
