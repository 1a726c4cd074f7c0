"""The pieces of the model against the whole, and against plain NumPy."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.bridge.make import matrix_inputs
from truncated_weights import bridge
from truncated_weights.bridge import module
from truncated_weights.bridge import network as model
from truncated_weights.bridge.network import whole

CONFIG = bridge.Config(
    vocab_size=53, num_layers=3, d_model=24, num_heads=3, d_ff=40, rotary_fraction=0.5
)
RNG = np.random.default_rng(0)
TOKENS = jnp.asarray(RNG.integers(0, 53, (4, 10)))
SEQUENTIAL = dataclasses.replace(CONFIG, residual="pre")


@pytest.fixture(scope="module")
def params():
    """Random everywhere, biases and norms too, so that no part can hide."""
    shapes = module.shapes(CONFIG)
    return jax.tree.map(lambda s: jnp.asarray(RNG.normal(0, 0.4, s.shape), s.dtype), shapes)


def close(actual, expected, tolerance=2e-6):
    scale = np.max(np.abs(expected))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def reference(params, config, tokens):
    """One sequence in float64, token by token and head by head."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    erf = np.vectorize(__import__("math").erf)

    def norm(w, x):
        return (x - x.mean()) / np.sqrt(x.var() + config.norm_eps) * w["scale"] + w["bias"]

    def linear(w, x):
        return x @ w["kernel"] + w["bias"]

    def rotate(x, position):
        half = config.rotary_dim // 2
        out = x.copy()
        for i in range(half):
            angle = position * config.rotary_base ** (-2 * i / config.rotary_dim)
            turn = np.exp(1j * angle) * (x[i] + 1j * x[i + half])
            out[i], out[i + half] = turn.real, turn.imag
        return out

    stream = [p["embed_in"]["embedding"][token] for token in tokens]
    for w in p["layers"]:
        normed = [norm(w["attn_norm"], x) for x in stream]
        size = config.head_dim
        q, k, v = ([linear(w[n], x) for x in normed] for n in ("q_proj", "k_proj", "v_proj"))
        new = []
        for t, x in enumerate(stream):
            mixed = []
            for h in range(config.num_heads):
                part = slice(h * size, (h + 1) * size)
                query = rotate(q[t][part], t)
                scores = [query @ rotate(k[s][part], s) / np.sqrt(size) for s in range(t + 1)]
                weights = np.exp(scores - np.max(scores))
                weights /= weights.sum()
                mixed.append(sum(a * v[s][part] for s, a in enumerate(weights)))
            attended = linear(w["out_proj"], np.concatenate(mixed))
            read = x if config.residual == "parallel" else x + attended
            hidden = linear(w["fc_in"], norm(w["mlp_norm"], read))
            hidden = 0.5 * hidden * (1 + erf(hidden / np.sqrt(2)))
            new.append(x + attended + linear(w["fc_out"], hidden))
        stream = new
    out = p["embed_out"]["kernel"] if "embed_out" in p else p["embed_in"]["embedding"].T
    return np.stack([norm(p["final_norm"], x) @ out for x in stream])


@pytest.mark.parametrize("config", [CONFIG, SEQUENTIAL], ids=["parallel", "sequential"])
def test_forward_equals_plain_numpy(params, config):
    logits = model.forward(params, config, TOKENS)
    for row, tokens in enumerate(np.asarray(TOKENS)[:2]):
        close(logits[row], reference(params, config, tokens))


def test_tied_embeddings_equal_plain_numpy(params):
    config = dataclasses.replace(CONFIG, tied_embeddings=True)
    assert "embed_out" not in module.shapes(config)
    tied = {name: value for name, value in params.items() if name != "embed_out"}
    logits = model.forward(tied, config, TOKENS)
    close(logits[0], reference(tied, config, np.asarray(TOKENS)[0]))


def test_the_future_is_not_seen(params):
    changed = TOKENS.at[:, 6:].set((TOKENS[:, 6:] + 1) % 53)
    before, after = (model.forward(params, CONFIG, tokens) for tokens in (TOKENS, changed))
    np.testing.assert_array_equal(before[:, :6], after[:, :6])
    assert np.all(np.any(np.asarray(before != after)[:, 6:], axis=-1))


