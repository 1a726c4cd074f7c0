import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.toy import language, linearised, recall, transformer
from truncated_weights.toy.linearised import LinearisedProblem
from truncated_weights.toy.recall_problem import RecallProblem

TASK = recall.make_task(language.zipf(6), alpha=0.4, length=8)
CONFIG = transformer.TransformerConfig(TASK.vocab_size, 8, d_model=8)
PLAIN = RecallProblem(TASK, CONFIG, 4)


@pytest.fixture(scope="module")
def start():
    params, frozen = transformer.init(CONFIG, jax.random.key(0))
    moved = jax.tree.map(
        lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), params
    )
    batch = recall.sample(TASK, jax.random.key(1), batch_size=4)
    return params, frozen, moved, batch


def test_nothing_linear_is_the_recall_problem(start):
    params, frozen, moved, _ = start
    key = jax.random.key(3)
    problem = LinearisedProblem(PLAIN, ())
    wrapped = problem.loss(moved, {"rest": frozen, "start": params}, key, lambda x: x)
    assert float(wrapped) == pytest.approx(float(PLAIN.loss(moved, frozen, key, lambda x: x)))


def test_all_linear_is_the_first_order_of_the_full_model(start):
    params, frozen, moved, batch = start
    problem = LinearisedProblem(PLAIN, linearised.matrices(CONFIG))
    held = {"rest": frozen, "start": params}

    def full(p):
        return linearised.scored_logits(CONFIG, p, frozen, batch)

    def at(size):
        return jax.tree.map(lambda a, b: a + size * (b - a), params, moved)

    base = full(params)
    changes = [problem.logits(at(size), held, batch) - base for size in (0.5, 1.0)]
    np.testing.assert_allclose(2 * changes[0], changes[1], atol=2e-5)
    # Against central differences of the ordinary forward.
    step = 2e-3  # short enough to cross hardly a kink of the ReLUs
    slope = (full(at(step)) - full(at(-step))) / (2 * step)
    np.testing.assert_allclose(changes[1], slope, atol=5e-3 * float(jnp.abs(slope).max()))


def test_one_linear_matrix_is_exact_where_the_model_is_linear_in_it(start):
    """The logits are linear in the last fc_out, so that linearising it changes nothing."""
    params, frozen, moved, batch = start
    held = {"rest": frozen, "start": params}
    exact = linearised.scored_logits(CONFIG, moved, frozen, batch)
    last = LinearisedProblem(PLAIN, ("1.fc_out",)).logits(moved, held, batch)
    np.testing.assert_allclose(last, exact, atol=2e-5)
    other = LinearisedProblem(PLAIN, ("0.k_proj",)).logits(moved, held, batch)
    assert float(jnp.abs(other - exact).max()) > 1e-3


def test_part_kernels_are_products_of_jacobians(start):
    params, frozen, _, batch = start
    kernels = jax.jit(
        lambda p: linearised.part_kernels(
            TASK, CONFIG, p, frozen, batch, jax.random.key(5), draws=400
        )
    )(params)
    assert sorted(kernels) == sorted(linearised.matrices(CONFIG))
    last = np.argmax(np.asarray(batch.weights * (1 + batch.positions)), axis=1)

    def logits(p):
        found = linearised.scored_logits(CONFIG, p, frozen, batch)
        return found[np.arange(4), last]

    jacobian = jax.jacrev(logits)(params)
    flat, _ = jax.tree_util.tree_flatten_with_path(jacobian)
    for path, leaf in flat:
        rows = np.asarray(leaf).reshape(4, TASK.vocab_size, -1)
        exact = np.einsum("ikp,jkp->ij", rows, rows) / TASK.vocab_size
        found = np.asarray(kernels[linearised.matrix_name(path)])
        # 400 draws of signs leave about sqrt(2 / 400 / classes) of the size of the diagonal.
        np.testing.assert_allclose(found, exact, atol=0.1 * np.diag(exact).max())


def test_loss_moves_only_the_trained_weights(start):
    params, frozen, moved, _ = start
    problem = LinearisedProblem(PLAIN, linearised.matrices(CONFIG))
    held = {"rest": frozen, "start": params}
    begun, kept = problem.init(jax.random.key(0))
    chex.assert_trees_all_equal(begun, kept["start"])
    key = jax.random.key(3)
    there = float(problem.loss(params, held, key, lambda x: x))
    assert there == pytest.approx(float(PLAIN.loss(params, frozen, key, lambda x: x)), rel=1e-5)
    assert float(problem.loss(moved, held, key, lambda x: x)) != pytest.approx(there, rel=1e-3)


def test_unknown_matrices_are_refused():
    with pytest.raises(ValueError, match=r"9\.fc_in"):
        LinearisedProblem(PLAIN, ("9.fc_in",))
