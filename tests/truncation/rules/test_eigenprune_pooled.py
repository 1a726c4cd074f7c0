import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.truncation.conftest import SHAPES
from truncated_weights.truncation import notation
from truncated_weights.truncation.address import Address, at_path
from truncated_weights.truncation.rules import eigenprune_pooled
from truncated_weights.truncation.search import blocks, effects, statistics
from truncated_weights.truncation.search.problem import SearchProblem

HEADS = {"v_proj": (1, 4), "out_proj": (4, 1)}
EXAMPLES = np.arange(60)


@pytest.fixture(scope="module")
def world(planted):
    """The planted network whose values and outputs belong to four heads."""
    found = copy.copy(planted)
    found.network = copy.copy(planted.network)
    found.network.matrices = {
        (layer, name): at_path("layers", layer, name, heads=HEADS.get(name, (1, 1)))
        for layer, name in SHAPES
    } | {(1, "ov"): planted.matrices[1, "ov"]}
    return found


def problem_of(world, *names, **keywords):
    halves = statistics.split(60, validation=0.5)
    cuts = tuple(notation.candidates(names, ["0.5"]))
    return SearchProblem(world.scorer(**keywords), cuts, *halves)


@pytest.mark.parametrize("batch_size", [None, 7])
def test_the_largest_effect_by_brute_force(world, batch_size):
    """Per head, example and position from the definition, with NumPy's own decomposition."""
    network, params = world.network, world.params
    partners = EXAMPLES[effects.derangement(60, 0)]
    batch, other = world.select(EXAMPLES), world.select(partners)
    weights = world.examples.weights / world.examples.weights.sum(axis=1, keepdims=True)
    scorer = world.scorer(batch_size=batch_size)
    for key in ((1, "v_proj"), (1, "out_proj"), (0, "fc_in")):
        stopped, away = (network.stop(params, key, None, b) for b in (batch, other))
        matrix = np.asarray(network.matrices[key].read(params))

        def loss(outputs, key=key, stopped=stopped):
            scores = network.resume(params, key, outputs, stopped.rest, batch)
            return jnp.sum(scores["loss"] * weights)

        gradient = np.asarray(jax.grad(loss)(stopped.inputs @ matrix))
        moved = np.asarray(away.inputs - stopped.inputs)
        parts = blocks.blocks_of(network.matrices, key, params)
        known = blocks.decompositions(network.matrices, parts, params)
        found = eigenprune_pooled.largest(scorer, key, parts, known, examples=EXAMPLES)
        assert len(parts) == max(HEADS.get(key[1], (1, 1)))
        for part in parts:
            u, s, vt = np.linalg.svd(matrix[part.rows, part.columns], full_matrices=False)
            expected = np.full(len(s), -np.inf)
            for example, position in np.argwhere(np.asarray(stopped.valid & away.valid)):
                pull = vt @ gradient[example, position, part.columns]
                push = u.T @ moved[example, position, part.rows]
                expected = np.maximum(expected, pull * s * push)
            np.testing.assert_allclose(found[part.key][0], expected, rtol=2e-3, atol=2e-5)


def test_one_list_over_layers_for_each_type(world):
    parts = [
        blocks.HeadBlock((layer, "fc_in"), (layer, "fc_in"), slice(0, 4), slice(0, 4))
        for layer in (0, 1)
    ] + [blocks.HeadBlock((0, "fc_out"), (0, "fc_out"), slice(0, 4), slice(0, 4))]
    zero = np.zeros(4)
    found = {
        (0, "fc_in"): (np.array([5.0, 6.0, 7.0, 8.0]), zero),
        (1, "fc_in"): (np.array([0.0, 2.0, 1.0, 9.0]), zero),
        (0, "fc_out"): (np.array([0.0, 3.0, 0.0, 0.0]), np.array([0.0, 0.0, -1.0, 1.0])),
    }
    masks = eigenprune_pooled.lowest_of_each_type(parts, found, 0.375)
    np.testing.assert_array_equal(masks[0, "fc_in"], [1, 1, 1, 1])
    np.testing.assert_array_equal(masks[1, "fc_in"], [0, 0, 0, 1])
    # A tie is broken by the mean effect.
    np.testing.assert_array_equal(masks[0, "fc_out"], [1, 1, 0, 1])


def test_what_a_choice_does_to_the_weights(world):
    """Heads lose their own directions, and the mean output stays by the bias."""
    problem = problem_of(world, "1.v_proj", "1.out_proj", "0.fc_in")
    outcome = eigenprune_pooled.run(problem, objective="loss", fractions=(0.25,))
    choice = outcome.nearest
    assert choice.name == "pooled 0.25 with bias"
    # A quarter of 4 heads x 4 directions of v_proj, as many of out_proj, of 16 of fc_in.
    assert choice.removed == 12
    before, after = world.params, choice.params(problem.scorer.decompositions)
    for key in ((1, "v_proj"), (1, "out_proj"), (0, "fc_in")):
        old = np.asarray(world.matrices[key].read(before))
        new = np.asarray(world.network.matrices[key].read(after))
        for part in blocks.blocks_of(world.network.matrices, key, before):
            u, s, vt = np.linalg.svd(old[part.rows, part.columns], full_matrices=False)
            expected = u * (s * choice.masks[part.key]) @ vt
            np.testing.assert_allclose(new[part.rows, part.columns], expected, atol=1e-5)
        stopped = world.network.stop(after, key, None, world.select(problem.validation))
        mean = np.asarray(stopped.inputs)[np.asarray(stopped.valid)].mean(axis=0)
        np.testing.assert_allclose(mean @ new + choice.biases[key], mean @ old, atol=1e-5)
    tested = [row["intervention"] for row in outcome.rows if "test/loss" in row]
    assert tested[:2] == ["full", choice.name]
    assert len(tested) == 5


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (("0.fc_in",), {"fractions": (0.0,)}, "fraction 0"),
        (("0.fc_in",), {"fractions": (1.5,)}, "fraction 1.5"),
        (("1.ov",), {}, "1.ov: it is a product"),
    ],
)
def test_bad_arguments(world, names, options, words):
    with pytest.raises(ValueError, match=words):
        eigenprune_pooled.run(problem_of(world, *names), **options)


def test_a_matrix_that_belongs_to_no_heads_is_one_block(planted):
    key, matrix = (0, "fc_out"), planted.matrices[0, "fc_out"].read(planted.params)
    users = Address(lambda params: params, lambda params, changed: changed)
    for matrices, params in ((planted.matrices, planted.params), ({key: users}, matrix)):
        (whole,) = blocks.blocks_of(matrices, key, params)
        assert matrix[whole.rows, whole.columns].shape == matrix.shape