@pytest.mark.parametrize("config", [CONFIG, SEQUENTIAL], ids=["parallel", "sequential"])
def test_logits_only_where_asked(params, config):
    at = jnp.asarray([[9, 0], [3, 4], [8, 8], [5, 1]])
    some = model.forward(params, config, TOKENS, at=at)
    everywhere = model.forward(params, config, TOKENS)
    close(some, model.gather(everywhere, at))


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_any_prefix_may_be_kept(params, cut):
    context = model.context_of(jnp.ones(TOKENS.shape, bool))
    streams = model.residual_streams(params, CONFIG, TOKENS)
    assert len(streams) == CONFIG.num_layers + 1
    end = model.run_layers(params, CONFIG, streams[cut], context, start=cut)
    np.testing.assert_array_equal(end, streams[-1])
    at = jnp.asarray([[9], [8], [7], [6]])
    last = model.run_layers(params, CONFIG, streams[cut], context, start=cut, at=at)
    close(last, model.gather(streams[-1], at))


@pytest.mark.parametrize(
    ("windows", "programs"),
    [((), [4, 2]), ((0, 3, 3, 0, 0, 0, 0), [2, 4])],
    ids=["alike", "windows"],
)
def test_layers_of_one_program_are_layers_one_after_another(params, windows, programs, monkeypatch):
    """Two, four or eight to a program; where windows differ no layer joins its neighbour."""
    config = dataclasses.replace(CONFIG, num_layers=7, windows=windows)
    deep = params | {"layers": [params["layers"][index % 3] for index in range(7)]}
    context = model.context_of(jnp.ones(TOKENS.shape, bool))
    streams = model.residual_streams(deep, config, TOKENS)
    one_by_one = model.run_layers_fused(deep, config, streams[0], context, 0, 7)
    np.testing.assert_array_equal(one_by_one, streams[7])
    ran, run = [], whole._run
    monkeypatch.setattr(whole, "_run", lambda *args: ran.append(len(args[0])) or run(*args))
    monkeypatch.setattr(whole, "_GIVEN_BACK", 0)
    close(model.run_layers_fused(deep, config, streams[0], context, 0, 7), streams[7])
    assert ran == programs
    close(model.run_layers_fused(deep, config, streams[2], context, 2, 6), streams[6])
    assert model.run_layers_fused(deep, config, streams[3], context, 3, 3) is streams[3]


@pytest.mark.parametrize("config", [CONFIG, SEQUENTIAL], ids=["parallel", "sequential"])
def test_attention_may_be_kept_when_the_feed_forward_changes(params, config):
    context = model.context_of(jnp.ones(TOKENS.shape, bool))
    first = params["layers"][0]
    x = model.residual_streams(params, config, TOKENS)[0]
    attended = model.attention(first, config, x, context)
    edited = {**first, "fc_in": params["layers"][1]["fc_in"]}
    close(
        model.after_attention(edited, config, x, attended), model.layer(edited, config, x, context)
    )


@pytest.mark.parametrize("config", [CONFIG, SEQUENTIAL], ids=["parallel", "sequential"])
def test_matrix_inputs_are_what_the_matrices_read(params, config):
    """The gradient of the loss is input^T (gradient at the output), for every matrix.

    The gradient at the output comes from a bias that has one row per position.
    """
    context = model.context_of(jnp.ones(TOKENS.shape, bool))
    x = model.residual_streams(params, config, TOKENS)[0]
    first = params["layers"][0]
    inputs = matrix_inputs(first, config, x, context)
    names = ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out")
    assert set(inputs) == set(names)

    def loss(kernels, biases):
        layer = first | {n: {"kernel": kernels[n], "bias": biases[n]} for n in names}
        return jnp.sum(jnp.sin(model.layer(layer, config, x, context)))

    kernels = {n: first[n]["kernel"] for n in names}
    biases = {
        n: jnp.broadcast_to(first[n]["bias"], (*TOKENS.shape, *first[n]["bias"].shape))
        for n in names
    }
    by_kernel, by_output = jax.grad(loss, argnums=(0, 1))(kernels, biases)
    for name in names:
        expected = jnp.einsum("bli,blo->io", inputs[name], by_output[name], precision="highest")
        close(by_kernel[name], expected, 1e-5)


