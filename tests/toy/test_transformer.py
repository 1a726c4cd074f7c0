"""Both forwards against a reading of the formulas in NumPy, one number at a time."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from toy import transformer
from toy.transformer import TransformerConfig

VOCAB, LENGTH, D = 5, 6, 4


def config(**options):
    return TransformerConfig(
        **({"vocab_size": VOCAB, "length": LENGTH, "d_model": D, "d_hidden": 7} | options)
    )


CONFIGS = {
    "published": config(),
    "no feed-forward": config(feed_forward=("none", "none"), learned_query=True),
    "one linear layer": config(feed_forward=("linear",), positions="sinusoidal"),
    "three layers": config(
        feed_forward=("mlp", "none", "linear"), positions="learned", attention_residual=False
    ),
    "no residual": config(feed_forward=("linear", "mlp"), feed_forward_residual=False),
    "all trained": config(
        learned_query=True, positions="none", trained=("embeddings", "unembedding")
    ),
}
ALL = pytest.mark.parametrize("name", CONFIGS)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, VOCAB, (2, LENGTH)), jnp.int32)
POSITIONS = jnp.asarray([[1, 5, 5], [0, 3, 4]], jnp.int32)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def drawn(config, seed=0):
    params, frozen = transformer.init(config, jax.random.key(seed))
    return jax.tree.map(lambda x: x.astype(jnp.float64), (params, frozen))


def by_hand(config, weights, tokens):
    """Logits [length, vocab] of one sequence, with loops for every sum over positions."""
    w = jax.tree.map(np.asarray, weights)
    x = np.stack([w["embed"][token] + w["position"][t] for t, token in enumerate(tokens)])
    for index, kind in enumerate(config.feed_forward):
        layer = w["layers"][index]
        h = np.zeros_like(x)
        for t in range(len(tokens)):
            query = x[t] @ layer["q_proj"] if config.learned_query else x[t]
            scores = [query @ (x[s] @ layer["k_proj"]) / math.sqrt(D) for s in range(t + 1)]
            masses = [math.exp(score) for score in scores]
            for s in range(t + 1):
                h[t] += masses[s] / sum(masses) * (x[s] @ layer["v_proj"] @ layer["out_proj"])
            if config.attention_residual:
                h[t] += x[t]
        if kind == "none":
            x = h
            continue
        hidden = h @ layer["fc_in"]
        feed = hidden if kind == "linear" else np.maximum(hidden, 0) @ layer["fc_out"]
        x = h + feed if config.feed_forward_residual else feed
    return x @ w["unembed"]


@ALL
def test_both_forwards_and_their_gradients(name):
    config = CONFIGS[name]
    params, frozen = drawn(config)
    labels = jnp.asarray([[0, 1, 2], [3, 4, 0]])

    def loss(params, chosen):
        log_p = jax.nn.log_softmax(
            chosen(transformer.bind(config, transformer.combine(params, frozen)))
        )
        return -jnp.mean(jnp.take_along_axis(log_p, labels[:, :, None], axis=-1))

    def at(model):
        return model.at(TOKENS, POSITIONS).logits

    def gathered(model):
        return jnp.take_along_axis(model(TOKENS), POSITIONS[:, :, None], axis=1)

    model = transformer.bind(config, transformer.combine(params, frozen))
    expected = [by_hand(config, transformer.combine(params, frozen), row) for row in TOKENS]
    np.testing.assert_allclose(model(TOKENS), np.stack(expected), atol=1e-12)

    both = jax.jit(lambda p: [jax.value_and_grad(loss)(p, f) for f in (at, gathered)])
    (value, gradient), (plain_value, plain_gradient) = both(params)
    np.testing.assert_allclose(value, plain_value, rtol=1e-13)
    for got, expected in zip(
        jax.tree.leaves(gradient), jax.tree.leaves(plain_gradient), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=1e-13)
    moved = [np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient)]
    assert all(moved), "a trained weight has no effect on the loss"


@pytest.mark.parametrize("name", ["published", "three layers"])
def test_single_precision_agrees_to_its_rounding(name):
    with jax.enable_x64(False):
        params, frozen = transformer.init(CONFIGS[name], jax.random.key(1))
        model = transformer.bind(CONFIGS[name], transformer.combine(params, frozen))
        plain = jnp.take_along_axis(model(TOKENS), POSITIONS[:, :, None], axis=1)
        at = model.at(TOKENS, POSITIONS).logits
        scale = float(np.abs(plain).max())
        np.testing.assert_allclose(at, plain, atol=2e-6 * max(scale, 1))


@ALL
def test_future_tokens_do_not_matter(name):
    config = CONFIGS[name]
    model = transformer.bind(config, transformer.combine(*drawn(config)))
    changed = TOKENS.at[:, 4:].set((TOKENS[:, 4:] + 1) % VOCAB)
    before, after = model(TOKENS), model(changed)
    np.testing.assert_allclose(before[:, :4], after[:, :4], atol=1e-13)
    assert np.abs(before[:, 4:] - after[:, 4:]).max() > 1e-5


@ALL
def test_renaming_the_vocabulary_renames_the_logits(name):
    config = CONFIGS[name]
    weights = transformer.combine(*drawn(config))
    order = np.array([3, 0, 4, 1, 2])
    renamed = {**weights, "embed": weights["embed"][order], "unembed": weights["unembed"][:, order]}
    new_name = jnp.asarray(np.argsort(order), jnp.int32)
    logits = transformer.bind(config, weights).at(TOKENS, POSITIONS).logits
    moved = transformer.bind(config, renamed).at(new_name[TOKENS], POSITIONS).logits
    np.testing.assert_allclose(moved, logits[..., order], atol=1e-12)


@pytest.mark.parametrize("name", ["published", "no feed-forward", "one linear layer"])
def test_contributions_sum_to_what_is_unembedded(name):
    config = CONFIGS[name]
    weights = transformer.combine(*drawn(config))
    trace = transformer.bind(config, weights).at(TOKENS, POSITIONS)
    assert len(trace.contributions) == 2 * config.num_layers + 1
    np.testing.assert_allclose(
        sum(trace.contributions) @ weights["unembed"], trace.logits, atol=1e-12
    )
    np.testing.assert_allclose(
        trace.contributions[0],
        (weights["embed"][TOKENS] + weights["position"][None])[np.arange(2)[:, None], POSITIONS],
    )


@ALL
def test_patterns_are_causal_laws_and_halves_make_the_whole(name):
    config = CONFIGS[name]
    model = transformer.bind(config, transformer.combine(*drawn(config)))
    trace = model.at(TOKENS, POSITIONS)
    for layer, pattern in enumerate(trace.patterns):
        last = layer == config.num_layers - 1
        where = np.asarray(POSITIONS) if last else np.tile(np.arange(LENGTH), (2, 1))
        assert pattern.shape == (*where.shape, LENGTH)
        np.testing.assert_allclose(pattern.sum(axis=-1), 1, atol=1e-12)
        assert np.all(np.asarray(pattern)[np.arange(LENGTH) > where[:, :, None]] == 0)
    for layer in range(config.num_layers):
        logits = model.suffix(model.prefix(TOKENS, layer), layer, POSITIONS).logits
        np.testing.assert_allclose(logits, trace.logits, atol=1e-12)


@ALL
def test_hook_sees_every_matrix_and_may_replace_what_it_gives(name):
    config = CONFIGS[name]
    weights = transformer.combine(*drawn(config))
    model = transformer.bind(config, weights)
    config_names = {(i, m) for i in range(config.num_layers) for m in config.names(i)}
    seen = {}

    def watch(layer, matrix, inputs, outputs):
        assert (layer, matrix) not in seen
        seen[layer, matrix] = np.abs(inputs @ weights["layers"][layer][matrix] - outputs).max()
        return outputs

    plain = model(TOKENS, watch)
    assert set(seen) == config_names
    assert max(seen.values()) < 1e-13
    chosen = (config.num_layers - 1, "v_proj")
    silenced = model(TOKENS, lambda i, m, _, out: 0 * out if (i, m) == chosen else out)
    removed = transformer.matrices(config)[chosen].write(weights, jnp.zeros((D, D)))
    np.testing.assert_allclose(silenced, transformer.bind(config, removed)(TOKENS), atol=1e-13)
    assert np.abs(silenced - plain).max() > 1e-3


@ALL
def test_addresses_read_and_write_their_matrix_alone(name):
    config = CONFIGS[name]
    weights = transformer.combine(*drawn(config))
    for (layer, matrix), address in transformer.matrices(config).items():
        block = weights["layers"][layer]
        if matrix == "ov":
            expected = np.asarray(block["v_proj"]) @ np.asarray(block["out_proj"])
            np.testing.assert_allclose(address.read(weights), expected, atol=1e-14)
            with pytest.raises(ValueError, match="not overwritten"):
                address.write(weights, address.read(weights))
            continue
        assert address.read(weights) is block[matrix]
        new = address.write(weights, block[matrix] + 1)
        changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), weights, new)
        assert changed["layers"][layer][matrix]
        assert sum(jax.tree.leaves(changed)) == 1


def test_options_decide_what_is_trained():
    trained, frozen = transformer.init(
        config(frozen=("0.k_proj", "1.fc_out"), trained=("unembedding",), positions="learned"),
        jax.random.key(0),
    )
    assert set(trained) == {"layers", "unembed", "position"}
    assert set(frozen) == {"layers", "embed"}
    assert set(trained["layers"][0]) == {"v_proj", "out_proj", "fc_in", "fc_out"}
    assert set(trained["layers"][1]) == {"k_proj", "v_proj", "out_proj", "fc_in"}
    assert {i: set(x) for i, x in frozen["layers"].items()} == {0: {"k_proj"}, 1: {"fc_out"}}
    whole, _ = transformer.init(config(), jax.random.key(0))
    assert set(whole) == {"layers"}
    # Freezing changes what is trained, not what is drawn.
    np.testing.assert_array_equal(frozen["layers"][0]["k_proj"], whole["layers"][0]["k_proj"])


def test_initial_laws():
    big = config(vocab_size=100, length=90, d_model=64, d_hidden=0)
    params, frozen = jax.tree.map(np.asarray, transformer.init(big, jax.random.key(7)))
    for name in ("embed", "position"):
        assert stats.kstest(frozen[name].ravel(), stats.norm.cdf).pvalue > 1e-3
    uniforms = {"unembed": (frozen["unembed"], 64), "v": (params["layers"][1]["v_proj"], 64)}
    uniforms["in"] = (params["layers"][0]["fc_in"], 64)
    uniforms["out"] = (params["layers"][0]["fc_out"], 256)
    for matrix, fan_in in uniforms.values():
        law = stats.uniform(-1 / math.sqrt(fan_in), 2 / math.sqrt(fan_in))
        assert stats.kstest(matrix.ravel(), law.cdf).pvalue > 1e-3
    assert params["layers"][0]["fc_in"].shape == (64, 256)
    leaves = [leaf.ravel()[:50] for leaf in jax.tree.leaves((params, frozen))]
    correlation = np.corrcoef(np.stack([leaf / leaf.std() for leaf in leaves]))
    assert np.abs(correlation - np.eye(len(leaves))).max() < 0.6, "two weights share a draw"


def test_sinusoidal_positions_have_their_closed_form():
    _, frozen = transformer.init(config(positions="sinusoidal", d_model=5), jax.random.key(0))
    rates = [1, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3)]
    for time in range(LENGTH):
        waves = [math.sin(time * r) for r in rates] + [math.cos(time * r) for r in rates[:2]]
        np.testing.assert_allclose(
            frozen["position"][time], math.sqrt(2) * np.array(waves), atol=1e-6
        )
    _, nothing = transformer.init(config(positions="none"), jax.random.key(0))
    assert not np.any(nothing["position"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 0}, "vocab_size"),
        ({"d_model": 0}, "d_model"),
        ({"d_hidden": -1}, "d_hidden"),
        ({"feed_forward": ()}, "feed_forward"),
        ({"frozen": ("2.k_proj",)}, r"'2.k_proj'.*known are 0.fc_in"),
        ({"frozen": ("0.q_proj",)}, "q_proj"),
        ({"feed_forward": ("linear",), "frozen": ("0.fc_out",)}, "fc_out"),
        ({"trained": ("embedding",)}, "'embedding'.*known are embeddings"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)
