"""Recorded models of transformers as GGUF: read back to the bit, and to the recorded logits."""

import dataclasses
import json

import gguf
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.bridge.gguf import writer
from truncated_weights import bridge
from truncated_weights.bridge import checkpoint, export
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.gguf import container, names

# What llama.cpp's converter does not write: a Llama's head_dim where it is the usual one.
NOT_SAID = {"rope_scaling": None}


@pytest.mark.parametrize("case", writer.CASES)
def test_every_architecture_is_read_to_the_bit(case, tmp_path):
    plain = bridge.load(writer.FAMILIES / case)
    read = bridge.load(writer.write(tmp_path / "model.gguf", case))
    changed = NOT_SAID if case == "llama3" else {}
    if case == "mistral_full":
        changed = {"family": "llama"}  # its file says so
    said = dataclasses.replace(read.config, norm_eps=plain.config.norm_eps)
    assert said == dataclasses.replace(plain.config, **changed)
    assert read.config.norm_eps == pytest.approx(plain.config.norm_eps, rel=1e-6)
    assert jax.tree.structure(read.params) == jax.tree.structure(plain.params)
    for ours, theirs in zip(*map(jax.tree.leaves, (read.params, plain.params)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert read.quantised == {}
    assert checkpoint.architecture(tmp_path) == read.config


def test_the_logits_are_those_of_transformers(tmp_path):
    golden = np.load(writer.FAMILIES / "llama2" / "golden.npz")
    read = bridge.load(writer.write(tmp_path / "model.gguf", "llama2"))
    found = np.asarray(bridge.logits(read, golden["none_tokens"]))
    assert np.abs(found - golden["none_logits"]).max() < 1e-5 * np.abs(golden["none_logits"]).max()


def test_a_split_file_is_read_from_its_first_part(tmp_path):
    whole = writer.write(tmp_path / "whole.gguf", "llama2")
    folder = tmp_path / "parts"
    folder.mkdir()
    writer.write(folder / "parts.gguf", "llama2", split=8)
    parts = sorted(folder.iterdir())
    assert len(parts) > 2
    for place in (parts[0], folder):
        for ours, theirs in zip(
            *map(jax.tree.leaves, (bridge.load(place).params, bridge.load(whole).params)),
            strict=True,
        ):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(CheckpointError, match="give the first"):
        bridge.load(parts[1])
    parts[1].unlink()
    with pytest.raises(CheckpointError, match="parts missing: " + parts[1].name):
        bridge.load(parts[0])


def test_mixed_quantised_types_are_those_of_the_library(tmp_path):
    """Every tensor as gguf's own reader and unpacking have it, and the export holds them."""
    types = {
        "attn_q": gguf.GGMLQuantizationType.Q4_1, "ffn_up": gguf.GGMLQuantizationType.Q8_0,
        "attn_v": gguf.GGMLQuantizationType.F16, "output": gguf.GGMLQuantizationType.BF16,
    }  # fmt: skip
    path = writer.write(
        tmp_path / "m.gguf", "llama2",
        kinds=lambda name: types.get(name.removesuffix(".weight").split(".")[-1]),
    )  # fmt: skip
    read = bridge.load(path)
    assert set(read.quantised.values()) == {"Q4_1", "Q8_0"}
    reference = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        for tensor in gguf.GGUFReader(path).tensors
    }
    for layer, params in enumerate(read.params["layers"]):
        for matrix, name in (("fc_in", "ffn_up"), ("v_proj", "attn_v")):
            np.testing.assert_array_equal(
                params[matrix]["kernel"].T, reference[f"blk.{layer}.{name}.weight"]
            )
    np.testing.assert_array_equal(read.params["embed_out"]["kernel"].T, reference["output.weight"])
    # float16 and bfloat16 stay what they are; what was quantised is float32 from here on.
    assert read.tensor_dtypes["layers", 0, "v_proj", "kernel"] == "float16"
    assert read.tensor_dtypes["layers", 0, "fc_in", "kernel"] == "float32"


@pytest.mark.parametrize("kind", container.QUANTISED)
def test_every_quantised_type_is_unpacked_in_blocks_as_by_the_library(kind, tmp_path, monkeypatch):
    name, numbers, size, _ = container.QUANTISED[kind]
    assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]] == (numbers, size)
    rng = np.random.default_rng(kind)
    data = rng.integers(0, 256, (7, 2 * size), np.uint8)
    types = gguf.GGMLQuantizationType[name]
    writing = gguf.GGUFWriter(tmp_path / "one.gguf", "llama")
    writing.add_tensor("matrix", data, raw_dtype=types)
    for step in ("header", "kv_data", "tensors"):
        getattr(writing, f"write_{step}_to_file")()
    writing.close()
    monkeypatch.setattr(container, "rows_per_block", lambda *_: 2)
    tensor = container.read([tmp_path / "one.gguf"]).tensors["matrix"]
    assert tensor.shape == (7, 2 * numbers)
    blocks = list(tensor.read(1))
    assert [len(block) for block in blocks] == [2, 2, 2, 1]
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(np.concatenate(blocks), gguf.quants.dequantize(data, types))


