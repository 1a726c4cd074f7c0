"""Both spellings of config.json, what an absent key means, and what is refused by name."""

import json
import shutil

import pytest

from tests.bridge.families.test_goldens import CASES, ROOT, checkpoint
from truncated_weights import bridge
from truncated_weights.bridge import export, families
from truncated_weights.bridge.config import LongRope


def raw(case):
    return json.loads((ROOT / case / "config.json").read_text())


def old_spelling(case):
    """The file as transformers 4 writes it: rope_parameters taken apart, torch_dtype."""
    keys = raw(case)
    keys["torch_dtype"] = keys.pop("dtype")
    rope = keys.pop("rope_parameters", {})
    if case == "gemma3":
        whole, local = rope["full_attention"], rope["sliding_attention"]
        scaling = {"rope_type": "linear", "factor": whole["factor"]}
        bases = {"rope_theta": whole["rope_theta"], "rope_local_base_freq": local["rope_theta"]}
        return keys | bases | {"rope_scaling": scaling}
    top = {"rope_theta": "rope_theta", "partial_rotary_factor": "partial_rotary_factor"}
    if case == "gpt_neox":
        top = {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}
    keys |= {new: rope.pop(name) for name, new in top.items() if name in rope}
    if rope.get("rope_type", "default") != "default":
        kind = rope.pop("rope_type")
        keys["rope_scaling"] = {**rope, "type": "su" if kind == "longrope" else kind}
    return keys


@pytest.mark.parametrize("case", CASES)
def test_the_older_spelling_is_the_same_model(case):
    assert families.from_dict(old_spelling(case)) == checkpoint(case).config


@pytest.mark.parametrize("case", CASES)
def test_a_written_config_reads_back(case):
    config = checkpoint(case).config
    written = json.loads(json.dumps(families.to_dict(config, "bfloat16")))
    assert families.from_dict(written) == config
    assert written["model_type"] == raw(case)["model_type"]
    assert written["architectures"] == raw(case)["architectures"]


@pytest.mark.parametrize(
    ("case", "absent", "field", "value"),
    [
        ("mistral", "sliding_window", "windows", (4096,)),
        ("qwen2", "tie_word_embeddings", "tied_embeddings", False),
        ("gpt2", "tie_word_embeddings", "tied_embeddings", True),
        ("gpt2", "n_inner", "d_ff", 128),
        ("gptj", "n_inner", "d_ff", 128),
        ("roberta", "tie_word_embeddings", "tied_embeddings", True),
        ("roberta", "layer_norm_eps", "norm_eps", 1e-12),
        ("llama2", "rms_norm_eps", "norm_eps", 1e-6),
        ("phi3", "rms_norm_eps", "norm_eps", 1e-5),
        ("phi3", "sliding_window", "windows", ()),
        ("phi", "rope_parameters", "rotary_fraction", 0.5),
        ("phi3", "rope_parameters", "rotary_fraction", 1.0),
        ("llama2", "rope_parameters", "rotary_base", 10000.0),
        ("llama3", "num_key_value_heads", "groups", 4),
        ("llama3", "head_dim", "head_dim", 8),
    ],
)
def test_what_an_absent_key_means(case, absent, field, value):
    keys = raw(case)
    del keys[absent]
    if case == "gpt2" and absent == "tie_word_embeddings":
        del keys["n_inner"]
    assert getattr(families.from_dict(keys), field) == value


def test_mistral_has_eight_key_heads_and_qwen2_thirty_two_unless_it_says():
    for case, groups in (("mistral", 8), ("qwen2", 32)):
        keys = raw(case) | {"num_attention_heads": 32, "hidden_size": 64}
        del keys["num_key_value_heads"]
        assert families.from_dict(keys).groups == groups


def test_longrope():
    long = checkpoint("phi3_long").config.rope_scaling
    assert isinstance(long, LongRope)
    # sqrt(1 + ln F / ln original) with F = 64 / 12.
    assert long.scale == pytest.approx(1.2937, rel=1e-5)
    keys = raw("phi3_long")
    keys["rope_parameters"] |= {"attention_factor": 1.5, "factor": 4.0}
    assert families.from_dict(keys).rope_scaling.scale == 1.5
    keys = raw("phi3_long") | {"original_max_position_embeddings": 30}
    assert families.from_dict(keys).rope_scaling.original == 30
    published = {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096}
    assert families.from_dict(raw("phi3_long") | published).rope_scaling.scale == pytest.approx(
        1.190, abs=5e-4
    )


def test_both_spellings_must_agree():
    both = old_spelling("llama3") | {"rope_parameters": raw("llama3")["rope_parameters"]}
    assert families.from_dict(both) == checkpoint("llama3").config
    for change, complaint in (
        ({"rope_theta": 100.0}, "rope_theta 100 and rope_theta 500 disagree"),
        (
            {"rope_scaling": {**both["rope_scaling"], "factor": 2.0}},
            "rope_scaling and rope_parameters disagree",
        ),
        ({"dtype": "float16"}, "dtype float16 and torch_dtype float32 differ"),
    ):
        with pytest.raises(bridge.CheckpointError, match=complaint):
            families.from_dict(both | change)


