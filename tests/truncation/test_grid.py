import numpy as np
import pytest

from truncation import intervention
from truncation.rules import grid
from truncation.search import evaluator as search
from truncation.search import statistics
from truncation.search.evaluator import Evaluator

RHOS = (*search.LASER_RHOS, "-0.07", "-0.2", "-0.5")


@pytest.fixture(scope="module")
def halves():
    return statistics.split(60, validation=0.5, seed=1)


def test_finds_the_planted_noise(planted, halves):
    evaluator = Evaluator(planted.model, planted.params)
    outcome = grid.run(evaluator, search.candidates(planted.keys, RHOS), *halves, objective="loss")
    assert str(outcome.best) == "1.fc_in@-0.07"
    assert outcome.warning is None
    full, *others = outcome.rows
    chosen = next(row for row in outcome.rows if row["chosen"])
    assert chosen["intervention"] == "1.fc_in@-0.07"
    assert (chosen["kept"], chosen["rank"]) == (15, 16)
    assert full["test/accuracy"] < 0.6 < 0.9 < chosen["test/accuracy"]
    assert chosen["test/accuracy_change_low"] > 0.2
    assert chosen["test/loss_change_high"] < 0
    # Only the choice has seen the test examples.
    assert sum("test/loss" in row for row in others) == 1
    assert outcome.evaluations == 30 * (1 + 60) + 30 * (1 + 1)
    # The row is what evaluating the edited model gives.
    edited = intervention.apply(planted.params, outcome.best, planted.model.matrices)
    batch = planted.model.select(halves[1])
    accuracy = planted.model.scores(edited, batch)["accuracy"]
    weights = planted.model.weights[halves[1]]
    np.testing.assert_allclose(
        chosen["test/accuracy"], np.sum(accuracy * weights) / weights.sum(), rtol=1e-6
    )


def test_the_split_does_not_choose_for_us(planted):
    """Whatever the seed of the split, the same cut is found."""
    evaluator = Evaluator(planted.model, planted.params)
    candidates = search.candidates(["1.fc_in", "0.fc_in"], RHOS)
    for seed in range(4):
        halves = statistics.split(60, validation=0.5, seed=seed)
        outcome = grid.run(evaluator, candidates, *halves, objective="loss", test_all=True)
        assert str(outcome.best) == "1.fc_in@-0.07"
        assert all("test/loss" in row for row in outcome.rows)


def test_warns_where_nothing_is_to_be_gained(harmless, halves):
    evaluator = Evaluator(harmless.model, harmless.params)
    outcome = grid.run(evaluator, search.candidates(harmless.keys, RHOS), *halves)
    assert outcome.warning is not None
    loss = grid.run(evaluator, search.candidates(harmless.keys, RHOS), *halves, objective="loss")
    if loss.warning is None:
        # A gain beyond chance on validation has to hold on the test examples too.
        chosen = next(row for row in loss.rows if row["chosen"])
        assert chosen["test/loss_change_high"] < 0


def test_leaving_the_model_alone_is_a_possible_answer(harmless, halves):
    evaluator = Evaluator(harmless.model, harmless.params)
    outcome = grid.run(evaluator, [intervention.parse("1.all@0+0.all@0")], *halves)
    assert outcome.best in (search.NOTHING, intervention.parse("1.all@0+0.all@0"))
    nothing = grid.run(evaluator, [intervention.parse("0.mlp@1")], *halves)
    assert nothing.best == search.NOTHING
    assert "no candidate improves" in nothing.warning
    assert nothing.rows[0]["chosen"]


def test_objectives(planted, halves):
    evaluator = Evaluator(planted.model, planted.params)
    candidates = search.candidates(["1.fc_in"], RHOS)
    outcome = grid.run(evaluator, candidates, *halves, objective="p_noise")
    column = [row["validation/p_noise"] for row in outcome.rows]
    assert outcome.rows[int(np.argmin(column))]["chosen"]
    with pytest.raises(ValueError, match="objective 'bleu'"):
        grid.run(evaluator, candidates, *halves, objective="bleu")
