import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.truncation import notation
from truncated_weights.truncation.editing import edit
from truncated_weights.truncation.rules import gradient_guided, grid
from truncated_weights.truncation.search import statistics
from truncated_weights.truncation.search.problem import Choice, Outcome, SearchProblem

RHOS = (*notation.LASER_RHOS, "-0.07", "-0.2", "-0.5")
EXAMPLES = np.arange(0, 40)


def loss_with(world, key, mask):
    """Mean loss over EXAMPLES, in the model's own weights."""
    components = world.scorer().decompositions.of([key])
    params = edit(world.params, world.matrices, components, {key: jnp.asarray(mask)})
    scores = world.scores(params, world.select(EXAMPLES))["loss"]
    return float(statistics.weighted_mean(np.asarray(scores), world.examples.weights[EXAMPLES]))


@pytest.fixture(scope="module")
def gradients(planted):
    return gradient_guided.component_gradients(planted.scorer(), list(planted.matrices), EXAMPLES)


@pytest.mark.parametrize("key", [(0, "fc_in"), (0, "fc_out"), (1, "fc_in"), (1, "ov")])
def test_gradients_agree_with_finite_differences(planted, gradients, key):
    step = 0.05
    for component in (0, 3, 10):
        change = np.zeros(16, np.float32)
        change[component] = step
        difference = loss_with(planted, key, 1 + change) - loss_with(planted, key, 1 - change)
        np.testing.assert_allclose(
            gradients[key][component], difference / (2 * step), rtol=0.02, atol=2e-5
        )


def test_removal_of_small_components_is_predicted(planted, gradients):
    """The error of first order falls like the square of what is removed."""
    key, mask = (1, "fc_in"), np.ones(16, np.float32)
    errors = []
    for strength in (1.0, 0.5, 0.25):
        mask[6:] = 1 - strength
        predicted = -strength * gradients[key][6:].sum()
        errors.append(
            abs(loss_with(planted, key, mask) - loss_with(planted, key, 0 * mask + 1) - predicted)
        )
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_a_prediction_is_minus_the_gradients_of_what_is_removed(planted, gradients):
    scorer, (first, second) = planted.scorer(), ((0, "fc_in"), (1, "fc_in"))
    texts = ["0.fc_in@0", "1.fc_in@-0.5", "0.fc_in@0.5+1.fc_in@0"]
    predicted = gradient_guided.predicted_changes(
        scorer, list(map(notation.parse, texts)), gradients
    )
    expected = [
        -gradients[first].sum(),
        -gradients[second][:8].sum(),
        -gradients[first][8:].sum() - gradients[second].sum(),
    ]
    np.testing.assert_allclose(predicted, expected, rtol=1e-6)


def test_a_gradient_costs_three_passes(planted):
    scorer = planted.scorer()
    gradient_guided.component_gradients(scorer, [(0, "fc_in")], EXAMPLES)
    assert scorer.cost.evaluations == 3 * len(EXAMPLES)


def test_batches_do_not_matter(planted, gradients):
    scorer = planted.scorer(batch_size=7)
    found = gradient_guided.component_gradients(scorer, list(planted.matrices), EXAMPLES)
    for key, expected in gradients.items():
        np.testing.assert_allclose(found[key], expected, atol=1e-6)


def test_finds_the_planted_noise_for_a_quarter_of_the_evaluations(planted):
    validation, _ = statistics.split(60, validation=0.5, seed=1)
    candidates = tuple(notation.candidates(planted.keys, RHOS))
    problem = SearchProblem(planted.scorer(), candidates, validation)
    options = {"objective": "loss"}
    full = grid.run(problem, **options)
    guided = gradient_guided.run(problem, num_gradient_examples=20, **options)
    assert str(guided.best) == "1.fc_in@-0.07"
    told = gradient_guided.against_grid(guided, full, **options)
    assert guided.evaluations <= 0.25 * full.evaluations
    np.testing.assert_allclose(told["evaluations_saved"], 1 - guided.evaluations / full.evaluations)
    np.testing.assert_allclose(told["missed"], 0, atol=1e-7)
    assert told["rank_correlation"] > 0.5
    # Every candidate has its prediction, in rising order, evaluated or not.
    predictions = [row["predicted_loss_change"] for row in guided.rows[1:]]
    assert predictions == sorted(predictions)
    assert len(guided.rows) == len(full.rows)
    # All of the grid's budget, three of whose passes the gradients take.
    lavish = gradient_guided.run(problem, fraction=1.0, num_gradient_examples=30, **options)
    assert len(problem.validation) == 30
    assert lavish.evaluations == full.evaluations
    for fraction in (0.0, 1.5):
        with pytest.raises(ValueError, match=f"fraction {fraction}"):
            gradient_guided.run(problem, fraction=fraction)


def test_says_what_was_missed():
    rows = [
        {"intervention": name, "validation/loss": loss, "validation/loss_change": loss - 1}
        for name, loss in [("full", 1.0), ("a", 0.9), ("b", 0.3)]
    ]
    best = Choice("0.fc_in@0", notation.parse("0.fc_in@0"))
    full = Outcome(best, best, [r | {"chosen": r["intervention"] == "b"} for r in rows], 30, 0.0)
    guesses = [
        rows[1] | {"chosen": True, "predicted_loss_change": -1.0},
        {"intervention": "b", "predicted_loss_change": 2.0},
    ]
    guided = Outcome(best, best, guesses, 6, 0.0)
    told = gradient_guided.against_grid(guided, full, objective="loss")
    np.testing.assert_allclose(
        [told["missed"], told["evaluations_saved"], told["rank_correlation"]], [0.6, 0.8, -1]
    )
