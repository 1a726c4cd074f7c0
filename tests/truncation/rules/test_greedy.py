import functools

import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.truncation import editing, notation
from truncated_weights.truncation.address import at_path
from truncated_weights.truncation.rules import greedy, grid
from truncated_weights.truncation.search import statistics
from truncated_weights.truncation.search.examples import Examples
from truncated_weights.truncation.search.network import BlackBox
from truncated_weights.truncation.search.problem import NO_CHOICE, SearchProblem
from truncated_weights.truncation.search.scorer import Scorer

RHOS = ("0.5", "0.2", "0", "-0.07", "-0.2")


def switches(losses, *, num_examples=10):
    """A problem of 1 x 1 matrices, each 1 (whole) or 0 (cut), whose loss is a table of them."""
    size = losses.ndim
    table = jnp.asarray(losses, jnp.float32)

    def scores(params, batch):
        state = tuple(jnp.round(params[str(i)][0, 0]).astype(int) for i in range(size))
        loss = jnp.full(batch["x"].shape, 1.0) * table[state]
        return {"loss": loss, "accuracy": jnp.zeros_like(loss)}

    matrices = {(i, "fc_in"): at_path(str(i)) for i in range(size)}
    examples = Examples({"x": jnp.zeros((num_examples, 1))}, np.ones((num_examples, 1)))
    params = {str(i): jnp.ones((1, 1)) for i in range(size)}
    candidates = tuple(notation.candidates(list(matrices), ["0"]))
    scorer = Scorer(BlackBox(matrices, scores), params, examples)
    return SearchProblem(scorer, candidates, np.arange(5), np.arange(5, 10))


def run(losses, **options):
    return greedy.run(switches(np.asarray(losses)), objective="loss", samples=10, **options)


def path_of(outcome):
    return [(row["action"], row["intervention"]) for row in outcome.rows]


