"""Edited weights back to disk: read by the safetensors package and by this one."""

import dataclasses
import errno
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.bridge import make
from tests.bridge.test_load import equal
from truncated_weights import bridge
from truncated_weights.bridge import checkpoint as checkpoints
from truncated_weights.bridge import export, sharding

RNG = np.random.default_rng(0)


@pytest.fixture
def original(tmp_path):
    """A float16 directory as the hub has it, with a tokenizer and an old-style config."""
    directory = tmp_path / "original"
    directory.mkdir()
    config = {
        "model_type": "gpt_neox",
        "architectures": ["GPTNeoXForCausalLM"],
        "vocab_size": 19,
        "num_hidden_layers": 2,
        "hidden_size": 8,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "max_position_embeddings": 2048,
        "rotary_pct": 0.5,
        "rotary_emb_base": 10000,
        "torch_dtype": "float16",
        "use_cache": True,
    }
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "tokenizer.json").write_text('{"model": "kept as it is"}')
    arrays = make.stored(make.random_params())
    half = {name: array.astype(np.float16) for name, array in arrays.items()}
    safetensors.numpy.save_file(half, directory / "model.safetensors")
    return directory


def test_what_was_read_is_written_back_to_the_byte(original, tmp_path):
    exported = export.save(bridge.load(original), tmp_path / "copy")
    before = safetensors.numpy.load_file(original / "model.safetensors")
    after = safetensors.numpy.load_file(exported / "model.safetensors")
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert after[name].dtype == np.float16
        np.testing.assert_array_equal(after[name], array)
    for name in ("tokenizer.json", "config.json"):
        first, second = ((d / name).read_text() for d in (original, exported))
        assert json.loads(first) == json.loads(second)
    assert sorted(os.listdir(exported)) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert safetensors.safe_open(exported / "model.safetensors", "np").metadata() == {
        "format": "pt"
    }


@pytest.mark.fault("E2")
def test_every_file_of_which_a_reader_makes_the_tokenizer_is_copied(original, tmp_path):
    names = (
        *("tokenizer.model", "added_tokens.json", "chat_template.jinja", "20B_tokenizer.json"),
        *("special_tokens_map.json", "tokenizer_config.json", "generation_config.json"),
        *("vocab.json", "vocab.txt", "merges.txt", "tekken.json", "tokenizer.model.v3"),
        "additional_chat_templates/tools.jinja",
    )
    others = ("README.md", "training_args.bin", "model.safetensors.index.json", "pytorch.model")
    (original / "additional_chat_templates").mkdir()
    for name in (*names, *others):
        (original / name).write_bytes(f"{name}, to the byte \xe9\r\n".encode("latin-1"))
    checkpoint = bridge.load(original, weights="model.safetensors")
    exported = export.save(checkpoint, tmp_path / "copy")
    copied = {str(f.relative_to(exported)) for f in exported.rglob("*") if f.is_file()}
    assert copied == {"config.json", "model.safetensors", "tokenizer.json", *names}
    for name in names:
        assert (exported / name).read_bytes() == (original / name).read_bytes()


@pytest.mark.fault("A9")
def test_every_tensor_keeps_its_dtype(original, tmp_path):
    path = original / "model.safetensors"
    arrays = {
        name: a.astype(np.float32) / 3 for name, a in safetensors.numpy.load_file(path).items()
    }
    first = "gpt_neox.embed_in.weight"
    arrays[first] = arrays[first].astype(np.float16)
    safetensors.numpy.save_file(arrays, path)
    checkpoint = bridge.load(original)
    assert checkpoint.stored_dtype == "float32"
    exported = export.save(checkpoint, tmp_path / "copy")
    after = safetensors.numpy.load_file(exported / "model.safetensors")
    for name, array in arrays.items():
        assert after[name].dtype == array.dtype
        np.testing.assert_array_equal(after[name], array)
    # One dtype for a reader that wants one: the one that holds all.
    assert json.loads((exported / "config.json").read_text())["torch_dtype"] == "float32"
    split, _ = with_factors(checkpoint, KEYS)
    thin = export.save(split, tmp_path / "thin", factored=True)
    found = safetensors.numpy.load_file(thin / "factored.safetensors")
    assert {str(array.dtype) for name, array in found.items() if name != first} == {"float32"}
    assert found[first].dtype == np.float16


