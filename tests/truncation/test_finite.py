"""A model that says NaN is refused; a cut that does so has no figures and is never chosen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.truncation.conftest import Planted
from truncated_weights.truncation import ablation, finite, notation, rules
from truncated_weights.truncation.finite import NotFiniteError
from truncated_weights.truncation.rules import gradient_guided, grid
from truncated_weights.truncation.search import comparison, statistics
from truncated_weights.truncation.search.problem import NO_CHOICE, SearchProblem
from truncated_weights.truncation.search.scorer import Scorer

HALVES = statistics.split(60, validation=0.5, seed=1)
GONE, GOOD = "1.fc_in@0", "1.fc_in@-0.07"

pytestmark = pytest.mark.fault("A1")


class Brittle(Planted):
    """Nothing left of 1.fc_in, and the model says NaN: as a comparison has it, it is perfect."""

    def finish(self, params, h, batch):
        scores = super().finish(params, h, batch)
        return _broken(scores, jnp.all(self.matrices[1, "fc_in"].read(params) == 0))

    def resume(self, params, key, outputs, rest, batch):
        scores = super().resume(params, key, outputs, rest, batch)
        return _broken(scores, (key == (1, "fc_in")) & jnp.all(outputs == 0))


def _broken(scores, bad):
    return {
        name: jnp.where(bad, 1.0 if name == "accuracy" else jnp.nan, values)
        for name, values in scores.items()
    }


def problem_of(planted, texts, test=True):
    scorer = Scorer(Brittle(), planted.params, planted.examples)
    halves = HALVES if test else HALVES[:1]
    return SearchProblem(scorer, tuple(map(notation.parse, texts)), *halves)


@pytest.mark.parametrize(
    ("rule", "options", "lost"),
    [
        ("grid", {"test_all": True}, (GONE,)),
        ("greedy", {}, (GONE,)),
        ("greedy", {"order": "last_first"}, (GONE,)),
        ("random_search", {"count": 3}, (GONE,)),
        ("gradient_guided", {"fraction": 1.0, "num_gradient_examples": 5}, (GONE,)),
        (
            "eigenprune",
            {"fractions": (0.1, 1.0), "compensation": (False,), "random_draws": 1},
            ("pruned 1",),
        ),
        (
            "eigenprune_pooled",
            {"fractions": (0.1, 1.0), "compensation": (False,), "random_draws": 1},
            ("pooled 1",),
        ),
    ],
)
def test_no_rule_chooses_a_cut_that_left_the_numbers(planted, rule, options, lost):
    problem = problem_of(planted, (GONE, GOOD, "1.fc_in@0.07"))
    outcome = rules.run(rule, problem, objective="accuracy", samples=50, **options)
    assert outcome.lost == lost
    assert outcome.nearest.name not in lost
    assert outcome.choice.name not in lost
    assert "1 of the candidates left the finite numbers" in outcome.notes[-1]
    rows = [row for row in outcome.rows if row["intervention"] in lost]
    for row in rows:
        figures = [value for name, value in row.items() if "/" in name]
        assert figures == [None] * len(figures)
        assert not row.get("chosen")
    full = outcome.rows[0]
    assert np.isfinite([v for name, v in full.items() if "/" in name]).all()


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("random_pruning", {"fraction": 1.0}),
        ("random_matrix", {"sigma": {(1, "fc_in"): 1e9}}),
        ("grid", {}),
        ("greedy", {}),
    ],
)
def test_where_all_are_lost_nothing_is_chosen(planted, rule, options):
    outcome = rules.run(rule, problem_of(planted, (GONE,)), samples=50, **options)
    assert outcome.choice is outcome.nearest is NO_CHOICE
    assert len(outcome.lost) == 1
    assert ("composition" if rule == "greedy" else "stays within the finite") in outcome.warning
    assert outcome.rows[0].get("chosen", True)


def test_a_choice_that_is_lost_on_test_alone_is_taken_back(planted, monkeypatch):
    problem = problem_of(planted, (GOOD, "0.fc_in@0"))
    seen = Scorer.evaluate

    def evaluate(self, interventions, indices, *given):
        found = seen(self, interventions, indices, *given)
        bad = len(indices) == len(HALVES[1]) and np.array_equal(indices, HALVES[1])
        return {name: np.where(bad, np.nan, values) for name, values in found.items()}

    assert grid.run(problem, objective="loss", samples=50).best == notation.parse(GOOD)
    monkeypatch.setattr(Scorer, "evaluate", evaluate)
    outcome = grid.run(problem, objective="loss", samples=50)
    assert outcome.choice is outcome.nearest is NO_CHOICE
    assert outcome.lost == (GOOD,)
    assert [row["chosen"] for row in outcome.rows] == [True, False, False]


def test_the_grid_among_some_of_its_candidates(planted):
    problem = problem_of(planted, (GONE, GOOD))
    whole = grid.run(problem, objective="accuracy", samples=50)
    both = grid.among(problem, whole, [0, 1], objective="accuracy")
    assert (both.best, both.lost) == (notation.parse(GOOD), (GONE,))
    none = grid.among(problem, whole, [0], objective="accuracy")
    assert none.choice is none.nearest is NO_CHOICE
    guided = gradient_guided.run(problem, samples=50, fraction=1.0, num_gradient_examples=5)
    assert gradient_guided.against_grid(guided, whole)["missed"] == 0


@pytest.mark.parametrize(
    ("damage", "blamed"),
    [
        (lambda params: params["layers"][0], "layer 0 is the first whose output is not"),
        (lambda params: params["layers"][1], "every layer's output is finite, what follows"),
    ],
)
def test_the_model_itself_is_refused(planted, damage, blamed):
    params = jax.tree.map(jnp.asarray, planted.params)
    damage(params)["fc_in"] = damage(params)["fc_in"].at[0, 0].set(jnp.nan)
    scorer = planted.scorer(params=params)
    told = rf"the model: scores of 60 of 60 examples are not finite; {blamed}.* in float32"
    with pytest.raises(NotFiniteError, match=told):
        scorer.full(np.arange(60))
    for rule in ("grid", "greedy", "random_search"):
        problem = SearchProblem(scorer, (notation.parse("1.v_proj@0.5"),), *HALVES)
        with pytest.raises(NotFiniteError, match="not finite"):
            rules.run(rule, problem, samples=50)


def test_what_a_rule_ranks_by_is_finite(planted, monkeypatch):
    """Gradients may overflow where scores do not; NaN would be the highest of the effects."""
    problem = problem_of(planted, (GOOD,))
    monkeypatch.setattr(jax, "grad", lambda f: lambda x, *_: jax.tree.map(lambda a: a * np.inf, x))
    with pytest.raises(NotFiniteError, match="gradient of the loss are not finite"):
        rules.run("gradient_guided", problem)
    for rule in ("eigenprune", "eigenprune_pooled"):
        with pytest.raises(NotFiniteError, match=r"effects in 1\.fc_in are not finite"):
            rules.run(rule, problem)


def test_scores_of_one_candidate_are_lost_together():
    scores = {"accuracy": np.ones((3, 4, 2), np.float32), "loss": np.ones((3, 4, 2), np.float32)}
    weights = np.ones((4, 2), np.float32)
    weights[3, 1] = 0
    scores["loss"][1, 0, 0], scores["loss"][2, 3, 1] = np.inf, 7
    assert finite.lost(scores, weights).tolist() == [False, True, False]
    found = finite.void(scores, weights)
    assert np.isnan(found["accuracy"][1]).all()
    assert np.isfinite(found["accuracy"][[0, 2]]).all()
    assert comparison.merit(found, weights, "accuracy")[1] == (-np.inf, -np.inf)
    # The other candidates are compared as if it had not been there.
    full = {name: np.zeros((4, 2), np.float32) for name in scores}
    apart = {name: values[[0, 2]] for name, values in found.items()}
    told = [
        comparison.within_noise(s, full, weights, i, "loss", samples=50)
        for s, i in ((found, 2), (apart, 1))
    ]
    assert told[0] == told[1]


def test_hits_of_logits_that_are_not_finite():
    logits = jnp.array([[1.0, 2.0], [jnp.nan, 2.0], [3.0, jnp.inf], [-jnp.inf, 0.0]])
    for tokens, expected in (([0, 0, 1, 1], [0, 1]), ([1, 1, 0, 0], [1, 0])):
        found = jax.jit(finite.hits)(logits, jnp.array(tokens))
        np.testing.assert_array_equal(found, [expected[0], np.nan, np.nan, expected[1]])


def test_a_part_that_leaves_the_numbers_says_nothing(planted):
    scorer = Scorer(Brittle(), planted.params, planted.examples)
    rows = ablation.report(scorer, notation.parse("1.fc_in@1"), np.arange(8))
    # Everything is kept, so the removed part alone has nothing left of the matrix.
    assert [row["accuracy"] is None for row in rows] == [False, False, True]
    with pytest.raises(NotFiniteError, match="an accuracy is not finite"):
        ablation.flips(np.ones((2, 1)), np.full((2, 1), np.nan), np.ones((2, 1)), {})
