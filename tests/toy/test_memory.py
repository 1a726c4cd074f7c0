import jax
import numpy as np
import optax
import pytest

from truncated_weights.theory import frequent_memory, memory_flow
from truncated_weights.toy import memory, memory_descent
from truncated_weights.toy.memory import Memory
from truncated_weights.training.loop import Trainer

N, ALPHA = 5, 0.3


def gradient_by_hand(embed, unembed, w, alpha):
    """Of the mean cross-entropy: E^T (p - p*) U^T / N, each row by itself."""
    inputs = len(embed)
    gradient = np.zeros_like(w)
    for x in range(inputs):
        z = embed[x] @ w @ unembed
        p = np.exp(z - z.max())
        p /= p.sum()
        p[x] -= 1 - alpha
        p[inputs] -= alpha
        gradient += np.outer(embed[x], unembed @ p) / inputs
    return gradient


def trained(problem, rate, steps, seed=0):
    trainer = Trainer(problem, optax.sgd(rate), (seed,), num_steps=steps)
    state = trainer.advance(trainer.init(), steps)
    return jax.tree.map(lambda x: np.asarray(x[0], np.float64), {**state.params, **state.frozen})


@pytest.mark.parametrize("d_model", [0, 7])
def test_descent_is_euler_integration_of_the_flow(d_model):
    weights = trained(Memory(N, ALPHA, d_model=d_model), 0.5, 60)
    w = np.zeros_like(weights["fc_in"])
    for _ in range(60):
        w -= 0.5 * gradient_by_hand(weights["embed"], weights["unembed"], w, ALPHA)
    assert np.abs(w).max() > 0.5
    np.testing.assert_allclose(weights["fc_in"], w, atol=2e-6)


def test_error_against_the_exact_flow_is_of_the_order_of_the_step():
    time = 12.0
    exact = memory_flow.logits(N, ALPHA, np.array([time]))
    errors = []
    for rate in (0.4, 0.2):
        weights = trained(Memory(N, ALPHA), rate, round(time / rate))
        got = memory.measure_logits({k: np.float32(v) for k, v in weights.items()})
        errors.append(
            [
                float(got[k]) - v.item()
                for k, v in zip(("correct", "other", "noise"), exact, strict=True)
            ]
        )
    first, second = np.abs(np.array(errors))
    assert np.all(first < 0.02)
    np.testing.assert_allclose(second / first, 0.5, atol=0.03)


def test_logits_keep_the_symmetry_of_the_inputs():
    z = memory.logits({k: np.float32(v) for k, v in trained(Memory(N, ALPHA), 1.0, 40).items()})
    correct, other = np.diag(z), z[:, :N][~np.eye(N, dtype=bool)]
    for group in (correct, other, z[:, N]):
        assert np.ptp(group) < 1e-5
    assert correct[0] > z[0, N] > other[0]
    np.testing.assert_allclose(z.sum(axis=1), 0, atol=1e-5)


def test_random_embeddings_have_variance_one_over_d():
    _, frozen = Memory(400, ALPHA, d_model=64).init(jax.random.key(0))
    assert frozen["embed"].shape == (400, 64)
    assert frozen["unembed"].shape == (64, 401)
    for matrix in frozen.values():
        # The variance of n squares of Gaussians is known to 1 part in sqrt(n / 2).
        assert abs(np.var(matrix) * 64 - 1) < 4 * np.sqrt(2 / matrix.size)
    overlap = float(np.sum(frozen["embed"] * frozen["unembed"].T[:400])) / 64
    assert abs(overlap) < 4 * np.sqrt(400 / 64) / 8


def test_sampled_gradient_is_the_population_gradient_on_average():
    rng = np.random.default_rng(0)
    params = {"fc_in": rng.normal(size=(N, N + 1)).astype(np.float32)}
    problem = Memory(N, ALPHA, batch_size=8)
    _, frozen = problem.init(jax.random.key(0))

    def gradient(key):
        return jax.grad(problem.loss)(params, frozen, key, lambda batch: batch)["fc_in"]

    drawn = jax.jit(jax.vmap(gradient))(jax.random.split(jax.random.key(1), 4000))
    expected = gradient_by_hand(np.eye(N), np.eye(N + 1), np.float64(params["fc_in"]), ALPHA)
    z = (drawn.mean(axis=0) - expected) / (np.std(drawn, axis=0) / np.sqrt(4000))
    assert np.abs(z).max() < 4.5
    assert 0.5 < np.sqrt(np.mean(z**2)) < 1.5


