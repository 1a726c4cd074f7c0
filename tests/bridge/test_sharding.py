"""One model over eight virtual devices computes what it computes on one."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.bridge import make
from truncated_weights import bridge
from truncated_weights.bridge import export, sharding
from truncated_weights.bridge import network as model

CONFIG = bridge.Config(
    vocab_size=64, num_layers=2, d_model=32, num_heads=8, d_ff=48, rotary_fraction=0.5
)
TOKENS = np.random.default_rng(0).integers(0, 64, (4, 7))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    params = jax.tree.map(lambda x: x * 0.4, make.random_params(CONFIG))
    directory = tmp_path_factory.mktemp("model") / "saved"
    export.save(bridge.Checkpoint(CONFIG, params), directory, dtype="float32")
    return directory


@pytest.mark.parametrize(("model_parts", "data"), [(8, 1), (2, 4), (4, 2), (1, 8)])
def test_sharded_loading_and_logits(saved, model_parts, data):
    whole = bridge.load(saved)
    mesh = sharding.make_mesh(model=model_parts, data=data if data <= len(TOKENS) else 4)
    shardings = sharding.param_shardings(CONFIG, mesh)
    parts = bridge.load(saved, shardings=shardings)
    assert jax.tree.structure(parts.params) == jax.tree.structure(whole.params)
    tokens = jax.device_put(jnp.asarray(TOKENS), sharding.batch_sharding(mesh))
    logits = model.forward(parts.params, CONFIG, tokens)
    expected = bridge.logits(whole, TOKENS)
    assert len(logits.sharding.device_set) == mesh.size
    np.testing.assert_allclose(
        logits, expected, rtol=0, atol=1e-5 * float(jnp.max(jnp.abs(expected)))
    )


def test_each_device_holds_its_share(saved):
    mesh = sharding.make_mesh(model=8)
    params = bridge.load(saved, shardings=sharding.param_shardings(CONFIG, mesh)).params
    layer = params["layers"][1]
    for matrix, shape in (
        ("q_proj", (32, 4)),
        ("v_proj", (32, 4)),
        ("out_proj", (4, 32)),
        ("fc_in", (32, 6)),
        ("fc_out", (6, 32)),
    ):
        assert layer[matrix]["kernel"].addressable_shards[0].data.shape == shape
    assert layer["fc_in"]["bias"].addressable_shards[3].data.shape == (6,)
    assert layer["fc_out"]["bias"].addressable_shards[3].data.shape == (32,)
    assert params["embed_in"]["embedding"].addressable_shards[0].data.shape == (8, 32)
    assert params["embed_out"]["kernel"].addressable_shards[0].data.shape == (32, 8)
    per_device = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(params))
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    assert per_device < whole / 6


def test_only_two_sums_per_layer_cross_devices(saved):
    """The layout's point: one all-reduce after out_proj and one after fc_out, or one for both."""
    mesh = sharding.make_mesh(model=8)
    params = bridge.load(saved, shardings=sharding.param_shardings(CONFIG, mesh)).params
    x = jax.device_put(jnp.zeros((4, 7, 32)), sharding.batch_sharding(mesh))
    context = model.context_of(jnp.ones((4, 7), bool))
    lowered = jax.jit(model.layer, static_argnums=1).lower(params["layers"][0], CONFIG, x, context)
    text = lowered.compile().as_text()
    pattern = r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)[a-z-]*\("
    collectives = re.findall(pattern, text)
    assert 1 <= len(collectives) <= 2
    assert set(collectives) == {"all-reduce"}


def test_uneven_heads_are_refused_clearly():
    mesh = sharding.make_mesh(model=8)
    config = bridge.config_for_size("160m")
    with pytest.raises(ValueError, match=r"num_heads 12 cannot be split evenly over 8 devices; u"):
        sharding.param_shardings(config, mesh)
    with pytest.raises(ValueError, match="use 1 or 2 or 3 or 4 or 6"):
        sharding.param_shardings(config, mesh)
    sharding.param_shardings(config, sharding.make_mesh(model=4))


@pytest.mark.parametrize("size", bridge.SIZES)
def test_every_size_fits_four_devices(size):
    sharding.check(bridge.config_for_size(size), sharding.make_mesh(model=4))


def test_bad_meshes():
    with pytest.raises(ValueError, match="model 9 x data 1 devices asked for, 8 there"):
        sharding.make_mesh(model=9)
    with pytest.raises(ValueError, match="model 0 and data 1 must be at least 1"):
        sharding.make_mesh(model=0)
    other = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    with pytest.raises(ValueError, match="none of them 'model'"):
        sharding.check(make.CONFIG, other)