def test_rounding_is_told_about_right():
    """Of uniform weights, whose entries lie anywhere between two levels."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(-1, 1, (64, 256)).astype(np.float32)
    kind = gguf.GGMLQuantizationType.Q4_1
    rounded = gguf.quants.dequantize(gguf.quants.quantize(weights, kind), kind)
    tensor = container.StoredTensor(weights.shape, np.dtype("<f4"), lambda _: iter([rounded]))
    assert container.rounding(tensor, "Q4_1") == pytest.approx(np.std(rounded - weights), rel=0.05)


def test_the_published_ropes_of_llama_are_known_by_their_factors():
    """The factors as llama.cpp's converter computes them, from wave lengths."""
    raw = {"hidden_size": 4096, "num_attention_heads": 32, "rope_theta": 5e5}
    for factor in (8.0, 32.0):
        factors = []
        for frequency in 1.0 / 5e5 ** (np.arange(0, 128, 2) / 128):
            length = 2 * np.pi / frequency
            if length < 8192 / 4:
                factors.append(1.0)
            elif length > 8192:
                factors.append(factor)
            else:
                smooth = (8192 / length - 1) / (4 - 1)
                factors.append(1 / ((1 - smooth) / factor + smooth))
        found = names._llama3(np.array(factors), raw)
        assert (found["rope_type"], found["factor"]) == ("llama3", factor)
    with pytest.raises(CheckpointError, match="no published Llama"):
        names._llama3(np.array(factors) * 1.01, raw)


def test_an_export_is_read_as_the_file_was(tmp_path):
    types = {"blk.0.ffn_up.weight": gguf.GGMLQuantizationType.Q8_0}
    path = writer.write(tmp_path / "m.gguf", "qwen2", kinds=types.get)
    read = bridge.load(path)
    object.__setattr__(read, "directory", None)  # this one has no tokenizer
    export.save(read, tmp_path / "out")
    again = bridge.load(tmp_path / "out")
    assert again.config == read.config
    for ours, theirs in zip(*map(jax.tree.leaves, (again.params, read.params)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert "model.embed_tokens.weight" in load_file(tmp_path / "out" / "model.safetensors")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "qwen2"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN), None),
        (lambda w: w.add_tensor("blk.0.extra.weight", np.ones((2, 2), np.float32)), "unexpected"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(change, said, tmp_path, monkeypatch):
    before = writer.describe

    def describe(writing, *rest):
        found = before(writing, *rest)
        change(writing)
        if said is None:
            writing.add_rope_scaling_factor(4.0)
        return found

    monkeypatch.setattr(writer, "describe", describe)
    with pytest.raises(CheckpointError, match=said or "rope.scaling.type 'yarn'"):
        bridge.load(writer.write(tmp_path / "m.gguf", "llama2"))


def test_an_unknown_architecture_is_refused_by_name(tmp_path):
    writing = gguf.GGUFWriter(tmp_path / "m.gguf", "mamba")
    writing.add_tensor("token_embd.weight", np.ones((2, 2), np.float32))
    for step in ("header", "kv_data", "tensors"):
        getattr(writing, f"write_{step}_to_file")()
    writing.close()
    with pytest.raises(CheckpointError, match="'mamba' is not supported; known are llama, qwen2"):
        bridge.load(tmp_path / "m.gguf")


@pytest.mark.parametrize(
    "metadata",
    [
        {"llama.attention.head_count": 0},
        {"llama.attention.head_count": "four"},
        {"llama.attention.key_length": 2**31},
        {"llama.embedding_length": -1},
        {"llama.rope.dimension_count": "all"},
        {"llama.rope.freq_base": "much"},
        {"llama.rope.freq_base": -1.0},
    ],
)
def test_what_is_no_size_is_one_line_before_anything_is_computed(metadata, tmp_path):
    path = writer.write(tmp_path / "m.gguf", "llama2")
    contents = container.read([path])
    factors = container.StoredTensor(
        (4,), np.dtype("<f4"), lambda _: iter([np.ones(4, np.float32)])
    )
    tensors = {**contents.tensors, "rope_freqs.weight": factors}
    broken = container.Contents({**contents.metadata, **metadata}, tensors, {})
    with pytest.raises(CheckpointError) as told:
        names.describe(broken)
    assert "\n" not in str(told.value)