def test_factors_act_as_their_product(params):
    factors = {
        "kernel_in": jnp.asarray(RNG.normal(size=(24, 5)), jnp.float32),
        "kernel_out": jnp.asarray(RNG.normal(size=(5, 40)), jnp.float32),
        "bias": params["layers"][1]["fc_in"]["bias"],
    }
    product = {
        "kernel": jnp.matmul(factors["kernel_in"], factors["kernel_out"], precision="highest"),
        "bias": factors["bias"],
    }
    results = []
    for fc_in in (factors, product):
        layers = list(params["layers"])
        layers[1] = {**layers[1], "fc_in": fc_in}
        results.append(model.forward({**params, "layers": layers}, CONFIG, TOKENS))
    close(*results)


def test_one_compilation_serves_all_layers(params, monkeypatch):
    # The network's own function, counted by chex: a second trace fails.
    chex.clear_trace_counter()
    counted = chex.assert_max_traces(model.layer.__wrapped__, n=1)
    once = jax.jit(counted, static_argnames="config")
    monkeypatch.setattr(model, "layer", once)
    model.residual_streams(params, CONFIG, TOKENS[:, :7])


def test_module_is_the_functions_and_the_initialisation_is_published():
    config = bridge.Config(vocab_size=400, num_layers=4, d_model=128, num_heads=4, d_ff=512)
    key = jax.random.key(3)
    params = bridge.init_params(config, key=key)
    small, wang = np.sqrt(2 / (5 * 128)), 2 / (4 * np.sqrt(128))
    for layer in params["layers"]:
        for name in ("q_proj", "k_proj", "v_proj", "fc_in", "out_proj", "fc_out"):
            std = wang if name in ("out_proj", "fc_out") else small
            kernel = np.asarray(layer[name]["kernel"])
            # The standard deviation of a sample one, with n numbers, is 1 / sqrt(2 n).
            assert abs(kernel.std() / std - 1) < 5 / np.sqrt(2 * kernel.size)
            assert not np.any(layer[name]["bias"])
    for table in (params["embed_in"]["embedding"], params["embed_out"]["kernel"]):
        assert abs(np.std(table) / small - 1) < 5 / np.sqrt(2 * table.size)
    kernels = [np.asarray(leaf) for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    assert len({kernel.ravel()[0] for kernel in kernels}) == len(kernels)
    again = bridge.init_params(config, key=key)
    chex.assert_trees_all_equal(params, again)
    tokens = jnp.asarray(RNG.integers(0, 400, (2, 5)))
    nnx_module = module.LanguageModel(config, rngs=module.nnx.Rngs(params=key))
    close(nnx_module(tokens), model.forward(params, config, tokens))


def test_gradients_and_jit_of_the_whole(params):
    def loss(params, dtype):
        logits = model.forward(params, CONFIG, TOKENS, dtype=dtype)
        assert logits.dtype == jnp.float32
        logs = jax.nn.log_softmax(logits[:, :-1])
        return -jnp.mean(jnp.take_along_axis(logs, TOKENS[:, 1:, None], axis=2))

    value, gradient = jax.jit(jax.value_and_grad(loss), static_argnames="dtype")(params, None)
    step = 1e-3
    direction = jax.tree.map(lambda g: g / 10, gradient)
    ahead, behind = (
        loss(jax.tree.map(lambda p, d, s=s: p + s * d, params, direction), None)
        for s in (step, -step)
    )
    slope = sum(
        float(jnp.vdot(g, d))
        for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    )
    assert float(ahead - behind) / (2 * step) == pytest.approx(slope, rel=0.05)
    half = jax.jit(loss, static_argnames="dtype")(params, "bfloat16")
    assert float(half) == pytest.approx(float(value), rel=0.05)


def test_bad_tokens_are_refused(params):
    checkpoint = bridge.Checkpoint(CONFIG, params)
    with pytest.raises(ValueError, match="tokens run from 0 to 53; expected 0 to 52"):
        bridge.logits(checkpoint, np.asarray([[0, 53]]))
    with pytest.raises(ValueError, match="length 2049 exceeds the 2048 positions"):
        bridge.logits(checkpoint, np.zeros((1, 2049), np.int32))
