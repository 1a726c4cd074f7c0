import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.truncation import linear, notation
from truncated_weights.truncation.rules import eigenprune, random_pruning
from truncated_weights.truncation.search import effects, statistics
from truncated_weights.truncation.search.examples import Examples
from truncated_weights.truncation.search.problem import NO_CHOICE, SearchProblem

EXAMPLES = np.arange(60)
KEY = (0, "fc_out")


@pytest.fixture(scope="module")
def scorer(planted):
    return planted.scorer()


def test_derangements_have_no_fixed_point_and_are_uniform():
    for count in (2, 3, 17):
        permutation = effects.derangement(count, seed=count)
        assert sorted(permutation) == list(range(count))
        assert not np.any(permutation == np.arange(count))
    # Of four elements there are nine derangements.
    draws = {}
    for seed in range(900):
        draw = tuple(effects.derangement(4, seed))
        draws[draw] = draws.get(draw, 0) + 1
    assert len(draws) == 9
    assert sum((n - 100) ** 2 / 100 for n in draws.values()) < 26.1  # chi^2, 8 degrees, p = 0.001
    with pytest.raises(ValueError, match="second example"):
        effects.derangement(1, 0)


@pytest.mark.parametrize("key", [(0, "fc_in"), (0, "fc_out"), (1, "ov"), (1, "fc_in")])
def test_effects_agree_with_exact_recomputation_for_small_sigma(planted, scorer, key):
    """Patch t of the counterfactual coordinate in, run the rest, and let t go to zero."""
    signed, _ = effects.effects(scorer, key, EXAMPLES, seed=5)
    partners = EXAMPLES[effects.derangement(60, 5)]
    network, params = planted.network, planted.params
    batch, other = planted.select(EXAMPLES), planted.select(partners)
    stopped, counterfactual = (network.stop(params, key, None, b) for b in (batch, other))
    outputs = stopped.inputs @ network.matrices[key].read(params)
    both = (stopped.valid & counterfactual.valid)[..., None]
    u, s, vt = scorer.decompositions[key]
    weights = planted.examples.weights / planted.examples.weights.sum(axis=1, keepdims=True)

    def losses(change):
        scores = network.resume(params, key, outputs + change, stopped.rest, batch)
        return np.sum(np.asarray(scores["loss"], np.float64) * weights, axis=1)

    for i in (0, 2, 9):
        moved = (counterfactual.inputs - stopped.inputs) * both
        patch = (moved @ u[:, i : i + 1]) * (s[i] * vt[i])[None, None]
        errors = []
        for t in (0.2, 0.1):
            exact = (losses(t * patch) - losses(-t * patch)) / (2 * t)
            errors.append(np.abs(exact - signed[:, i]).max())
        # Symmetric differences are exact to second order: halving t quarters the error.
        assert errors[1] < 0.02 * np.abs(signed[:, i]).max() + 1e-5
        assert errors[1] < 0.3 * errors[0] + 1e-5


@pytest.mark.parametrize("batch_size", [1, 7, 59])
def test_batches_do_not_matter(planted, scorer, batch_size):
    expected = effects.effects(scorer, KEY, EXAMPLES)
    batched = planted.scorer(batch_size=batch_size)
    found = effects.effects(batched, KEY, EXAMPLES)
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(theirs).max() > 1e-3
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_padding_has_no_effect(planted, scorer):
    """Whatever stands at padded positions, scores are the same."""
    data = dict(planted.examples.data)
    data["x"] = jnp.where(data["valid"][..., None], data["x"], 100.0)
    disturbed = planted.scorer(examples=Examples(data, planted.examples.weights))
    for key in (KEY, (1, "fc_in")):
        expected, _ = effects.effects(scorer, key, EXAMPLES)
        found, _ = effects.effects(disturbed, key, EXAMPLES)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        np.testing.assert_allclose(
            effects.mean_input(disturbed, planted.params, key, EXAMPLES),
            effects.mean_input(scorer, planted.params, key, EXAMPLES),
            atol=1e-6,
        )


def mean_output(world, params, key, leaf):
    """Mean over valid positions of what the matrix, with its bias, gives."""
    stopped = world.network.stop(params, key, None, world.select(EXAMPLES))
    outputs = linear.apply(leaf, stopped.inputs)
    return np.asarray(outputs)[np.asarray(stopped.valid)].mean(axis=0)


