"""Architectures against the published table, and config.json in both spellings."""

import json

import jax
import pytest

from truncated_weights import bridge
from truncated_weights.bridge import families, module

# Layers, d_model, heads, rotary dimensions, parameters, as published.
PUBLISHED = {
    "14m": (6, 128, 4, 8, 14_067_712),
    "31m": (6, 256, 8, 8, 30_494_720),
    "70m": (6, 512, 8, 16, 70_426_624),
    "160m": (12, 768, 12, 16, 162_322_944),
    "410m": (24, 1024, 16, 16, 405_334_016),
    "1b": (16, 2048, 8, 64, 1_011_781_632),
    "1.4b": (24, 2048, 16, 32, 1_414_647_808),
    "2.8b": (32, 2560, 32, 20, 2_775_208_960),
    "6.9b": (32, 4096, 32, 32, 6_857_302_016),
    "12b": (36, 5120, 40, 32, 11_846_072_320),
}
OLD = {
    "model_type": "gpt_neox",
    "vocab_size": 64,
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 16,
    "rotary_pct": 0.5,
    "rotary_emb_base": 5000,
    "torch_dtype": "float16",
}


def new_spelling():
    new = {k: v for k, v in OLD.items() if k not in ("rotary_pct", "rotary_emb_base")}
    new["rope_parameters"] = {
        "rope_type": "default",
        "partial_rotary_factor": 0.5,
        "rope_theta": 5000.0,
    }
    new["dtype"] = new.pop("torch_dtype")
    return new


def test_every_size_has_its_published_parameters():
    assert tuple(PUBLISHED) == bridge.SIZES
    for size, (layers, d_model, heads, rotary, count) in PUBLISHED.items():
        config = bridge.config_for_size(size)
        assert (config.num_layers, config.d_model, config.num_heads) == (layers, d_model, heads)
        assert config.rotary_dim == rotary
        assert sum(leaf.size for leaf in jax.tree.leaves(module.shapes(config))) == count


def test_unknown_size():
    with pytest.raises(ValueError, match=r"size '70b' is not a Pythia; known are 14m"):
        bridge.config_for_size("70b")


def test_both_spellings_are_one_architecture():
    assert families.from_dict(OLD) == families.from_dict(new_spelling())
    assert families.from_dict(OLD).rotary_dim == 8
    assert families.stored_dtype(OLD) == families.stored_dtype(new_spelling()) == "float16"


@pytest.mark.parametrize("size", ["70m", "12b"])
def test_written_config_reads_back(size):
    config = bridge.config_for_size(size)
    assert families.from_dict(json.loads(json.dumps(families.to_dict(config, "float16")))) == config


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"hidden_act": "quick_gelu"}, "hidden_act 'quick_gelu' is not supported; known are gelu,"),
        ({"model_type": "mamba"}, "model_type 'mamba' is not supported; known are gpt_neox, gptj"),
        ({"quantization_config": {"bits": 4}}, "quantization_config: quantised weights"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type 'yarn' is not supported"),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            "rope_type 'linear' is not supported",
        ),
        ({"rope_parameters": {"rope_theta": 1e4}}, "rotary_emb_base 5000 and rope_theta 10000"),
        ({"rope_parameters": {"factor": 4}}, "the rope has unknown keys: factor"),
        ({"attention_bias": False}, "attention_bias false is not supported"),
        (
            {"qk_layernorm": True, "window": 4},
            "qk_layernorm true is not supported.* unknown keys: window",
        ),
        ({"hidden_size": 33}, "d_model 33 is not a multiple of num_heads 2"),
        ({"hidden_size": "32"}, "hidden_size is '32'; expected an integer"),
        ({"num_hidden_layers": 10**12}, "num_layers is 1000000000000"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"rotary_pct": 0.0}, "rotary_pct is 0.0; expected in"),
        ({"rotary_pct": 0.19}, "rotates 3 dimensions; expected a positive even number"),
        ({"layer_norm_eps": -1.0}, "norm_eps is -1.0"),
        ({"rotary_emb_base": "10000"}, "rotary_emb_base is '10000'"),
        ({"use_parallel_residual": 1}, "use_parallel_residual is 1; expected true or false"),
        ({"torch_dtype": "int8"}, "dtype 'int8' is not supported"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(change, complaint):
    with pytest.raises(bridge.CheckpointError, match=complaint):
        families.from_dict(OLD | change)


def test_every_missing_key_is_named():
    few = {k: v for k, v in OLD.items() if k not in ("vocab_size", "hidden_size")}
    with pytest.raises(bridge.CheckpointError, match="missing keys: vocab_size, hidden_size"):
        families.from_dict(few)
    with pytest.raises(bridge.CheckpointError, match="missing keys: model_type"):
        families.from_dict({k: v for k, v in OLD.items() if k != "model_type"})