def test_rolls_back_what_no_longer_helps():
    """Index 1: whole, 0: cut. No tie is involved: every step gains at least 0.1.

    Cutting 0 is the best first move; once 1 and 2 are cut, having cut 0 hurts, and the best
    state of all is reached only by taking it back.
    """
    losses = np.full((2, 2, 2), 1.0)
    losses[0, 1, 1], losses[1, 0, 1], losses[1, 1, 0] = 0.5, 0.6, 0.7
    losses[0, 0, 1], losses[0, 1, 0] = 0.4, 0.45
    losses[0, 0, 0], losses[1, 0, 0] = 0.3, 0.1
    outcome = run(losses)
    assert path_of(outcome) == [
        ("start", "full"),
        ("accept", "0.fc_in@0"),
        ("accept", "0.fc_in@0+1.fc_in@0"),
        ("accept", "0.fc_in@0+1.fc_in@0+2.fc_in@0"),
        ("roll back", "1.fc_in@0+2.fc_in@0"),
        ("refuse", "1.fc_in@0+2.fc_in@0+0.fc_in@0"),
        ("stop", "1.fc_in@0+2.fc_in@0"),
    ]
    figures = [row["validation/loss"] for row in outcome.rows if row["action"] != "refuse"]
    np.testing.assert_allclose(figures, [1.0, 0.5, 0.4, 0.3, 0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(outcome.rows[-1]["test/loss"], 0.1, rtol=1e-6)
    assert [("test/loss" in row) for row in outcome.rows] == [True] + [False] * 5 + [True]


@pytest.mark.parametrize(
    ("gain", "better"),
    [
        ((0.1, -1.0), True),
        ((-0.1, 1.0), False),
        ((0.0, 0.1), True),
        ((0.0, 0.0), False),
        ((0.0, 0.01), False),
        ((0.01, -1.0), False),
        ((0.01, 0.1), True),
    ],
)
def test_a_step_must_gain_in_the_first_merit_or_in_the_second_without_losing_the_first(
    gain, better
):
    states = [
        greedy._State(notation.Intervention(()), {}, merit)
        for merit in ((2.0 + gain[0], gain[1]), (2.0, 0.0))
    ]
    assert greedy._better(*states, 0.05) is better


@pytest.mark.parametrize(("cut", "key"), [("1.ov@0", "v_proj"), ("1.out_proj@0", "ov")])
def test_a_product_is_never_cut_beside_one_of_its_factors(planted, cut, key):
    here, cuts = notation.parse(cut), list(notation.candidates([f"1.{key}"], ["0"])[0].cuts)
    look = functools.partial(greedy._neighbours, planted.scorer(), cuts=cuts, max_cuts=None)
    assert look(here, (1, key), validation=np.arange(5)) == []
    elsewhere = notation.parse("1.fc_in@0")
    (found,) = look(elsewhere, (1, key), validation=np.arange(5))
    assert str(found[0]) == f"1.fc_in@0+1.{key}@0"


def test_visits_from_the_last_layer_down():
    losses = np.full((2, 2, 2), 1.0)
    losses[1, 1, 0], losses[0, 1, 0] = 0.9, 0.5
    outcome = run(losses, order="last_first")
    assert path_of(outcome)[:4] == [
        ("start", "full"),
        ("accept", "2.fc_in@0"),
        ("refuse", "2.fc_in@0+1.fc_in@0"),
        ("accept", "2.fc_in@0+0.fc_in@0"),
    ]
    assert str(outcome.best) == "2.fc_in@0+0.fc_in@0"


def test_the_descent_takes_a_cut_back_in_a_later_sweep():
    losses = np.full((2, 2), 1.0)
    losses[1, 0], losses[0, 0], losses[0, 1] = 0.9, 0.5, 0.2
    outcome = run(losses, order="last_first")
    assert path_of(outcome) == [
        ("start", "full"),
        ("accept", "1.fc_in@0"),
        ("accept", "1.fc_in@0+0.fc_in@0"),
        ("roll back", "0.fc_in@0"),
        ("refuse", "full"),
        ("refuse", "0.fc_in@0+1.fc_in@0"),
        ("refuse", "full"),
        ("stop", "0.fc_in@0"),
    ]


def test_only_best_first_sees_every_cut_alone():
    """The descent stops at 1 alone; 0 alone is better, but was met only on top of 1."""
    losses = np.full((2, 2), 1.0)
    losses[1, 0], losses[0, 1], losses[0, 0] = 0.9, 0.2, 0.95
    assert str(run(losses, order="last_first").best) == "1.fc_in@0"
    assert str(run(losses).best) == "0.fc_in@0"


def test_stops_at_once_where_nothing_helps():
    losses = np.full((2, 2), 1.0)
    losses[1, 1], losses[0, 1] = 0.5, 0.8
    outcome = run(losses)
    assert outcome.choice is NO_CHOICE
    assert outcome.nearest.name == "0.fc_in@0"
    assert "no composition" in outcome.warning
    assert [row["action"] for row in outcome.rows] == ["start", "refuse", "stop"]


@pytest.mark.parametrize("objective", ["accuracy", "loss"])
def test_never_worse_than_the_best_single_cut(planted, objective):
    halves = statistics.split(60, validation=0.5, seed=2)
    candidates = tuple(notation.candidates(planted.matrices, RHOS))
    problem = SearchProblem(planted.scorer(), candidates, *halves)
    single = grid.run(problem, objective=objective)
    composed = greedy.run(problem, objective=objective)
    best = next(row for row in single.rows if row["chosen"])
    before, after = best[f"validation/{objective}"], composed.rows[-1][f"validation/{objective}"]
    assert after <= before + 1e-6 if objective == "loss" else after >= before - 1e-6
    # A product and its factors are never cut together.
    names = {(cut.layer, cut.matrix) for cut in composed.best.cuts}
    assert not ((1, "ov") in names and names & {(1, "v_proj"), (1, "out_proj")})
    # The figure reported is that of the edited model.
    edited = editing.apply(planted.params, composed.best, planted.matrices)
    scores = planted.scores(edited, planted.select(halves[1]))[objective]
    weights = planted.examples.weights[halves[1]]
    np.testing.assert_allclose(
        composed.rows[-1][f"test/{objective}"],
        np.sum(scores * weights) / weights.sum(),
        rtol=1e-5,
    )


def test_bounds_and_bad_arguments(planted):
    halves = statistics.split(60, validation=0.5, seed=2)
    candidates = tuple(notation.candidates(["0.fc_in", "1.fc_in"], RHOS))
    problem = SearchProblem(planted.scorer(), candidates, *halves)
    short = greedy.run(problem, objective="loss", max_cuts=1, samples=10)
    assert len(short.best.cuts) == 1
    with pytest.raises(ValueError, match="order 'upwards'"):
        greedy.run(problem, order="upwards")
    grouped = SearchProblem(planted.scorer(), (notation.parse("0.mlp@0"),), *halves)
    with pytest.raises(ValueError, match=r"0\.mlp@0.*one matrix each"):
        greedy.run(grouped)
