"""Record what transformers computes for small random models of every family.

Run once, in an environment of its own that has torch (the project never needs it):

    python3.11 -m venv /tmp/torchvenv
    /tmp/torchvenv/bin/pip install torch==2.13.0 transformers==5.23.0 numpy
    /tmp/torchvenv/bin/python tests/bridge/families/record.py [CASE ...]

Writes tests/data/families/CASE/{config.json, model.safetensors, golden.npz}: the model as
transformers saves it, and what it computes in float32. Norms are away from 1 and biases
away from 0, so that nothing can be left out unnoticed; embeddings are small, so that eps
matters. golden.npz holds, for each SIDE of none, right and left padding,

    SIDE_tokens, SIDE_mask [rows, length], SIDE_logits [rows, length, vocab]
    none_hidden_0 ... none_hidden_L [rows, length, d]     the last one after the final norm
    greedy [rows, 6]            the argmax after left padding, one full forward per token

and `short_...` in place of `none_...` for a second, shorter text where a case has one.
Recording again is legitimate only when the cases change; if today's code no longer matches
the files, the code is wrong.
"""

import pathlib
import sys

import numpy as np
import torch
import transformers

ROOT = pathlib.Path(__file__).parents[2] / "data" / "families"
LENGTHS = (20, 15)
SHORT = (10, 7)
NEW = 6
ROPE = {"rope_type": "default", "rope_theta": 500.0}
GPT = {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 48}
LLAMA = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 44,
    "max_position_embeddings": 64,
    "rope_parameters": ROPE,
}
# Wavelengths 2 pi / f from 6 to 1,100 tokens: some below orig / high, some between, some above.
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 500.0,
    "short_factor": [1.0, 1.1, 1.3],
    "long_factor": [1.4, 2.2, 5.0],
}
GEMMA = {**LLAMA, "head_dim": 12, "num_hidden_layers": 3, "query_pre_attn_scalar": 20,
         "sliding_window": 5}  # fmt: skip
CASES = {
    "qwen3": ("Qwen3", {**LLAMA, "head_dim": 12}),
    "qwen3_windows": (
        "Qwen3",
        {
            **LLAMA,
            "head_dim": 8,
            "attention_bias": True,
            "num_hidden_layers": 3,
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 1,
        },
    ),
    "olmo2": ("Olmo2", {**LLAMA, "rms_norm_eps": 1e-5}),
    "smollm3": (
        "SmolLM3",
        {**LLAMA, "num_hidden_layers": 3, "no_rope_layers": [1, 0, 1], "tie_word_embeddings": True},
    ),
    "gemma2": (
        "Gemma2",
        {**GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    ),
    "gemma3": (
        "Gemma3",
        {
            **GEMMA,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            },
        },
    ),
    "gpt2_by_layer": ("GPT2", {**GPT, "scale_attn_by_inverse_layer_idx": True}),
    "phi_normed": (
        "Phi",
        {
            **LLAMA,
            "num_key_value_heads": 4,
            "qk_layernorm": True,
            "rope_parameters": {**ROPE, "partial_rotary_factor": 0.5},
        },
    ),
    "gptj": ("GPTJ", {**GPT, "rotary_dim": 4, "layer_norm_epsilon": 1e-5}),
    "gpt2": ("GPT2", {**GPT, "n_inner": 72}),
    "llama2": ("Llama", {**LLAMA, "num_key_value_heads": 4, "rms_norm_eps": 1e-5}),
    "llama3": (
        "Llama",
        {**LLAMA, "rope_parameters": LLAMA3, "head_dim": 12, "rms_norm_eps": 1e-5},
    ),
    "llama3_tied": (
        "Llama",
        {**LLAMA, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    ),
    "mistral": ("Mistral", {**LLAMA, "sliding_window": 6, "head_dim": 12}),
    "mistral_full": ("Mistral", {**LLAMA, "sliding_window": None, "head_dim": None}),
    "qwen2": ("Qwen2", {**LLAMA, "tie_word_embeddings": True}),
    "qwen2_windows": (
        "Qwen2",
        {
            **LLAMA,
            "num_hidden_layers": 3,
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 1,
        },
    ),
    "phi": (
        "Phi",
        {
            **LLAMA,
            "num_key_value_heads": 4,
            "rope_parameters": {**ROPE, "partial_rotary_factor": 0.5},
        },
    ),
    "phi_groups": ("Phi", {**LLAMA, "rope_parameters": {**ROPE, "partial_rotary_factor": 0.75}}),
    "phi3": (
        "Phi3",
        {**LLAMA, "num_key_value_heads": 4, "sliding_window": 7, "tie_word_embeddings": True},
    ),
    "phi3_long": (
        "Phi3",
        {
            **LLAMA,
            "original_max_position_embeddings": 12,
            "rope_parameters": {**LONGROPE, "partial_rotary_factor": 0.75},
        },
    ),
    "roberta": (
        "Roberta",
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 44,
            "max_position_embeddings": 34,
            "layer_norm_eps": 1e-5,
            "type_vocab_size": 1,
        },
    ),
    "roberta_tanh": (
        "Roberta",
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 44,
            "max_position_embeddings": 34,
            "hidden_act": "gelu_new",
            "type_vocab_size": 2,
        },
    ),
    "gpt_neox": (
        "GPTNeoX",
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 44,
            "max_position_embeddings": 48,
            "rope_parameters": {**ROPE, "partial_rotary_factor": 0.5},
        },
    ),
}
VOCAB = 61
PAD = 1