@pytest.mark.parametrize(
    ("case", "change", "complaint"),
    [
        ("llama2", {"quantization_config": {"bits": 4}}, "quantization_config: quantised"),
        ("llama2", {"model_type": "mixformer-sequential"}, "model_type 'mixformer-sequential'"),
        ("llama2", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type 'linear'"),
        ("llama2", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
        ("llama2", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_type 'yarn'"),
        ("llama2", {"rope_scaling": {"rope_type": "longrope"}}, "rope_type 'longrope'"),
        ("llama2", {"rope_scaling": {"rope_type": "llama3"}}, "lacks factor, low_freq_factor"),
        ("llama2", {"rope_scaling": [1]}, "rope_scaling is .1.; expected an object"),
        ("llama2", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 is not supported"),
        ("llama2", {"qk_norm": True}, "qk_norm true is not supported; only False is"),
        ("llama2", {"num_key_value_heads": 3}, "num_heads 4 is not a multiple of num_groups 3"),
        ("llama2", {"num_key_value_heads": 8}, "num_groups is 8; expected an integer from 1 to 4"),
        ("llama2", {"head_dim": "8"}, "head_dim is '8'; expected an integer"),
        ("llama2", {"head_dim": 7}, "rotates 7 dimensions; expected a positive even number"),
        ("llama2", {"hidden_act": "relu2"}, "hidden_act 'relu2' is not supported"),
        ("mistral", {"sliding_window": -3}, "window is -3"),
        ("mistral", {"layer_types": ["full_attention"] * 2}, "unknown keys: layer_types"),
        ("qwen2_windows", {"layer_types": ["full_attention"]}, "expected one per layer"),
        ("qwen2_windows", {"layer_types": ["chunked"] * 3}, "layer_types names 'chunked'"),
        ("qwen2_windows", {"use_sliding_window": False}, "use_sliding_window is false"),
        ("phi3", {"attention_bias": True}, "attention_bias true is not supported"),
        ("phi3_long", {"max_position_embeddings": 0}, "max_position_embeddings is 0"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights false is not supported"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention true is not supported"),
        ("gemma2", {"layer_types": ["chunked"] * 3}, "layer_types names 'chunked'"),
        ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0"),
        ("gemma3", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "'yarn' is not"),
        ("smollm3", {"no_rope_layers": [1, 2, 1]}, "expected 0 or 1 per layer"),
        ("gptj", {"rotary_dim": 9}, "rotary_dim is 9; expected 1 to 8"),
        ("gptj", {"rotary_dim": 3}, "rotates 3 dimensions"),
        ("gptj", {"n_head": 0}, "num_heads is 0|rotary_dim"),
        ("roberta", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("roberta", {"is_decoder": True}, "is_decoder true is not supported"),
        ("roberta", {"tie_word_embeddings": False}, "tie_word_embeddings false is not supported"),
        ("roberta", {"max_position_embeddings": 2}, "leaves no position beyond padding 1"),
        ("roberta", {"pad_token_id": 61}, "pad_id is 61|leaves no position"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(case, change, complaint):
    keys = raw(case)
    if "rope_scaling" in change:
        del keys["rope_parameters"]
    with pytest.raises(bridge.CheckpointError, match=complaint):
        families.from_dict(keys | change)


PUBLISHED = [
    # Qwen2.5-0.5B and 1.5B, Llama-3.2, copies of SmolLM and others.
    ("qwen2", {"use_mrope": False, "head_dim": None}, {"use_mrope": True}),
    ("qwen2", {"head_dim": 8}, {"head_dim": 16}),
    ("phi3", {"head_dim": 8, "lm_head_bias": False}, {"head_dim": 9}),
    ("gptj", {"head_dim": 8}, {"head_dim": "8"}),
    ("llama2", {"is_llama_config": True, "rope_interleaved": False}, {"is_llama_config": False}),
    ("llama2", {"transformers.js_config": {"dtype": "q4"}, "_x": 1}, {"rope_interleaved": True}),
    ("mistral", {"attention_bias": False, "mlp_bias": False}, {"attention_bias": True}),
    ("phi", {"pretraining_tp": 1}, {"pretraining_tp": 2}),
]


@pytest.mark.fault("E1")
@pytest.mark.parametrize(("case", "harmless", "refused"), PUBLISHED)
def test_keys_that_are_harmless_at_one_value(case, harmless, refused):
    keys, config = raw(case), checkpoint(case).config
    for name in harmless | refused:
        keys.pop(name, None)
    assert families.from_dict(keys | harmless) == config
    (name,) = refused
    with pytest.raises(bridge.CheckpointError, match=f"{name} .* is not supported; only "):
        families.from_dict(keys | refused)
    assert families.from_dict(keys | refused, ignore=(name,)) == config


@pytest.mark.fault("E1")
def test_keys_are_read_past_by_name(tmp_path):
    target = shutil.copytree(ROOT / "llama2", tmp_path / "llama2")
    (target / "config.json").write_text(json.dumps(raw("llama2") | {"new_part": 3}))
    with pytest.raises(
        bridge.CheckpointError, match="unknown keys: new_part; what changes nothing"
    ):
        bridge.load(target)
    found = bridge.load(target, ignore=("new_part",))
    assert (found.config, found.ignored) == (checkpoint("llama2").config, ("new_part",))
    saved = export.save(found, tmp_path / "saved")
    assert json.loads((saved / "config.json").read_text())["new_part"] == 3
    with pytest.raises(bridge.CheckpointError, match="keys to ignore that are not there: newpart"):
        bridge.load(target, ignore=("newpart",))
    with pytest.raises(bridge.CheckpointError, match="missing keys: hidden_size"):
        bridge.load(target, ignore=("hidden_size", "new_part"))


def test_longrope_with_the_wrong_number_of_factors():
    keys = raw("phi3_long")
    keys["rope_parameters"]["long_factor"] = [1.0]
    with pytest.raises(bridge.CheckpointError, match="the rope has 1 long factors; expected 3"):
        families.from_dict(keys)
    keys["rope_parameters"]["long_factor"] = [1.0, 0.0, 1.0]
    with pytest.raises(bridge.CheckpointError, match=r"long_factor is 0\.0; expected a positive"):
        families.from_dict(keys)
