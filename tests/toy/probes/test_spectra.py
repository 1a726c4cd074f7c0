import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.toy import language, network, recall, transformer
from truncated_weights.toy.probes import spectra
from truncated_weights.toy.transformer import TransformerConfig
from truncated_weights.training.records import name as named


@pytest.fixture(scope="module")
def world():
    task = recall.make_task(language.zipf(4), alpha=0.5, length=3, num_noise=2)
    config = TransformerConfig(
        task.vocab_size, 3, d_model=6, d_hidden=9, feed_forward=("mlp", "linear"),
        learned_query=True,
    )  # fmt: skip
    weights = transformer.combine(*transformer.init(config, jax.random.key(0)))
    return task, config, weights


def test_planted_noise_direction_is_found_where_it_was_planted(world):
    task, config, weights = world
    noise = np.mean(np.asarray(weights["unembed"])[:, list(task.noise)], axis=1)
    basis, _ = np.linalg.qr(np.column_stack([noise, np.eye(6)[:, :5]]))
    left, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 6)))
    values = np.array([5.0, 4, 3, 2, 1, 0.5])
    for place in (0, 3):
        order = np.roll(np.arange(6), place)
        right = basis[:, np.argsort(order)]
        planted = (left * values) @ right.T
        where = transformer.matrices(config)[0, "fc_out"]
        edited = where.write(weights, jnp.asarray(planted, jnp.float32))
        got = spectra.spectra(task, config, edited)
        np.testing.assert_allclose(
            got[named("singular_values", "rank", matrix="0.fc_out")], values, rtol=1e-5
        )
        share = np.asarray(got[named("noise_share", "rank", matrix="0.fc_out")])
        np.testing.assert_allclose(share, np.eye(6)[list(order).index(0)], atol=1e-5)
        soft = np.sqrt(np.sum(values**2)) / 5
        assert float(got[named("soft_rank", matrix="0.fc_out")]) == pytest.approx(soft, rel=1e-5)


def test_every_matrix_has_its_singular_values_and_shares_sum_to_at_most_one(world):
    task, config, weights = world
    got = spectra.spectra(task, config, weights)
    names = {f"{i}.{n}" for i in range(2) for n in (*config.names(i), "ov")}
    assert {matrix for key in got for _, matrix in key.at} == names
    for name in names:
        layer, matrix = int(name[0]), name[2:]
        block = jax.tree.map(np.asarray, weights["layers"][layer])
        whole = block["v_proj"] @ block["out_proj"] if matrix == "ov" else block[matrix]
        expected = np.sqrt(np.maximum(np.linalg.eigvalsh(whole @ whole.T)[::-1], 0))[:6]
        values = got[named("singular_values", "rank", matrix=name)]
        np.testing.assert_allclose(values, expected, atol=2e-3)
        norm = np.sqrt(np.sum(whole**2))
        assert float(got[named("norm", matrix=name)]) == pytest.approx(norm, rel=1e-5)
        share = named("noise_share", "rank", matrix=name)
        assert (share in got) == (matrix not in ("q_proj", "k_proj"))
        if share in got:
            assert float(np.sum(got[share])) < 1 + 1e-5
    # A square matrix writes everywhere.
    assert float(np.sum(got[named("noise_share", "rank", matrix="1.fc_in")])) == pytest.approx(
        1, abs=1e-5
    )


@pytest.mark.parametrize("matrix", ["v_proj", "out_proj", "fc_in", "fc_out"])
def test_noise_direction_is_the_gradient_of_the_noise_logit(world, matrix):
    """With one token, attention passes all of it on, and with open ReLUs all is linear."""
    task, _, weights = world
    alone = TransformerConfig(task.vocab_size, 3, d_model=6, d_hidden=9, feed_forward=("mlp",))
    block = weights["layers"][0]
    # Large positive inputs and input weights open every ReLU; out_proj writes past the block.
    block = {**block, "fc_in": jnp.abs(block["fc_in"])}
    if matrix in ("v_proj", "out_proj"):
        block["fc_out"] = jnp.zeros_like(block["fc_out"])
    edited = {**weights, "layers": {0: {k: v for k, v in block.items() if k != "q_proj"}}}
    edited["embed"] = jnp.full_like(weights["embed"], 50.0)
    size = alone.shape(0, matrix)[1]

    def noise_logit(delta):
        hooks = {(0, matrix): lambda inputs, apply: apply(inputs) + delta[None, None]}
        tokens = jnp.zeros((1, 1), jnp.int32)
        logits = network.run(alone, edited, tokens, None, hooks).logits[0, 0]
        return jnp.mean(logits[jnp.asarray(task.noise)])

    gradient = jax.grad(noise_logit)(jnp.zeros(size))
    direction = spectra.noise_direction(task, alone, edited, 0, matrix)
    np.testing.assert_allclose(direction, gradient, atol=1e-5)
    assert float(jnp.abs(gradient).max()) > 0.01
