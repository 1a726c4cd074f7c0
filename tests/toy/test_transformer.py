"""The forward against a reading of the formulas in NumPy, one number at a time."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

from truncated_weights.toy import network, transformer
from truncated_weights.toy.layer import unembedding
from truncated_weights.toy.transformer import TransformerConfig

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
    "no ReLU, no W_out": config(feed_forward=("linear_mlp", "relu"), scaled_embeddings=True),
    "two heads": config(num_heads=2, learned_query=True, feed_forward=("mlp", "linear_mlp")),
    "rotary": config(positions="rotary", num_heads=2, identity_value=True, scaled_scores=False),
    "diagonal": config(diagonal_value=0.25),
    "two diagonal heads": config(diagonal_value=2.0, num_heads=2, learned_query=True),
    "one rotary head": config(positions="rotary", learned_query=True),
    "layer norm": config(layer_norm=True, identity_value=True),
    "parallel and tied": config(
        parallel=True, tied_output=True, scaled_logits=True, trained=("embeddings",)
    ),
    "attention alone at the end": config(feed_forward=("mlp", "none"), last_residual=False),
}
ALL = pytest.mark.parametrize("name", CONFIGS)
# Each of the paths through a layer once: compiling costs more than checking.
PATHS = pytest.mark.parametrize(
    "name", ["published", "two heads", "one rotary head", "parallel and tied", "three layers"]
)
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, VOCAB, (2, LENGTH)), jnp.int32)
POSITIONS = jnp.asarray([[1, 5, 5], [0, 3, 4]], jnp.int32)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@functools.cache
def drawn(config):
    params, frozen = transformer.init(config, jax.random.key(0))
    return jax.tree.map(lambda x: x.astype(jnp.float64), (params, frozen))


def by_hand(config, weights, tokens):
    """Logits [length, vocab] of one sequence, with loops for every sum over positions."""
    w = jax.tree.map(np.asarray, weights)
    x = np.stack([w["embed"][token] for token in tokens])
    if config.positions not in ("none", "rotary"):
        x = x + w["position"]
    for index, kind in enumerate(config.feed_forward):
        layer = w["layers"][index]
        attention = attention_by_hand(config, layer, normal(config, x))
        last_alone = index == config.num_layers - 1 and kind == "none" and not config.last_residual
        h = x + attention if config.attention_residual and not last_alone else attention
        if kind == "none":
            x = h
            continue
        feed = normal(config, x if config.parallel else h) @ layer["fc_in"]
        if kind in ("mlp", "relu"):
            feed = np.maximum(feed, 0)
        if kind in ("mlp", "linear_mlp"):
            feed = feed @ layer["fc_out"]
        x = h + feed if config.feed_forward_residual else feed
    unembed = w["embed"].T if config.tied_output else w["unembed"]
    return normal(config, x) @ unembed / (math.sqrt(D) if config.scaled_logits else 1)


def normal(config, x):
    if not config.layer_norm:
        return x
    return np.stack([(row - row.mean()) / math.sqrt(row.var() + 1e-5) for row in x])


def attention_by_hand(config, layer, x):
    size = D // config.num_heads
    found = np.zeros_like(x)
    for head in range(config.num_heads):
        mine = slice(head * size, (head + 1) * size)
        for t in range(len(x)):
            query = (x[t] @ layer["q_proj"] if config.learned_query else x[t])[mine]
            scores = []
            for s in range(t + 1):
                key = (x[s] @ layer["k_proj"])[mine]
                if config.positions == "rotary":
                    # Turning both is turning one by the difference of their positions.
                    key = turned(key, s - t)
                scores.append(query @ key / (math.sqrt(size) if config.scaled_scores else 1))
            masses = [math.exp(score) for score in scores]
            for s in range(t + 1):
                value = x[s] @ layer["v_proj"] if "v_proj" in layer else x[s]
                if config.diagonal_value:
                    value = value / np.arange(1, D + 1) ** config.diagonal_value
                found[t] += masses[s] / sum(masses) * (value[mine] @ layer["out_proj"][mine])
    return found


def turned(x, time):
    """x as complex numbers x_i + j x_{i + d/2}, each times exp(j time 10000^(-2 i / d))."""
    half = len(x) // 2
    pairs = (x[:half] + 1j * x[half:]) * np.exp(1j * time * 10_000.0 ** (-np.arange(half) / half))
    return np.concatenate([pairs.real, pairs.imag])


LABELS = jnp.asarray([[0, 1, 2], [3, 4, 0]])


def cross_entropy(logits):
    log_p = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(log_p, LABELS[:, :, None], axis=-1))


def cross_entropy_by_hand(logits):
    """Of logits [sequence, slot, vocab], without JAX: it is asked three times a model."""
    found = [
        math.log(sum(map(math.exp, row))) - row[label]
        for row, label in zip(logits.reshape(-1, VOCAB), np.ravel(LABELS), strict=True)
    ]
    return sum(found) / len(found)


@ALL
def test_logits_and_gradient_are_those_of_the_formulas(name):
    config = CONFIGS[name]
    params, frozen = drawn(config)

    def plain(params):
        weights = transformer.combine(params, frozen)
        return np.stack([by_hand(config, weights, row) for row in np.asarray(TOKENS)])

    def loss(params):
        weights = transformer.combine(params, frozen)
        return cross_entropy(network.run(config, weights, TOKENS, POSITIONS).logits)

    @jax.jit
    def ours(params):
        weights = transformer.combine(params, frozen)
        everywhere = network.run(config, weights, TOKENS).logits
        return everywhere, *jax.value_and_grad(loss)(params)

    everywhere, value, gradient = ours(params)
    np.testing.assert_allclose(everywhere, plain(params), atol=1e-12)

    def plain_loss(params):
        return cross_entropy_by_hand(plain(params)[np.arange(2)[:, None], POSITIONS])

    np.testing.assert_allclose(value, plain_loss(params), rtol=1e-13)
    assert all(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(gradient)), "a weight is dead"
    # Along one direction, by central differences of the plain reading.
    rng = np.random.default_rng(1)
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params)
    moved = [
        jax.tree.map(lambda x, v, e=e: np.asarray(x) + e * v, params, direction)
        for e in (1e-5, -1e-5)
    ]
    slope = (plain_loss(moved[0]) - plain_loss(moved[1])) / 2e-5
    products = jax.tree.map(lambda g, v: float(np.sum(np.asarray(g) * v)), gradient, direction)
    assert sum(jax.tree.leaves(products)) == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_a_flax_module_runs_by_itself():
    options = CONFIGS["published"]
    model = transformer.Transformer(options, nnx.Rngs(0))
    expected = by_hand(options, nnx.to_pure_dict(nnx.state(model)), np.asarray(TOKENS[0]))
    np.testing.assert_allclose(model(TOKENS)[0], expected, atol=1e-12)


@pytest.mark.parametrize("name", ["published", "three layers", "two heads"])
def test_single_precision_agrees_to_its_rounding(name):
    expected = np.stack(
        [
            by_hand(CONFIGS[name], transformer.combine(*drawn(CONFIGS[name])), row)
            for row in np.asarray(TOKENS)
        ]
    )[np.arange(2)[:, None], POSITIONS]
    weights = jax.tree.map(
        lambda x: x.astype(jnp.float32), transformer.combine(*drawn(CONFIGS[name]))
    )
    with jax.enable_x64(False):
        got = network.run(CONFIGS[name], weights, TOKENS, POSITIONS).logits
    np.testing.assert_allclose(got, expected, atol=4e-6 * max(float(np.abs(expected).max()), 1))


@PATHS
def test_future_tokens_do_not_matter(name):
    config = CONFIGS[name]
    weights = transformer.combine(*drawn(config))
    changed = TOKENS.at[:, 4:].set((TOKENS[:, 4:] + 1) % VOCAB)
    before, after = (network.run(config, weights, tokens).logits for tokens in (TOKENS, changed))
    np.testing.assert_allclose(before[:, :4], after[:, :4], atol=1e-13)
    assert np.abs(before[:, 4:] - after[:, 4:]).max() > 1e-5


@PATHS
def test_renaming_the_vocabulary_renames_the_logits(name):
    config = CONFIGS[name]
    weights = transformer.combine(*drawn(config))
    order = np.array([3, 0, 4, 1, 2])
    renamed = {**weights, "embed": weights["embed"][order]}
    if not config.tied_output:
        renamed["unembed"] = weights["unembed"][:, order]
    new_name = jnp.asarray(np.argsort(order), jnp.int32)
    logits = network.run(config, weights, TOKENS, POSITIONS).logits
    moved = network.run(config, renamed, new_name[TOKENS], POSITIONS).logits
    np.testing.assert_allclose(moved, logits[..., order], atol=1e-12)


@pytest.mark.parametrize("name", ["published", "one linear layer", "parallel and tied"])
def test_contributions_sum_to_what_is_unembedded(name):
    config = CONFIGS[name]
    weights = transformer.combine(*drawn(config))
    trace = network.run(config, weights, TOKENS, POSITIONS)
    assert len(trace.contributions) == 2 * config.num_layers + 1
    np.testing.assert_allclose(
        sum(trace.contributions) @ unembedding(config, weights), trace.logits, atol=1e-12
    )
    np.testing.assert_allclose(
        trace.contributions[0],
        (weights["embed"][TOKENS] + weights["position"][None])[np.arange(2)[:, None], POSITIONS],
    )


@PATHS
def test_patterns_are_causal_laws_and_halves_make_the_whole(name):
    config = CONFIGS[name]
    weights = transformer.combine(*drawn(config))
    trace = network.run(config, weights, TOKENS, POSITIONS)
    for layer, pattern in enumerate(trace.patterns):
        last = layer == config.num_layers - 1
        where = np.asarray(POSITIONS) if last else np.tile(np.arange(LENGTH), (2, 1))
        assert pattern.shape == (*where.shape, LENGTH)
        np.testing.assert_allclose(pattern.sum(axis=-1), 1, atol=1e-12)
        assert np.all(np.asarray(pattern)[np.arange(LENGTH) > where[:, :, None]] == 0)
    for layer in range(config.num_layers):
        x = network.prefix(config, weights, TOKENS, layer)
        logits = network.suffix(config, weights, x, layer, POSITIONS).logits
        np.testing.assert_allclose(logits, trace.logits, atol=1e-12)


@PATHS
def test_hooks_see_every_matrix_once_and_may_replace_what_it_gives(name):
    config = CONFIGS[name]
    weights = transformer.combine(*drawn(config))
    names = [(i, m) for i in range(config.num_layers) for m in config.names(i)]
    seen = {}

    def watch(key):
        def hook(inputs, apply):
            assert key not in seen
            outputs = apply(inputs)
            plain = inputs @ weights["layers"][key[0]][key[1]]
            seen[key] = np.abs(plain - outputs).max()
            return outputs

        return hook

    # Watched, every matrix is applied by itself; the logits stay what they are when folded.
    folded = network.run(config, weights, TOKENS, POSITIONS).logits
    hooks = {key: watch(key) for key in names}
    watched = network.run(config, weights, TOKENS, POSITIONS, hooks).logits
    np.testing.assert_allclose(watched, folded, atol=1e-12)
    assert set(seen) == set(names)
    assert max(seen.values()) < 1e-13
    for key in names:
        silenced = network.run(
            config, weights, TOKENS, POSITIONS, {key: lambda inputs, apply: 0 * apply(inputs)}
        ).logits
        address = transformer.matrices(config)[key]
        removed = address.write(weights, 0 * address.read(weights))
        expected = network.run(config, removed, TOKENS, POSITIONS).logits
        np.testing.assert_allclose(silenced, expected, atol=1e-12)
        assert np.abs(silenced - folded).max() > 1e-7


@PATHS
def test_stops_in_front_of_every_matrix_and_goes_on(name):
    config = CONFIGS[name]
    weights = transformer.combine(*drawn(config))
    expected = network.run(config, weights, TOKENS, POSITIONS).logits
    for key, address in transformer.matrices(config).items():
        x = network.prefix(config, weights, TOKENS, key[0])
        inputs, rest = network.stop(config, weights, key, x, POSITIONS)
        outputs = inputs @ address.read(weights)
        got = network.resume(config, weights, key, outputs, rest, POSITIONS)
        np.testing.assert_allclose(got, expected, atol=1e-12, err_msg=str(key))
        # A bias of its own is added to what the matrix gives.
        if key[1] in ("v_proj", "out_proj", "fc_in", "fc_out"):
            biased = address.add_bias(weights, jnp.full(outputs.shape[-1], 0.3))
            got = network.resume(config, biased, key, outputs, rest, POSITIONS)
            whole = network.run(config, biased, TOKENS, POSITIONS).logits
            np.testing.assert_allclose(got, whole, atol=1e-12, err_msg=str(key))


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
        ({"identity_value": True, "diagonal_value": 1.0}, "exclude each other"),
        ({"diagonal_value": -1.0}, "diagonal_value is -1.0"),
        ({"num_heads": 3}, "num_heads is 3, it must divide d_model = 4"),
        ({"num_heads": 4, "positions": "rotary"}, "rotary positions need an even"),
        ({"parallel": True, "attention_residual": False}, "keep both residuals"),
        ({"tied_output": True, "trained": ("unembedding",)}, "no unembedding of its own"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_weights_of_another_configuration_are_refused():
    """A table of fewer tokens would be clamped into without a word."""
    params, frozen = transformer.init(CONFIGS["published"], jax.random.key(0))
    weights = transformer.combine(params, frozen)
    tokens = jnp.zeros((1, LENGTH), int)
    with pytest.raises(AssertionError, match="shape"):
        network.run(config(vocab_size=VOCAB + 1), weights, tokens)
    # Without a batch the annotation refuses them, or, where nobody checks it, the forward itself.
    with pytest.raises((AssertionError, TypeError), match=r"rank|type-?checking"):
        network.run(CONFIGS["published"], weights, tokens[0])
