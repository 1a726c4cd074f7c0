"""Directories of every kind, and the complaints about those that are not whole."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tests.bridge import make
from truncated_weights import bridge
from truncated_weights.bridge.formats import stored as stored_files


@pytest.fixture(scope="module")
def params():
    return make.random_params()


@pytest.fixture(scope="module")
def arrays(params):
    return make.stored(params)


@pytest.fixture
def directory(tmp_path):
    return make.write_config(tmp_path / "model")


def equal(tree, other):
    chex.assert_trees_all_equal_shapes_and_dtypes(tree, other)
    chex.assert_trees_all_equal(tree, other)


def shard(directory, arrays, suffix, write):
    halves = [dict(list(arrays.items())[:13]), dict(list(arrays.items())[13:])]
    names = [f"part-{i}-of-2{suffix}" for i in (1, 2)]
    for name, half in zip(names, halves, strict=True):
        write(directory / name, half)
    weight_map = {t: n for n, half in zip(names, halves, strict=True) for t in half}
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    index = directory / f"{stem}{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def save_safetensors(path, arrays):
    safetensors.numpy.save_file(arrays, path)


FORMATS = {
    "safetensors": lambda d, a: save_safetensors(d / "model.safetensors", a),
    "safetensors shards": lambda d, a: shard(d, a, ".safetensors", save_safetensors),
    "zip": lambda d, a: make.write_torch_zip(d / "pytorch_model.bin", a),
    "zip shards": lambda d, a: shard(d, a, ".bin", make.write_torch_zip),
    "legacy": lambda d, a: make.write_torch_legacy(d / "pytorch_model.bin", a),
    "legacy shards": lambda d, a: shard(d, a, ".bin", make.write_torch_legacy),
    "npz": lambda d, a: np.savez(d / "model.npz", **a),
    "npz compressed": lambda d, a: np.savez_compressed(d / "model.npz", **a),
    "npz of any name": lambda d, a: np.savez(d / "mine.npz", **a),
    "npz in Fortran order": lambda d, a: np.savez(
        d / "model.npz", **{name: np.asfortranarray(array) for name, array in a.items()}
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_parameters(directory, params, arrays, name):
    FORMATS[name](directory, arrays)
    checkpoint = bridge.load(directory)
    assert checkpoint.config == make.CONFIG
    assert checkpoint.stored_dtype == "float32"
    equal(checkpoint.params, params)


@pytest.mark.parametrize("name", ["safetensors", "zip", "npz", "npz compressed"])
def test_blocks_of_any_size_give_the_same(directory, params, arrays, name, monkeypatch):
    FORMATS[name](directory, arrays)
    for size in (1, 100, 397):
        monkeypatch.setattr(stored_files, "BLOCK_BYTES", size)
        equal(bridge.load(directory).params, params)


@pytest.mark.parametrize("stored", [np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("target", ["float32", "bfloat16", "float16"])
def test_casts_on_the_way(directory, params, arrays, stored, target):
    save_safetensors(
        directory / "model.safetensors", {k: v.astype(stored) for k, v in arrays.items()}
    )
    checkpoint = bridge.load(directory, dtype=target)
    assert checkpoint.stored_dtype == np.dtype(stored).name
    expected = jax.tree.map(
        lambda leaf: jnp.asarray(np.asarray(leaf).astype(stored).astype(target)), params
    )
    equal(checkpoint.params, expected)


def test_a_value_too_large_for_the_target_is_named(directory, arrays):
    arrays = {k: v.copy() for k, v in arrays.items()}
    arrays["gpt_neox.layers.1.mlp.dense_h_to_4h.bias"][3] = 1e5
    save_safetensors(directory / "model.safetensors", arrays)
    with pytest.raises(bridge.CheckpointError, match=r"1\.mlp\.dense_h_to_4h\.bias holds values"):
        bridge.load(directory, dtype="float16")


def test_old_buffers_are_skipped_whatever_they_hold(directory, params, arrays):
    buffers = {
        f"gpt_neox.layers.{i}.attention.{name}": value
        for i in range(2)
        for name, value in (
            ("bias", np.tril(np.ones((1, 1, 4, 4), bool))),
            ("masked_bias", np.asarray(-np.inf, np.float16)),
            ("rotary_emb.inv_freq", np.asarray([9.0], np.float16)),
        )
    }
    save_safetensors(directory / "model.safetensors", arrays | buffers)
    equal(bridge.load(directory).params, params)


def test_a_buffer_of_a_layer_that_is_not_there_is_unexpected(directory, arrays):
    extra = {"gpt_neox.layers.2.attention.masked_bias": np.zeros(1, np.float32)}
    save_safetensors(directory / "model.safetensors", arrays | extra)
    with pytest.raises(bridge.CheckpointError, match=r"unexpected: gpt_neox\.layers\.2"):
        bridge.load(directory)


def test_everything_wrong_is_named_at_once(directory, arrays):
    wrong = dict(arrays)
    wrong.pop("gpt_neox.layers.0.attention.dense.bias")
    wrong.pop("gpt_neox.final_layer_norm.weight")
    wrong["gpt_neox.layers.0.adapter.weight"] = np.zeros(3, np.float32)
    wrong["gpt_neox.layers.1.mlp.dense_4h_to_h.weight"] = np.zeros((12, 8), np.float32)
    wrong["gpt_neox.embed_in.weight"] = np.zeros((19, 8), np.int64)
    save_safetensors(directory / "model.safetensors", wrong)
    with pytest.raises(bridge.CheckpointError) as caught:
        bridge.load(directory)
    message = str(caught.value)
    assert message.startswith(str(directory / "model.safetensors"))
    assert "\n" not in message
    for part in (
        "missing: gpt_neox.layers.0.attention.dense.bias, gpt_neox.final_layer_norm.weight",
        "unexpected: gpt_neox.layers.0.adapter.weight",
        "gpt_neox.layers.1.mlp.dense_4h_to_h.weight is (12, 8), expected (8, 12)",
        "gpt_neox.embed_in.weight is int64, expected a float",
    ):
        assert part in message


def test_the_unembedding_has_an_alias(directory, params, arrays):
    renamed = dict(arrays)
    renamed["lm_head.weight"] = renamed.pop("embed_out.weight")
    save_safetensors(directory / "model.safetensors", renamed)
    equal(bridge.load(directory).params, params)
    both = renamed | {"embed_out.weight": renamed["lm_head.weight"]}
    save_safetensors(directory / "model.safetensors", both)
    with pytest.raises(bridge.CheckpointError, match=r"embed_out.weight is there under two names"):
        bridge.load(directory)


def test_tied_embeddings(tmp_path, arrays):
    config = dataclasses.replace(make.CONFIG, tied_embeddings=True)
    directory = make.write_config(tmp_path / "tied", config)
    tied = {k: v for k, v in arrays.items() if k != "embed_out.weight"}
    save_safetensors(directory / "model.safetensors", tied)
    assert "embed_out" not in bridge.load(directory).params
    copy = tied | {"embed_out.weight": tied["gpt_neox.embed_in.weight"].copy()}
    save_safetensors(directory / "model.safetensors", copy)
    assert "embed_out" not in bridge.load(directory).params
    copy["embed_out.weight"][3, 4] += 1
    save_safetensors(directory / "model.safetensors", copy)
    with pytest.raises(bridge.CheckpointError, match=r"true, but embed_out.weight differs"):
        bridge.load(directory)


def test_preference_is_as_stated_and_warned_about(directory, params, arrays):
    # The preferred set is right and all others hold something else.
    other = {k: v + 1 for k, v in arrays.items()}
    FORMATS["npz"](directory, other)
    FORMATS["zip"](directory, arrays)
    with pytest.warns(UserWarning, match=r"reading pytorch_model.bin, ignoring model.npz"):
        equal(bridge.load(directory).params, params)
    FORMATS["zip"](directory, other)
    FORMATS["safetensors"](directory, arrays)
    with pytest.warns(UserWarning, match=r"reading model.safetensors, ignoring pytorch_model"):
        equal(bridge.load(directory).params, params)
    FORMATS["safetensors"](directory, other)
    FORMATS["zip shards"](directory, arrays)
    with pytest.warns(UserWarning, match=r"reading pytorch_model.bin.index.json, ignoring model"):
        equal(bridge.load(directory).params, params)
    FORMATS["zip shards"](directory, other)
    FORMATS["safetensors shards"](directory, arrays)
    with pytest.warns(UserWarning, match=r"reading model.safetensors.index.json, ignoring py"):
        checkpoint = bridge.load(directory)
    equal(checkpoint.params, params)
    chosen = bridge.load(directory, weights="model.npz")
    assert (checkpoint.weights, chosen.weights) == ("model.safetensors.index.json", "model.npz")
    equal(chosen.params, jax.tree.map(lambda x: x + 1, params))


def test_directories_without_weights_say_what_was_looked_for(directory, arrays):
    with pytest.raises(bridge.CheckpointError, match=r"no weights found; looked for model\."):
        bridge.load(directory)
    index = FORMATS["safetensors shards"](directory, arrays)
    index.unlink()
    with pytest.raises(bridge.CheckpointError, match=r"part-1-of-2.safetensors is there, but no"):
        bridge.load(directory)


def test_bad_arguments(tmp_path, directory):
    with pytest.raises(bridge.CheckpointError, match="nowhere: not a directory"):
        bridge.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="dtype 'int8' is not supported; known are float32"):
        bridge.load(directory, dtype="int8")
    (directory / "config.json").unlink()
    with pytest.raises(bridge.CheckpointError, match=r"config.json: cannot be read"):
        bridge.load(directory)


def test_views_of_one_storage_and_transposed_strides(directory, params, arrays):
    """torch saves tensors that share memory as views with offsets and strides."""
    name = "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"
    both = np.concatenate([arrays[name].T.ravel(), arrays["gpt_neox.final_layer_norm.bias"]])
    changed = {"shared": both} | {k: v for k, v in arrays.items()}
    tensors = {k: make.torch_tensor(str(i), v) for i, (k, v) in enumerate(changed.items())}
    del tensors["shared"]
    keys = list(changed)
    for view, offset, shape, strides in (
        (name, 0, (12, 8), (1, 12)),
        ("gpt_neox.final_layer_norm.bias", 96, (8,), (1,)),
    ):
        tensors[view] = make.torch_tensor(
            "0", both, offset=offset, shape=shape, strides=strides, count=both.size
        )
        changed[view] = np.zeros(0, np.float32)
    used = {k: v for k, v in changed.items() if v.size}
    path = directory / "pytorch_model.bin"
    make.write_torch_zip(
        path,
        {},
        pickled=make.dumps(tensors),
        extra=[(f"archive/data/{keys.index(k)}", v.tobytes()) for k, v in used.items()],
    )
    equal(bridge.load(directory).params, params)