def test_compensation_keeps_the_mean_output(planted, scorer):
    rng = np.random.default_rng(0)
    keys = [(0, "fc_in"), (0, "fc_out"), (1, "fc_in")]
    masks = {k: (rng.random(16) < 0.5).astype(np.float32) for k in keys}
    choice = eigenprune.prune(scorer, "half", masks, compensate_on=EXAMPLES)
    params = choice.params(scorer.decompositions)
    for layer, name in keys:
        pruned = params["layers"][layer][name]
        # The inputs the matrix now gets, multiplied by the matrix that it was.
        whole = planted.params["layers"][layer][name]
        np.testing.assert_allclose(
            mean_output(planted, params, (layer, name), pruned),
            mean_output(planted, params, (layer, name), whole),
            atol=2e-6,
        )
    plain = eigenprune.prune(scorer, "half", masks).params(scorer.decompositions)
    assert not isinstance(plain["layers"][0]["fc_in"], dict)


def problem_of(world, *names, validation=0.5, **keywords):
    halves = statistics.split(60, validation=validation)
    scorer = world.scorer(**keywords)
    return SearchProblem(scorer, tuple(notation.candidates(names, ["0.5"])), *halves)


def test_removes_the_lowest(planted, scorer):
    """Variants are each matrix alone and all together; the masks are those of the effects."""
    problem = problem_of(planted, "0.fc_in", "1.fc_in")
    outcome = eigenprune.run(problem, objective="loss", fractions=(0.1, 0.25), alone=True)
    names = [row["intervention"] for row in outcome.rows]
    plain = [n for n in names if "bias" not in n and "random" not in n]
    assert plain == [
        "full", "0.fc_in 0.1", "0.fc_in 0.25", "1.fc_in 0.1", "1.fc_in 0.25",
        "pruned 0.1", "pruned 0.25",
    ]  # fmt: skip
    assert [row["removed"] for row in outcome.rows if row["intervention"] in plain] == [
        0, 1, 4, 1, 4, 2, 8,
    ]  # fmt: skip
    for key, mask in outcome.nearest.masks.items():
        scores = effects.effects(scorer, key, problem.validation)[0].mean(axis=0)
        assert scores[mask == 0].max() <= scores[mask == 1].min()


def test_finds_the_planted_noise_and_random_directions_do_not(planted):
    """The planted direction is the top one of 1.fc_in; as many at random change nothing."""
    problem = problem_of(planted, "1.fc_in")
    outcome = eigenprune.run(problem, objective="loss", fractions=(0.07,), compensation=(False,))
    assert outcome.choice.name == "pruned 0.07"
    np.testing.assert_array_equal(np.flatnonzero(outcome.choice.masks[1, "fc_in"] == 0), [0])
    tested = {r["intervention"]: r["test/loss_change"] for r in outcome.rows if "test/loss" in r}
    draws = [f"pruned 0.07, random {i}" for i in range(3)]
    assert list(tested) == ["full", "pruned 0.07", *draws]
    assert tested["full"] == 0
    assert tested["pruned 0.07"] < -0.3
    assert min(tested[name] for name in draws) > -0.1


@pytest.mark.parametrize("batch_size", [None, 7])
def test_evaluations_are_counted_as_in_every_rule(planted, batch_size):
    """Two matrices, two fractions, with and without bias; 30 validation and 30 test examples."""
    problem = problem_of(planted, "0.fc_in", "1.fc_in", batch_size=batch_size)
    outcome = eigenprune.run(problem, objective="loss", fractions=(0.1, 0.25))
    scoring = 2 * (1 + 3)
    # The full model and four variants; a biased one looks at the mean input of two matrices.
    validation = 1 + 4 + 2 * 2
    test = 1 + 1 + 3
    biases_of_random_ones = 3 * 2 if outcome.nearest.biases else 0
    expected = 30 * (scoring + validation + test + biases_of_random_ones)
    assert outcome.evaluations == expected


def test_rows_are_what_the_pruned_model_gives(planted):
    problem = problem_of(planted, "1.fc_in")
    outcome = eigenprune.run(
        problem, objective="loss", fractions=(0.25,), compensation=(True,), aggregate="absolute"
    )
    assert list(outcome.nearest.biases) == [(1, "fc_in")]
    params = outcome.nearest.params(problem.scorer.decompositions)
    for split, indices in (("validation", problem.validation), ("test", problem.test)):
        scores = planted.scores(params, planted.select(indices))["loss"]
        weights = planted.examples.weights[indices]
        np.testing.assert_allclose(
            outcome.rows[1][f"{split}/loss"],
            statistics.weighted_mean(np.asarray(scores), weights),
            rtol=1e-5,
        )


