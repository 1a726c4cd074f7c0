"""Record the second golden set from transformers: tests/data/golden_gpt_neox.

Run once, in an environment of its own that has torch (the project never needs it):

    python3.11 -m venv /tmp/torchvenv
    /tmp/torchvenv/bin/pip install torch==2.13.0 transformers==5.23.0 numpy
    /tmp/torchvenv/bin/python tests/bridge/families/record_gpt_neox.py

Each case is a random model saved by transformers itself in float16, so with today's
spelling of config.json, and what its float32 copy computes: logits and hidden states,
unpadded and padded on either side. Recording again is legitimate only when the cases
change; if today's code no longer matches the file, the code is wrong.
"""

import copy
import pathlib

import numpy as np
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

ROOT = pathlib.Path(__file__).parents[2] / "data"
CASES = {
    "parallel": {
        "vocab_size": 83,
        "hidden_size": 36,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 60,
        "layer_norm_eps": 1e-3,
        "use_parallel_residual": True,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5000.0,
            "partial_rotary_factor": 0.5,
        },
    },
    "sequential": {
        "vocab_size": 71,
        "hidden_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 5,
        "intermediate_size": 64,
        "layer_norm_eps": 1e-6,
        "use_parallel_residual": False,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 250000.0,
            "partial_rotary_factor": 1.0,
        },
    },
}
LENGTHS = (9, 4, 7)


def randomise(model: torch.nn.Module) -> None:
    """Weights large enough that every part matters: attention peaks, norms shift and scale."""
    for name, parameter in model.named_parameters():
        is_scale = "norm" in name and name.endswith("weight")
        torch.nn.init.normal_(parameter, mean=1.0 if is_scale else 0.0, std=0.25)


def round_parameters(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Round in place; model.to(dtype) would round the rotary frequencies as well."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype).float()


def outputs(model: torch.nn.Module, tokens: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """Logits and hidden states; positions count the real tokens, as generation does."""
    positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
    with torch.no_grad():
        result = model(
            input_ids=torch.from_numpy(tokens),
            attention_mask=torch.from_numpy(mask),
            position_ids=torch.from_numpy(positions),
            output_hidden_states=True,
        )
    states = {f"hidden_{i}": state.numpy() for i, state in enumerate(result.hidden_states)}
    return {"logits": result.logits.numpy(), **states}


def record(name: str, settings: dict) -> None:
    """One case: its directory with config, float16 weights and golden.npz."""
    torch.manual_seed(len(name))
    config = GPTNeoXConfig(
        max_position_embeddings=32,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation="eager",
        **settings,
    )
    model = GPTNeoXForCausalLM(config).eval()
    randomise(model)
    directory = ROOT / "golden_gpt_neox" / name
    round_parameters(model, torch.float16)
    copy.deepcopy(model).half().save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    arrays = {}
    generator = np.random.default_rng(0)
    longest = max(LENGTHS)
    tokens = generator.integers(0, settings["vocab_size"], (len(LENGTHS), longest))
    for side in ("none", "right", "left"):
        mask = np.ones_like(tokens)
        for row, length in enumerate(LENGTHS):
            if side == "right":
                mask[row, length:] = 0
            elif side == "left":
                mask[row, : longest - length] = 0
        padded = np.where(mask, tokens, 0)
        recorded = outputs(model, padded, mask)
        arrays |= {f"{side}_tokens": padded, f"{side}_mask": mask}
        arrays |= {f"{side}_{key}": value for key, value in recorded.items()}
    np.savez_compressed(directory / "golden.npz", **arrays)


def record_rounded() -> None:
    """What transformers computes from the tiny fixture's weights rounded to bfloat16."""
    tiny = ROOT / "tiny_gpt_neox"
    tokens = torch.from_numpy(np.load(tiny / "golden.npz")["input_ids"])
    model = GPTNeoXForCausalLM.from_pretrained(
        tiny / "safetensors_fp16", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        round_parameters(model, torch.bfloat16)
        logits = model(input_ids=tokens).logits.numpy()
    np.savez_compressed(tiny / "golden_bfloat16_weights.npz", logits=logits)


def record_todays_file() -> None:
    """The sequential case as a .bin of this torch, with shared storage and strides."""
    golden = ROOT / "golden_gpt_neox"
    state = GPTNeoXForCausalLM.from_pretrained(golden / "sequential").state_dict()
    norm = "gpt_neox.final_layer_norm"
    both = torch.cat([state[f"{norm}.weight"], state[f"{norm}.bias"]])
    state[f"{norm}.weight"], state[f"{norm}.bias"] = both.chunk(2)
    state["lm_head.weight"] = state["lm_head.weight"].t().contiguous().t()
    (golden / "torch_2_13").mkdir(exist_ok=True)
    torch.save(state, golden / "torch_2_13" / "pytorch_model.bin")


if __name__ == "__main__":
    for case, case_settings in CASES.items():
        record(case, case_settings)
    record_rounded()
    record_todays_file()