def build(kind: str, settings: dict) -> torch.nn.Module:
    """A random model of the transformers class for `kind`."""
    last = "ForMaskedLM" if kind == "Roberta" else ("LMHeadModel" if kind == "GPT2" else None)
    text = "Text" if kind == "Gemma3" else ""
    config = getattr(transformers, f"{kind}{text}Config")(
        vocab_size=VOCAB,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=PAD,
        attn_implementation="eager",
        **settings,
    )
    model = getattr(transformers, kind + (last or "ForCausalLM"))(config).eval()
    for name, parameter in model.named_parameters():
        lower = name.lower()
        norm = "norm" in lower or ".ln_" in lower
        if norm and name.endswith("weight"):
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
        else:
            embeds = any(part in lower for part in ("embed", "wte", "wpe"))
            torch.nn.init.normal_(parameter, std=0.1 if embeds else 0.25)
    return model


def padded(
    tokens: np.ndarray, lengths: tuple[int, ...], side: str
) -> tuple[np.ndarray, np.ndarray]:
    """The tokens with the rows' ends, or beginnings, replaced by padding; and the mask."""
    mask = np.ones_like(tokens)
    for row, length in enumerate(lengths):
        if side == "right":
            mask[row, length:] = 0
        elif side == "left":
            mask[row, : tokens.shape[1] - length] = 0
    return np.where(mask, tokens, PAD), mask


def outputs(model: torch.nn.Module, tokens: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """Logits and hidden states; positions count the real tokens, as generation does."""
    keywords = {}
    if model.config.model_type != "roberta":  # which counts them itself
        positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
        keywords["position_ids"] = torch.from_numpy(positions)
        keywords["use_cache"] = False
    with torch.no_grad():
        result = model(
            input_ids=torch.from_numpy(tokens),
            attention_mask=torch.from_numpy(mask),
            output_hidden_states=True,
            **keywords,
        )
    states = {f"hidden_{i}": state.numpy() for i, state in enumerate(result.hidden_states)}
    return {"logits": result.logits.numpy(), **states}


def greedy(model: torch.nn.Module, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The most probable continuation, from a whole forward pass for every token."""
    for _ in range(NEW):
        best = outputs(model, tokens, mask)["logits"][:, -1].argmax(axis=-1)
        tokens = np.concatenate([tokens, best[:, None]], axis=1)
        mask = np.concatenate([mask, np.ones_like(best)[:, None]], axis=1)
    return tokens[:, -NEW:]


def record(name: str, kind: str, settings: dict) -> None:
    """One case: its directory with config, float32 weights and golden.npz."""
    torch.manual_seed(len(name))
    model = build(kind, settings)
    directory = ROOT / name
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    tokens = np.random.default_rng(len(name)).integers(5, VOCAB, (2, max(LENGTHS)))
    texts = {side: padded(tokens, LENGTHS, side) for side in ("none", "right", "left")}
    if "long" in name:
        texts["short"] = padded(tokens[:, : max(SHORT)], SHORT, "left")
    arrays = {}
    for side, (ids, mask) in texts.items():
        recorded = outputs(model, ids, mask)
        arrays |= {f"{side}_tokens": ids.astype(np.int32), f"{side}_mask": mask.astype(bool)}
        arrays |= {
            f"{side}_{key}": value
            for key, value in recorded.items()
            if key == "logits" or side in ("none", "short")
        }
    if kind != "Roberta":
        start = "short" if "short" in texts else "left"
        # Row by row: a LongRope of transformers goes by the longest text of a batch.
        rows = [[array[[row]] for array in texts[start]] for row in range(len(LENGTHS))]
        found = [greedy(model, ids, mask) for ids, mask in rows]
        arrays["greedy"] = np.concatenate(found).astype(np.int32)
    np.savez_compressed(directory / "golden.npz", **arrays)


if __name__ == "__main__":
    for case, (kind, settings) in CASES.items():
        if not sys.argv[1:] or case in sys.argv[1:]:
            record(case, kind, settings)
