"""GGUF files for tests, through the gguf library's writer, with what llama.cpp's converter changes.

The three changes are written here as that converter states them, from transformers' tensors to
the file's; bridge.gguf.names undoes them.
"""

import json
import pathlib

import gguf
import numpy as np
from safetensors.numpy import load_file

FAMILIES = pathlib.Path(__file__).parents[2] / "data" / "families"
# Recorded model -> architecture, and the names of its tensors in a file.
NAMES = {
    "llama": {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "self_attn.qkv_proj": "attn_qkv",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
        "mlp.gate_up_proj": "ffn_up",
    },
    "phi2": {
        "model.embed_tokens": "token_embd", "model.final_layernorm": "output_norm",
        "lm_head": "output", "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.dense": "attn_output", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down",
    },
    "gptneox": {
        "gpt_neox.embed_in": "token_embd", "gpt_neox.final_layer_norm": "output_norm",
        "embed_out": "output", "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm", "attention.query_key_value": "attn_qkv",
        "attention.dense": "attn_output", "mlp.dense_h_to_4h": "ffn_up",
        "mlp.dense_4h_to_h": "ffn_down",
    },
    "gpt2": {
        "transformer.wte": "token_embd", "transformer.wpe": "position_embd",
        "transformer.ln_f": "output_norm", "lm_head": "output", "ln_1": "attn_norm",
        "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
        "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    },
}  # fmt: skip
CASES = {
    "llama2": "llama", "llama3": "llama", "mistral_full": "llama", "qwen2": "qwen2",
    "phi": "phi2", "phi3": "phi3", "phi3_long": "phi3", "gpt_neox": "gptneox", "gpt2": "gpt2",
}  # fmt: skip


def permute(weights, heads):
    """Rows of a Llama's queries or keys, as convert_hf_to_gguf orders them."""
    return (
        weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
        .swapaxes(1, 2)
        .reshape(weights.shape)
    )


def renamed(case, config, tensors):
    """(name, array) in the file of every tensor of a recorded model."""
    architecture = CASES[case]
    table = NAMES.get(architecture, NAMES["llama"])
    heads = config.get("num_attention_heads", config.get("n_head"))
    groups = config.get("num_key_value_heads") or heads
    for name, array in tensors.items():
        module, _, leaf = name.rpartition(".")
        if "rotary_emb" in name or name.endswith((".attn.bias", "masked_bias", ".attention.bias")):
            continue
        layer = next((part for part in module.split(".") if part.isdigit()), None)
        inside = module if layer is None else module.split(f".{layer}.", 1)[1]
        short = f"{table[inside]}.{leaf}"
        if architecture == "llama" and inside == "self_attn.q_proj":
            array = permute(array, heads)
        if architecture == "llama" and inside == "self_attn.k_proj":
            array = permute(array, groups)
        if architecture == "gptneox" and inside == "attention.query_key_value":
            parts = array.reshape(heads, 3, -1, *array.shape[1:])
            array = np.concatenate([parts[:, i].reshape(-1, *array.shape[1:]) for i in range(3)])
        if architecture == "gpt2" and array.ndim == 2 and layer is not None:
            array = array.T
        yield (short if layer is None else f"blk.{layer}.{short}"), np.ascontiguousarray(array)


def describe(writer, architecture, config):
    """The keys of a configuration."""
    get = lambda *keys: next((config[key] for key in keys if config.get(key) is not None), None)  # noqa: E731
    heads, width = get("num_attention_heads", "n_head"), get("hidden_size", "n_embd")
    writer.add_block_count(get("num_hidden_layers", "n_layer"))
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(get("intermediate_size", "n_inner") or 4 * width)
    writer.add_head_count(heads)
    writer.add_context_length(get("max_position_embeddings", "n_positions"))
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if architecture in ("llama", "qwen2", "phi3"):
        writer.add_head_count_kv(get("num_key_value_heads") or heads)
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    else:
        writer.add_layer_norm_eps(get("layer_norm_eps", "layer_norm_epsilon"))
    if architecture != "gpt2":
        base = rope.get("rope_theta") or get("rope_theta", "rotary_emb_base") or 1e4
        share = rope.get("partial_rotary_factor") or get("partial_rotary_factor", "rotary_pct")
        writer.add_rope_freq_base(base)
        writer.add_rope_dimension_count(int(width // heads * (share or 1)))
    if architecture == "gptneox":
        writer.add_parallel_residual(config.get("use_parallel_residual", True))
    if architecture == "llama" and config.get("head_dim"):
        writer.add_key_length(config["head_dim"])
    if architecture == "phi3" and config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    return rope


def add_words(writer, size):
    """A tokenizer of single letters and what they are merged to."""
    letters = [chr(ord("a") + i) for i in range(26)]
    pairs = [(one, other) for one in letters for other in letters][: size - 27]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(["<end>", *letters, *("".join(pair) for pair in pairs)])
    writer.add_token_types([3] + [1] * (size - 1))
    writer.add_token_merges([" ".join(pair) for pair in pairs])
    writer.add_eos_token_id(0)


def write(path, case, *, kinds=lambda name: None, split=0, words=False):
    """A recorded model as a GGUF file; kinds says in which type each tensor goes, None as it is."""
    source = FAMILIES / case
    config = json.loads((source / "config.json").read_text())
    architecture = CASES[case]
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=split)
    rope = describe(writer, architecture, config)
    if words:
        add_words(writer, config["vocab_size"])
    if "long_factor" in rope:
        original = rope.get("original_max_position_embeddings")
        writer.add_rope_scaling_orig_ctx_len(original or config["original_max_position_embeddings"])
        for length in ("long", "short"):
            factors = np.array(rope[f"{length}_factor"], np.float32)
            writer.add_tensor(f"rope_factors_{length}.weight", factors)
    for name, array in renamed(case, config, load_file(source / "model.safetensors")):
        kind = kinds(name)
        if kind is None:
            writer.add_tensor(name, array.astype(np.float32))
        else:
            data = gguf.quants.quantize(array.astype(np.float32), kind)
            writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