def test_test_figures_stand_beside_the_choice_they_belong_to(planted):
    problem = problem_of(planted, "1.fc_in")
    outcome = eigenprune.run(problem, objective="loss", fractions=(0.75, 0.01, 0.25), samples=10)
    (chosen,) = (row for row in outcome.rows if row["chosen"])
    variants = [row for row in outcome.rows[1:] if "random" not in row["intervention"]]
    assert chosen["intervention"] == outcome.nearest.name
    # Where the best is not the first of them: its place matters.
    assert variants[0] is not chosen
    assert [row["intervention"] for row in variants if "test/loss" in row] == [outcome.nearest.name]
    params = outcome.nearest.params(problem.scorer.decompositions)
    scores = np.asarray(planted.scores(params, planted.select(problem.test))["loss"])
    mean = statistics.weighted_mean(scores, planted.examples.weights[problem.test])
    np.testing.assert_allclose(chosen["test/loss"], mean, rtol=1e-5)


def test_leaves_the_model_alone_where_pruning_hurts(harmless):
    problem = problem_of(harmless, "1.fc_in")
    outcome = eigenprune.run(problem, objective="loss", fractions=(1.0,), compensation=(False,))
    assert outcome.choice is NO_CHOICE
    assert outcome.nearest.removed == 16
    assert "no pruning improves loss" in outcome.warning
    assert outcome.rows[0]["chosen"]


def test_random_pruning_copies_the_size(planted):
    problem = problem_of(planted, "0.fc_in", "1.fc_in")
    like = eigenprune.run(problem, fractions=(0.25,), compensation=(False,)).nearest
    draws = [random_pruning.run(problem, like=like, seed=seed) for seed in range(3)]
    for draw in draws:
        sizes = {key: mask.sum() for key, mask in draw.choice.masks.items()}
        assert sizes == {key: mask.sum() for key, mask in like.masks.items()}
        assert draw.choice.name == "pruned 0.25, at random"
        # Nothing of validation is looked at; full model and choice on test.
        assert draw.evaluations == 2 * 30
    assert any(np.any(draws[0].choice.masks[k] != draws[1].choice.masks[k]) for k in like.masks)
    alone = random_pruning.run(problem, fraction=0.5)
    assert alone.choice.removed == 16
    assert [row["removed"] for row in alone.rows] == [0, 16]
    with pytest.raises(ValueError, match="fraction 0"):
        random_pruning.run(problem, fraction=0.0)


def test_what_all_examples_share_is_invisible(planted):
    """An input that never varies cancels in x' - x, so a global bias scores zero.

    Removed first by its absolute effect, it comes back whole with the mean compensation.
    """
    constant = jnp.linalg.qr(jax.random.normal(jax.random.key(9), (16, 16)))[0][:, 0]
    key = (0, "fc_in")
    # Project the varying part of the input away from one direction, and read only that.
    data = dict(planted.examples.data)
    x = data["x"]
    data["x"] = x + (1 - x @ constant)[..., None] * constant[None, None]
    write = jnp.outer(constant, jnp.ones(24)) / 5
    params = planted.matrices[key].write(planted.params, write)
    examples = Examples(data, planted.examples.weights)
    scorer = planted.scorer(params=params, examples=examples)
    _, absolute = effects.effects(scorer, key, EXAMPLES)
    assert np.abs(absolute[:, 0]).max() < 1e-5
    masks = {key: np.r_[0, np.ones(15)].astype(np.float32)}
    choices = {
        "pruned": eigenprune.prune(scorer, "pruned", masks),
        "compensated": eigenprune.prune(scorer, "pruned", masks, compensate_on=EXAMPLES),
    }
    scores = {"whole": scorer.full(EXAMPLES)["loss"]}
    for name, choice in choices.items():
        scores[name] = scorer.of_params(choice.params(scorer.decompositions), EXAMPLES)["loss"]
    assert np.abs(scores["pruned"] - scores["whole"]).max() > 1e-2
    np.testing.assert_allclose(scores["compensated"], scores["whole"], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fractions": (1.5,)}, "fraction 1.5"),
        ({"fractions": (0.0,)}, "fraction 0"),
        ({"aggregate": "median"}, "aggregate 'median'"),
    ],
)
def test_bad_arguments(planted, options, words):
    with pytest.raises(ValueError, match=words):
        eigenprune.run(problem_of(planted, "0.fc_in"), **options)


def test_needs_a_model_that_can_stop(planted):
    with pytest.raises(ValueError, match="stop in front of a matrix"):
        effects.effects(planted.scorer(can_stop=False), KEY, EXAMPLES)