def test_measures_of_a_matrix_written_by_hand():
    z = np.float32([[2, 0, 1], [0, 0, 3]])
    weights = {"embed": np.eye(2, dtype=np.float32), "fc_in": z}
    weights["unembed"] = np.eye(3, dtype=np.float32)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    got = memory.measure_outputs(weights)
    assert got["p_correct"] == pytest.approx((p[0, 0] + p[1, 1]) / 2)
    assert got["p_noise"] == pytest.approx((p[0, 2] + p[1, 2]) / 2)
    assert got["accuracy"] == 0.5
    found = memory.measure_logits(weights)
    assert [float(found[k]) for k in ("correct", "other", "noise")] == [1.0, 0.0, 2.0]
    # z z^T = [[5, 3], [3, 9]] has eigenvalues 7 +- sqrt 13.
    squares = 7 + np.array([1, -1]) * np.sqrt(13)
    np.testing.assert_allclose(found["singular_values"], np.sqrt(squares), rtol=1e-5)
    # v_i = z^T u_i / s_i with u_i ~ (3, s_i^2 - 5).
    u = np.stack([np.full(2, 3.0), squares - 5])
    u /= np.linalg.norm(u, axis=0)
    share = (z[:, 2] @ u) ** 2 / squares
    np.testing.assert_allclose(found["noise_share"], share, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((1, 0.5), "num_inputs"),
        ((4, 0.0), "alpha"),
        ((4, 1.0), "alpha"),
        ((4, 0.5, -1), "d_model"),
        ((4, 0.5, 0, -2), "batch_size"),
        ((2, 0.5, 0, 0, (0.5, 0.6)), "frequencies"),
        ((3, 0.5, 0, 0, (0.5, 0.5)), "frequencies"),
        ((2, 0.5, 0, 0, (), 1.0), "shared"),
    ],
)
def test_memories_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        Memory(*settings)


def test_facts_with_frequencies_and_a_shared_feature_follow_their_flow():
    law = memory.frequencies("zipf", 6, exponent=1.2)
    problem = Memory(6, ALPHA, frequencies=law, shared=0.4)
    facts = frequent_memory.facts(np.array(law), ALPHA, 0.4)
    errors = []
    for rate in (0.4, 0.2):
        weights = trained(problem, rate, round(40 / rate))
        assert weights["fc_in"].shape == (7, 7)
        exact = frequent_memory.logits(facts, np.array([40.0]))[0]
        found = np.asarray(memory.logits({k: np.float32(v) for k, v in weights.items()}))
        errors.append(np.abs(found - exact).max())
    assert errors[0] < 0.02
    assert errors[1] / errors[0] == pytest.approx(0.5, abs=0.05)


def test_sampled_inputs_come_as_often_as_they_should():
    law = memory.frequencies("zipf", N)
    problem = Memory(N, ALPHA, batch_size=4, frequencies=law)
    params, frozen = problem.init(jax.random.key(0))

    def gradient(key):
        return jax.grad(problem.loss)(params, frozen, key, lambda batch: batch)["fc_in"]

    drawn = jax.jit(jax.vmap(gradient))(jax.random.split(jax.random.key(1), 4000))
    exact = jax.grad(Memory(N, ALPHA, frequencies=law).loss)(
        params, frozen, jax.random.key(0), lambda batch: batch
    )["fc_in"]
    z = (drawn.mean(axis=0) - exact) / (np.std(drawn, axis=0) / np.sqrt(4000))
    assert np.abs(z).max() < 4.5


def test_measures_of_facts_by_hand():
    z = np.float32([[2, 0, 1], [0, 0, 3]])
    weights = {"embed": np.eye(2, dtype=np.float32), "fc_in": z}
    weights["unembed"] = np.eye(3, dtype=np.float32)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    found = memory.measure_facts(weights)
    np.testing.assert_allclose(found["p_correct"], [p[0, 0], p[1, 1]], rtol=1e-6)
    np.testing.assert_allclose(found["p_noise"], p[:, 2], rtol=1e-6)
    np.testing.assert_allclose(found["margin"], [1, -3])


def test_frequencies_by_name(tmp_path):
    assert memory.frequencies("uniform", 4) == ()
    np.testing.assert_allclose(memory.frequencies("zipf", 3), np.array([6, 3, 2]) / 11)
    text = tmp_path / "text.txt"
    text.write_text("aabbbbccccccd")
    np.testing.assert_allclose(
        memory.frequencies("text", 3, text=str(text)), np.array([6, 4, 2]) / 12
    )
    with pytest.raises(ValueError, match="4 symbols"):
        memory.frequencies("text", 5, text=str(text))


def test_memories_together_are_the_memories_alone():
    """Sizes share one padded program: what a memory has no room for stays exactly zero."""
    sizes, alphas, stops = (2, 5, 3), (0.3, 0.1, 0.6), (3, 40)
    found = memory_descent.descend_together(
        sizes, alphas, step_size=0.5, stops=stops, measure=lambda w: w
    )
    for place, (size, alpha) in enumerate(zip(sizes, alphas, strict=True)):
        alone = memory_descent.descend(
            Memory(size, alpha), step_size=0.5, stops=stops, measure=lambda w: w["fc_in"]
        )
        for together, single in zip(found, alone, strict=True):
            matrix = together[place]
            assert matrix.dtype == np.float64
            np.testing.assert_allclose(matrix[:size, :size], single[:, :-1], atol=1e-13)
            np.testing.assert_allclose(matrix[:size, -1], single[:, -1], atol=1e-13)
            rest = matrix.copy()
            rest[:size, :size] = rest[:size, -1] = 0
            assert not rest.any()


def test_descent_is_on_the_exact_loss_alone():
    with pytest.raises(ValueError, match="batch_size is 8: descent is on the exact loss alone"):
        memory_descent.descend(
            Memory(3, 0.3, batch_size=8), step_size=0.5, stops=(1,), measure=lambda w: w["fc_in"]
        )
