"""Every family's directories: written back to the bit, in every format, and refused by name."""

import dataclasses
import json
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.bridge import make
from tests.bridge.families.test_goldens import CASES, ROOT, checkpoint, error, golden
from truncated_weights import bridge
from truncated_weights.bridge import export, sharding
from truncated_weights.bridge import network as model


def tensors(case):
    return safetensors.numpy.load_file(ROOT / case / "model.safetensors")


def directory(tmp_path, case, arrays):
    """A copy of a case with these tensors."""
    tmp_path.mkdir(exist_ok=True)
    shutil.copyfile(ROOT / case / "config.json", tmp_path / "config.json")
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    safetensors.numpy.save_file(arrays, tmp_path / "model.safetensors")
    return tmp_path


@pytest.mark.parametrize("case", CASES)
def test_an_export_holds_the_very_tensors_that_were_read(case, tmp_path):
    saved = export.save(checkpoint(case), tmp_path / "saved")
    written = safetensors.numpy.load_file(saved / "model.safetensors")
    assert list(written) != []
    assert written.keys() == tensors(case).keys()
    for name, array in tensors(case).items():
        np.testing.assert_array_equal(written[name], array)
    again = bridge.load(saved)
    assert again.config == checkpoint(case).config
    chex.assert_trees_all_equal(again.params, checkpoint(case).params)


@pytest.mark.parametrize("case", ["gptj", "gpt2", "phi3", "llama3"])
def test_a_fresh_config_and_a_smaller_dtype(case, tmp_path):
    """Without the original directory config.json is written anew."""
    found = checkpoint(case)
    bare = bridge.Checkpoint(found.config, found.params)
    again = bridge.load(export.save(bare, tmp_path / "saved", dtype="bfloat16"))
    assert (again.config, again.stored_dtype) == (found.config, "bfloat16")
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), found.params)
    chex.assert_trees_all_equal(again.params, rounded)


@pytest.mark.parametrize("case", CASES)
def test_factors_are_stored_apart_and_read_back(case, tmp_path):
    found = checkpoint(case)
    layers = [dict(layer) for layer in found.params["layers"]]
    rng = np.random.default_rng(0)
    for matrix in ("k_proj", "fc_in", "out_proj"):
        d_in, d_out = found.config.matrix_shape(matrix)
        rest = {name: leaf for name, leaf in layers[1][matrix].items() if name == "bias"}
        layers[1][matrix] = {
            "kernel_in": jnp.asarray(rng.normal(size=(d_in, 3)), jnp.float32),
            "kernel_out": jnp.asarray(rng.normal(size=(3, d_out)), jnp.float32),
            **rest,
        }
    thin = bridge.Checkpoint(found.config, {**found.params, "layers": layers})
    kept = bridge.load(export.save(thin, tmp_path / "kept", factored=True, dtype="float32"))
    chex.assert_trees_all_equal(kept.params, thin.params)
    dense = bridge.load(export.save(thin, tmp_path / "dense", dtype="float32"))
    assert jax.tree.structure(dense.params) == jax.tree.structure(found.params)
    tokens = golden(case)["none_tokens"]
    one, other = (bridge.logits(c, tokens) for c in (kept, dense))
    # Two orders of the same sums of large numbers: their rounding, and what XLA makes of it.
    assert error(one, other, np.ones(tokens.shape, bool)) < 3e-5


@pytest.mark.parametrize("case", ["gptj", "gpt2", "mistral", "phi3", "roberta"])
def test_bin_files_and_shards(case, tmp_path):
    arrays = tensors(case)
    shutil.copyfile(ROOT / case / "config.json", tmp_path / "config.json")
    names = list(arrays)
    halves = (names[::2], names[1::2])
    index = {"weight_map": {}}
    for number, half in enumerate(halves):
        file = f"pytorch_model-{number:05}-of-00002.bin"
        make.write_torch_zip(tmp_path / file, {name: arrays[name] for name in half})
        index["weight_map"] |= dict.fromkeys(half, file)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    chex.assert_trees_all_equal(bridge.load(tmp_path).params, checkpoint(case).params)