@pytest.mark.fault("A9")
def test_a_dtype_that_cannot_be_written_is_told_when_asked(original, tmp_path):
    path = original / "model.safetensors"
    arrays = safetensors.numpy.load_file(path)
    arrays["gpt_neox.final_layer_norm.bias"] = np.zeros(8)
    safetensors.numpy.save_file(arrays, path)
    checkpoint = bridge.load(original)
    with pytest.raises(bridge.CheckpointError, match="final_norm/bias is stored in float64"):
        export.require_writable(checkpoint)
    with pytest.raises(bridge.CheckpointError, match="give a dtype, float32 or"):
        export.save(checkpoint, tmp_path / "out")
    export.require_writable(checkpoint, "float32")
    equal(
        bridge.load(export.save(checkpoint, tmp_path / "out", dtype="float32")).params,
        checkpoint.params,
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_an_edit_survives_in_every_dtype(original, tmp_path, dtype):
    checkpoint = bridge.load(original)
    checkpoint.params["layers"][1]["v_proj"]["kernel"] = jnp.full((8, 8), 0.75)
    exported = export.save(checkpoint, tmp_path / "edited", dtype=dtype)
    again = bridge.load(exported)
    assert again.stored_dtype == dtype
    assert json.loads((exported / "config.json").read_text())["torch_dtype"] == dtype
    rounded = jax.tree.map(lambda x: x.astype(dtype).astype(jnp.float32), checkpoint.params)
    equal(again.params, rounded)


def test_a_directory_is_checked_without_reading_its_payload(original):
    assert checkpoints.check(original) == bridge.load(original).config
    path = original / "model.safetensors"
    arrays = safetensors.numpy.load_file(path)
    arrays.pop("embed_out.weight")
    safetensors.numpy.save_file(arrays, path)
    with pytest.raises(bridge.CheckpointError, match=r"missing: embed_out\.weight"):
        checkpoints.check(original)


def test_a_fresh_model_gets_a_fresh_configuration(tmp_path):
    for tied in (False, True):
        config = dataclasses.replace(
            make.CONFIG, tied_embeddings=tied, residual="pre", rotary_fraction=1.0
        )
        params = make.random_params(config)
        again = bridge.load(export.save(bridge.Checkpoint(config, params), tmp_path / str(tied)))
        assert again.config == config
        equal(again.params, params)


def with_factors(checkpoint, keys):
    """The checkpoint with matrices in random factors, and the same with their products."""
    split, whole = (jax.tree.map(lambda x: x, checkpoint.params) for _ in range(2))
    for (layer, matrix), rank in keys.items():
        linear = checkpoint.params["layers"][layer][matrix]
        d_in, d_out = linear["kernel"].shape
        first = jnp.asarray(RNG.normal(size=(d_in, rank)), jnp.float32)
        second = jnp.asarray(RNG.normal(size=(rank, d_out)), jnp.float32)
        split["layers"][layer][matrix] = {
            "kernel_in": first,
            "kernel_out": second,
            "bias": linear["bias"],
        }
        product = jnp.matmul(first, second, precision="highest")
        whole["layers"][layer][matrix] = {"kernel": product, "bias": linear["bias"]}
    return (dataclasses.replace(checkpoint, params=p) for p in (split, whole))


KEYS = {(0, "fc_in"): 3, (1, "k_proj"): 2, (1, "fc_out"): 1, (0, "out_proj"): 0}


def test_factors_are_kept_or_multiplied_out(original, tmp_path):
    split, whole = with_factors(bridge.load(original), KEYS)
    kept = export.save(split, tmp_path / "kept", factored=True, dtype="float32")
    assert (kept / "factored.safetensors").is_file()
    assert not (kept / "model.safetensors").exists()
    arrays = safetensors.numpy.load_file(kept / "factored.safetensors")
    assert arrays["gpt_neox.layers.0.mlp.dense_h_to_4h.factor_in"].shape == (3, 8)
    assert arrays["gpt_neox.layers.0.mlp.dense_h_to_4h.factor_out"].shape == (12, 3)
    assert "gpt_neox.layers.0.mlp.dense_h_to_4h.weight" not in arrays
    assert "gpt_neox.layers.0.attention.query_key_value.weight" in arrays
    assert arrays["gpt_neox.layers.1.attention.query_key_value.q_proj.weight"].shape == (8, 8)
    assert arrays["gpt_neox.layers.1.attention.query_key_value.k_proj.factor_in"].shape == (2, 8)
    equal(bridge.load(kept).params, split.params)

    shardings = sharding.param_shardings(split.config, sharding.make_mesh(model=1))
    with pytest.raises(bridge.CheckpointError, match="cannot be spread over a mesh; export"):
        bridge.load(kept, shardings=shardings)

    dense = bridge.load(export.save(split, tmp_path / "dense", dtype="float32"))
    assert jax.tree.structure(dense.params) == jax.tree.structure(whole.params)
    tokens = RNG.integers(0, 19, (2, 6))
    expected = bridge.logits(whole, tokens)
    for checkpoint in (split, dense, bridge.load(kept)):
        np.testing.assert_allclose(bridge.logits(checkpoint, tokens), expected, rtol=0, atol=1e-4)


def test_damaged_factors_are_refused(original, tmp_path):
    split, _ = with_factors(bridge.load(original), KEYS)
    kept = export.save(split, tmp_path / "kept", factored=True)
    path = kept / "factored.safetensors"
    arrays = safetensors.numpy.load_file(path)
    name = "gpt_neox.layers.0.mlp.dense_h_to_4h"
    for change, complaint in (
        ({f"{name}.factor_out": None}, "missing: .*h_to_4h.factor_out"),
        ({f"{name}.factor_out": np.zeros((12, 4), np.float16)}, r"\(12, 4\), expected \(12, 3\)"),
        ({f"{name}.factor_in": np.zeros((9, 8), np.float16)}, "rank 9 exceeds 8"),
        ({f"{name}.factor_in": np.zeros(3, np.float16)}, r"is \(3,\), expected \(3, 8\)"),
        ({f"{name}.weight": np.zeros((12, 8), np.float16)}, "unexpected: .*h_to_4h.weight"),
    ):
        changed = {k: v for k, v in (arrays | change).items() if v is not None}
        safetensors.numpy.save_file(changed, path)
        with pytest.raises(bridge.CheckpointError, match=complaint):
            bridge.load(kept)
    # In a file of the usual name, factors are just unexpected.
    safetensors.numpy.save_file(arrays, kept / "model.safetensors")
    with pytest.raises(bridge.CheckpointError, match=r"unexpected: .*factor_in"):
        bridge.load(kept, weights="model.safetensors")


def test_a_directory_appears_whole_or_not_at_all(original, tmp_path):
    checkpoint = bridge.load(original)
    target = tmp_path / "out"
    huge = dataclasses.replace(
        checkpoint, params=jax.tree.map(lambda x: x * 1e9, checkpoint.params)
    )
    with pytest.raises(bridge.CheckpointError, match="holds values too large for float16"):
        export.save(huge, target)
    assert os.listdir(tmp_path) == ["original"]
    export.save(checkpoint, target)
    with pytest.raises(bridge.CheckpointError, match="exists; give another directory"):
        export.save(checkpoint, target)
    with pytest.raises(bridge.CheckpointError, match="holds values too large for float16"):
        export.save(huge, target, overwrite=True)
    equal(bridge.load(target).params, checkpoint.params)
    export.save(huge, target, overwrite=True, dtype="float32")
    equal(bridge.load(target).params, huge.params)
    assert sorted(os.listdir(tmp_path)) == ["original", "out"]


def test_bad_arguments(original, tmp_path):
    checkpoint = bridge.load(original)
    with pytest.raises(ValueError, match="dtype 'int4' is not supported"):
        export.save(checkpoint, tmp_path / "out", dtype="int4")
    with pytest.raises(bridge.CheckpointError, match="no matrix is in factors"):
        export.save(checkpoint, tmp_path / "out", factored=True)


@pytest.mark.fault("B1")
def test_what_is_replaced_stays_where_the_new_cannot_take_its_place(tmp_path, monkeypatch):
    target = tmp_path / "model"
    target.mkdir()
    (target / "old").write_text("precious")
    real = pathlib.Path.rename

    def rename(self, to):
        if self.name == "new":
            raise OSError(errno.ENOSPC, "full")
        return real(self, to)

    monkeypatch.setattr(pathlib.Path, "rename", rename)
    with pytest.raises(OSError, match="full"), export._appearing_whole(target, True) as new:
        (new / "config.json").write_text("{}")
    assert os.listdir(tmp_path) == ["model"]
    assert os.listdir(target) == ["old"]


@pytest.mark.fault("B2")
def test_a_link_is_no_place_for_a_checkpoint(tmp_path, original):
    link, theirs = tmp_path / "model", tmp_path / "theirs"
    for there in (False, True):
        if there:
            theirs.mkdir()
        link.unlink(missing_ok=True)
        link.symlink_to(theirs)
        with pytest.raises(bridge.CheckpointError, match="is a link"):
            export.save(bridge.load(original), link, overwrite=True)
    assert not list(theirs.iterdir())
