"""The grid on a few candidates drawn at random: the rule that every other rule must beat."""

import dataclasses

import numpy as np
import pytest

from truncated_weights.truncation import notation
from truncated_weights.truncation.rules import grid, random_search
from truncated_weights.truncation.search import statistics
from truncated_weights.truncation.search.problem import SearchProblem

RHOS = ("0.5", "0.2", "0", "-0.07")


@pytest.fixture(scope="module")
def problem(planted):
    candidates = tuple(notation.candidates(planted.keys, RHOS))
    validation, test = statistics.split(60, validation=0.5, seed=1)
    return SearchProblem(planted.scorer(), candidates, validation, test)


def names(outcome):
    return sorted(row["intervention"] for row in outcome.rows if row["intervention"] != "full")


def test_a_quarter_of_the_candidates_without_repeats(problem):
    outcome = random_search.run(problem, objective="loss", samples=10)
    drawn = names(outcome)
    assert len(drawn) == len(set(drawn)) == len(problem.candidates) // 4
    assert set(drawn) <= {str(c) for c in problem.candidates}
    # The same seed draws the same, another one others.
    again = random_search.run(problem, objective="loss", samples=10)
    assert names(again) == drawn
    assert names(random_search.run(problem, objective="loss", seed=1, samples=10)) != drawn


def test_all_candidates_are_the_grid(problem):
    everything = len(problem.candidates)
    outcome = random_search.run(problem, objective="loss", count=everything, samples=10)
    full = grid.run(problem, objective="loss", samples=10)
    assert str(outcome.best) == str(full.best)
    assert names(outcome) == names(full)
    assert outcome.evaluations == full.evaluations


def test_what_the_grid_knows_is_not_run_again(problem):
    full = grid.run(problem, objective="loss", samples=10)
    fresh = random_search.run(problem, objective="loss", count=5, samples=10)
    before = problem.scorer.cost.evaluations
    known = random_search.run(problem, objective="loss", count=5, samples=10, known=full)
    assert problem.scorer.cost.evaluations == before
    assert names(known) == names(fresh)
    assert str(known.best) == str(fresh.best)
    # It says what running them would have cost, test examples apart.
    alone = dataclasses.replace(problem, test=None)
    assert known.evaluations == random_search.run(alone, objective="loss", count=5).evaluations


@pytest.mark.parametrize("count", [-1, 1000])
def test_a_count_that_cannot_be_drawn(problem, count):
    with pytest.raises(ValueError, match=f"count {count}: there are {len(problem.candidates)}"):
        random_search.run(problem, count=count)


def test_the_draw_is_uniform(problem):
    """Each candidate is drawn as often as any other: over 60 seeds within four deviations."""
    full = grid.run(problem, objective="loss", samples=10)
    total, count, seeds = len(problem.candidates), 5, 60
    tally = dict.fromkeys(map(str, problem.candidates), 0)
    for seed in range(seeds):
        for name in names(random_search.run(problem, seed=seed, count=count, known=full)):
            tally[name] += 1
    share = count / total
    expected, deviation = seeds * share, np.sqrt(seeds * share * (1 - share))
    assert max(abs(n - expected) for n in tally.values()) < 4 * deviation
