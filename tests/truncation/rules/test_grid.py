import numpy as np
import pytest

from truncated_weights.truncation import editing, notation
from truncated_weights.truncation.rules import grid
from truncated_weights.truncation.search import statistics
from truncated_weights.truncation.search.problem import NO_CHOICE, SearchProblem

RHOS = (*notation.LASER_RHOS, "-0.07", "-0.2", "-0.5")
HALVES = statistics.split(60, validation=0.5, seed=1)


def problem_of(world, candidates, halves=HALVES):
    return SearchProblem(world.scorer(), tuple(candidates), *halves)


def test_finds_the_planted_noise(planted):
    outcome = grid.run(
        problem_of(planted, notation.candidates(planted.keys, RHOS)), objective="loss"
    )
    assert str(outcome.best) == "1.fc_in@-0.07"
    assert outcome.improves
    assert outcome.choice is outcome.nearest
    assert outcome.warning is None
    full, *others = outcome.rows
    (chosen,) = (row for row in outcome.rows if row["chosen"])
    assert chosen["intervention"] == "1.fc_in@-0.07"
    assert (chosen["kept"], chosen["rank"]) == (15, 16)
    assert full["test/accuracy"] < 0.6 < 0.9 < chosen["test/accuracy"]
    assert chosen["test/accuracy_change_low"] > 0.2
    assert chosen["test/loss_change_high"] < 0
    # Only the choice has seen the test examples.
    assert sum("test/loss" in row for row in others) == 1
    assert outcome.evaluations == 30 * (1 + 60) + 30 * (1 + 1)
    # The row is what evaluating the edited model gives.
    edited = editing.apply(planted.params, outcome.best, planted.matrices)
    accuracy = planted.scores(edited, planted.select(HALVES[1]))["accuracy"]
    weights = planted.examples.weights[HALVES[1]]
    np.testing.assert_allclose(
        chosen["test/accuracy"], np.sum(accuracy * weights) / weights.sum(), rtol=1e-6
    )


def test_the_split_does_not_choose_for_us(planted):
    """Whatever the seed of the split, the same cut is found."""
    candidates = notation.candidates(["1.fc_in", "0.fc_in"], RHOS)
    for seed in range(4):
        halves = statistics.split(60, validation=0.5, seed=seed)
        outcome = grid.run(problem_of(planted, candidates, halves), objective="loss", test_all=True)
        assert str(outcome.best) == "1.fc_in@-0.07"
        assert all("test/loss" in row for row in outcome.rows)


def test_warns_where_nothing_is_to_be_gained(harmless):
    """Without planted noise the best of 60 in accuracy is within chance, and is called so."""
    outcome = grid.run(problem_of(harmless, notation.candidates(harmless.keys, RHOS)))
    assert outcome.improves
    assert "not distinguishable from doing nothing" in outcome.warning


def test_leaving_the_model_alone_is_a_possible_answer(harmless):
    """Removing the signal raises the loss and RHO 1 changes nothing: neither is chosen."""
    for text in ("1.all@0+0.all@0", "0.mlp@1"):
        outcome = grid.run(problem_of(harmless, [notation.parse(text)]), objective="loss")
        assert outcome.choice is NO_CHOICE
        assert outcome.best == notation.NOTHING
        assert not outcome.improves
        assert outcome.nearest.name == text
        assert "no candidate improves loss" in outcome.warning
        assert outcome.rows[0]["chosen"]
        assert not outcome.rows[1]["chosen"]
        assert "test/loss" in outcome.rows[0]
        assert "test/loss" not in outcome.rows[1]


def test_objectives(planted):
    problem = problem_of(planted, notation.candidates(["1.fc_in"], RHOS))
    outcome = grid.run(problem, objective="p_noise")
    column = [row["validation/p_noise"] for row in outcome.rows]
    assert outcome.rows[int(np.argmin(column))]["chosen"]
    with pytest.raises(ValueError, match="objective 'bleu'"):
        grid.run(problem, objective="bleu")


def test_part_of_a_grid_is_the_grid_on_that_part(planted):
    """Restricting a finished grid gives what running the restricted one gives, and its price."""
    problem = problem_of(planted, notation.candidates(["1.fc_in", "0.fc_in"], RHOS), HALVES[:1])
    whole = grid.run(problem, objective="loss")
    members = [i for i, one in enumerate(problem.candidates) if one.cuts[0].rho[0] != "-"]
    told = grid.among(problem, whole, members, objective="loss")
    fewer = problem_of(planted, [problem.candidates[i] for i in members], HALVES[:1])
    ran = grid.run(fewer, objective="loss")
    assert told.nearest.name == ran.nearest.name
    assert str(told.best) == str(ran.best) != str(whole.best)
    assert told.evaluations == ran.evaluations
    assert 0 < told.seconds < whole.seconds
    for one, other in zip(told.rows, ran.rows, strict=True):
        np.testing.assert_allclose(one["validation/loss"], other["validation/loss"], atol=1e-6)