BUFFERS = {
    "gpt2": {
        "h.0.attn.bias": np.ones((1, 1, 8, 8), bool),
        "transformer.h.1.attn.masked_bias": np.float32(-1e4).reshape(1),
    },
    "gptj": {
        "transformer.h.0.attn.bias": np.ones((1, 1, 8, 8), np.uint8),
        "transformer.h.1.attn.masked_bias": np.float32(-1e9).reshape(1),
    },
    "llama2": {"model.layers.1.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)},
    "roberta": {
        "roberta.embeddings.position_ids": np.arange(34)[None],
        "roberta.pooler.dense.weight": np.ones((32, 32), np.float32),
        "roberta.pooler.dense.bias": np.ones(32, np.float32),
    },
}


@pytest.mark.parametrize("case", BUFFERS)
def test_buffers_are_skipped_and_other_names_refused(case, tmp_path):
    found = bridge.load(directory(tmp_path, case, tensors(case) | BUFFERS[case]))
    chex.assert_trees_all_equal(found.params, checkpoint(case).params)
    wrong = tensors(case) | {"score.weight": np.ones((2, 32), np.float32)}
    with pytest.raises(bridge.CheckpointError, match=r"unexpected: score\.weight"):
        bridge.load(directory(tmp_path, case, wrong))


@pytest.mark.parametrize("case", CASES)
def test_every_tensor_that_is_missing_or_misshapen_is_named(case, tmp_path):
    arrays = tensors(case)
    lost, bent = list(arrays)[3], list(arrays)[-1]
    del arrays[lost]
    arrays[bent] = np.zeros((3, 5), np.float32)
    with pytest.raises(bridge.CheckpointError) as caught:
        bridge.load(directory(tmp_path, case, arrays))
    assert f"missing: {lost}" in str(caught.value)
    assert f"misshapen: {bent} is (3, 5)" in str(caught.value)


@pytest.mark.parametrize("case", ["gpt2", "gptj", "llama2", "roberta"])
def test_the_prefix_of_the_base_model_may_be_missing(case, tmp_path):
    prefix = bridge.families.of(checkpoint(case).config).prefix
    bare = {name.removeprefix(prefix): array for name, array in tensors(case).items()}
    assert bare.keys() != tensors(case).keys()
    chex.assert_trees_all_equal(
        bridge.load(directory(tmp_path, case, bare)).params, checkpoint(case).params
    )
    name = next(name for name in tensors(case) if name.startswith(prefix))
    twice = tensors(case) | {name.removeprefix(prefix): tensors(case)[name]}
    with pytest.raises(bridge.CheckpointError, match="there under two names"):
        bridge.load(directory(tmp_path, case, twice))


HEADS = {
    "gpt2": {"lm_head.weight": "transformer.wte.weight"},
    "llama3_tied": {"lm_head.weight": "model.embed_tokens.weight"},
    "roberta": {
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
}


@pytest.mark.parametrize("case", HEADS)
def test_a_tied_head_may_be_stored_and_must_then_be_equal(case, tmp_path):
    arrays = tensors(case)
    copies = {name: arrays[original].copy() for name, original in HEADS[case].items()}
    chex.assert_trees_all_equal(
        bridge.load(directory(tmp_path, case, arrays | copies)).params, checkpoint(case).params
    )
    for name in copies:
        wrong = {**copies, name: copies[name] + 1}
        with pytest.raises(bridge.CheckpointError, match=f"is true, but {name} differs"):
            bridge.load(directory(tmp_path, case, arrays | wrong))


@pytest.mark.parametrize("file", ["consolidated.00.pth", "consolidated.safetensors"])
def test_the_publishers_own_layout_is_refused_by_name(file, tmp_path):
    shutil.copyfile(ROOT / "llama2" / "config.json", tmp_path / "config.json")
    (tmp_path / file).write_bytes(b"x")
    with pytest.raises(bridge.CheckpointError, match=f"{file} .*publisher's own layout"):
        bridge.load(tmp_path)


@pytest.mark.parametrize("case", ["gptj", "gpt2", "llama3", "phi3", "roberta"])
def test_sharded_over_two_devices(case, tmp_path):
    """61 rows of the vocabulary do not divide, so the mesh gets a model of 62."""
    found = checkpoint(case)
    config = dataclasses.replace(found.config, vocab_size=62)
    params = bridge.init_params(config, key=jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.1, params)
    whole = bridge.Checkpoint(config, params)
    saved = export.save(whole, tmp_path / "saved")
    mesh = sharding.make_mesh(model=2)
    parts = bridge.load(saved, shardings=sharding.param_shardings(config, mesh))
    kernel = parts.params["layers"][0]["k_proj"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (32, kernel.shape[1] // 2)
    tokens = jax.device_put(golden(case)["none_tokens"], sharding.batch_sharding(mesh))
    logits = model.forward(parts.params, config, tokens)
    expected = bridge.logits(whole, golden(case)["none_tokens"])
    assert error(logits, expected, np.ones(tokens.shape, bool)) < 1e-5


def test_uneven_groups_are_refused_by_name():
    config = dataclasses.replace(checkpoint("llama3").config, vocab_size=64, num_heads=8)
    with pytest.raises(ValueError, match="num_groups 2 cannot be split evenly over 4 devices"):
        sharding.check(config, sharding.make_mesh(model=4))
