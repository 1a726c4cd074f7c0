"""Each mistake that a reader of these families can make, made: the goldens must notice.

A mistake is a changed Config or changed parameters. What it does to the logits is compared
with the tolerance of the goldens, 1e-5; a mistake that moved them less could hide there.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.bridge.families import test_goldens as goldens
from truncated_weights import bridge
from truncated_weights.bridge import network as model
from truncated_weights.bridge.network import one_layer

NOTICED = 5e-5


def changed(**fields):
    return lambda config, params: (dataclasses.replace(config, **fields), params)


def smaller_eps(config, params):
    return dataclasses.replace(config, norm_eps=config.norm_eps / 10), params


def in_layers(change):
    """A mistake in every layer's parameters."""

    def mistake(config, params):
        layers = [{**layer, **change(config, layer)} for layer in params["layers"]]
        return config, {**params, "layers": layers}

    return mistake


def per_head(kernel, config, order):
    heads = np.asarray(kernel).reshape(*kernel.shape[:-1], -1, config.head_dim)
    return jnp.asarray(heads[..., order].reshape(kernel.shape))


def pairs_left(config, layer):
    """Rows in the file's order: halves rotated where the weights mean pairs."""
    r = config.rotary_dim
    order = np.arange(config.head_dim)
    order[:r] = np.arange(r).reshape(2, -1).T.reshape(-1)
    return {
        name: {**layer[name], "kernel": per_head(layer[name]["kernel"], config, order)}
        for name in ("q_proj", "k_proj")
    }


def tiled(config, layer):
    """Key head j % G for query head j, where j // (H / G) is meant."""
    groups = np.arange(config.num_heads).reshape(config.groups, -1)
    order = np.argsort(groups.T.reshape(-1))

    def heads(linear):
        kernel = np.asarray(linear["kernel"])
        blocks = kernel.reshape(kernel.shape[0], config.num_heads, -1)[:, order]
        return {"kernel": jnp.asarray(blocks.reshape(kernel.shape))}

    out = np.asarray(layer["out_proj"]["kernel"])
    blocks = out.reshape(config.num_heads, -1, out.shape[1])[order]
    return {
        "q_proj": {**layer["q_proj"], **heads(layer["q_proj"])},
        "out_proj": {**layer["out_proj"], "kernel": jnp.asarray(blocks.reshape(out.shape))},
    }


def swapped(config, layer):
    return {"fc_in": layer["fc_gate"], "fc_gate": layer["fc_in"]}


def one_plus(config, layer):
    names = [name for name in ("attn_norm", "mlp_norm") if name in layer]
    return {name: {**layer[name], "scale": 1 + layer[name]["scale"]} for name in names}


def transposed(config, layer):
    return {"out_proj": {**layer["out_proj"], "kernel": layer["out_proj"]["kernel"].T}}


def no_head_bias(config, params):
    kept = {name: leaf for name, leaf in params["embed_out"].items() if name != "bias"}
    return dataclasses.replace(config, head_bias=False), {**params, "embed_out": kept}


def wrong_scale(config, layer):
    """Scores over sqrt(d / H) where a head has another size."""
    factor = (config.head_dim / (config.d_model / config.num_heads)) ** 0.5
    return {"q_proj": {"kernel": layer["q_proj"]["kernel"] * factor}}


def longrope(**fields):
    def mistake(config, params):
        scaling = dataclasses.replace(config.rope_scaling, **fields)
        return dataclasses.replace(config, rope_scaling=scaling), params

    return mistake


def no_ramp(config, params):
    """Every frequency either kept or divided, as if low and high were one."""
    scaling = config.rope_scaling
    scaling = dataclasses.replace(scaling, low=scaling.high - 1e-3)
    return dataclasses.replace(config, rope_scaling=scaling), params


def positions_from_zero(config, params):
    table = params["positions"]["embedding"][: config.max_positions]
    return dataclasses.replace(config, pad_id=None), {**params, "positions": {"embedding": table}}


HAZARDS = {
    "erf for tanh": ("gptj", changed(activation="gelu")),
    "erf for tanh in gpt2": ("gpt2", changed(activation="gelu")),
    "tanh for erf": ("roberta", changed(activation="gelu_tanh")),
    "eps / 10 in layer norm": ("phi", smaller_eps),
    "eps / 10 in rms norm": ("llama2", smaller_eps),
    "pairs left as they are": ("gptj", in_layers(pairs_left)),
    "the whole head rotated": ("phi", changed(rotary_fraction=1.0)),
    "scale of d for e": ("mistral", in_layers(wrong_scale)),
    "llama3 scaling off": ("llama3", changed(rope_scaling=None)),
    "llama3 without its ramp": ("llama3", no_ramp),
    "longrope off": ("phi3_long", changed(rope_scaling=None)),
    "longrope's scale omitted": ("phi3_long", longrope(scale=1.0)),
    "long factors on a short text": ("phi3_long short", longrope(original=1)),
    "scale omitted on a short text": ("phi3_long short", longrope(scale=1.0)),
    "short factors on a long text": ("phi3_long", longrope(original=10**6)),
    "key heads tiled": ("llama3", in_layers(tiled)),
    "key heads of phi tiled": ("phi_groups", in_layers(tiled)),
    "gate and up swapped": ("llama2", in_layers(swapped)),
    "gate and up of phi3 swapped": ("phi3", in_layers(swapped)),
    "1 + w": ("qwen2", in_layers(one_plus)),
    "layer norm for rms": ("mistral_full", None),
    "window one too wide": ("mistral", changed(windows=(7,))),
    "window off": ("phi3", changed(windows=())),
    "window in every layer": ("qwen2_windows", changed(windows=(5,))),
    "window in the wrong layers": ("qwen2_windows", changed(windows=(5, 0, 0))),
    "out_proj as stored": ("gpt2", in_layers(transposed)),
    "head bias lost": ("phi", no_head_bias),
    "head bias of gptj lost": ("gptj", no_head_bias),
    "head bias of roberta lost": ("roberta", no_head_bias),
    "positions from 0": ("roberta", positions_from_zero),
    "queries and keys not normalised": ("qwen3", changed(query_norm="")),
    "all heads' norm left out": ("olmo2", changed(query_norm="")),
    "norms of phi's queries left out": ("phi_normed", changed(query_norm="")),
    "norms behind left out": ("gemma2", changed(norm_place="before")),
    "w for 1 + w": ("gemma2", changed(norm_offset=0.0)),
    "embeddings not scaled": ("gemma2", changed(embed_scale=1.0)),
    "scores by the head's size": ("gemma2", changed(score_scales=())),
    "scores not capped": ("gemma2", changed(score_cap=0.0)),
    "logits not capped": ("gemma2", changed(logit_cap=0.0)),
    "no window in gemma": ("gemma2", changed(windows=())),
    "one rope for local and global": ("gemma3", changed(rope_bases=())),
    "global rope not scaled": ("gemma3", changed(rope_factors=())),
    "every layer rotated": ("smollm3", changed(rope_bases=())),
    "scores alike in all layers": ("gpt2_by_layer", changed(score_scales=())),
    "pre for parallel": ("gpt_neox", changed(residual="pre")),
    "the future hidden": ("roberta", None),
}


def layer_norm_for_rms(config, params):
    """Subtracting the mean as well; the bias that layer norm has is zero."""

    def widen(norm):
        return {**norm, "bias": jnp.zeros_like(norm["scale"])}

    layers = [
        {name: widen(leaf) if "scale" in leaf else leaf for name, leaf in layer.items()}
        for layer in params["layers"]
    ]
    config = dataclasses.replace(config, norm="layer")
    return config, {**params, "layers": layers, "final_norm": widen(params["final_norm"])}


@pytest.mark.parametrize("name", HAZARDS)
def test_the_goldens_notice(name, monkeypatch):
    case, mistake = HAZARDS[name]
    case, _, side = case.partition(" ")
    side = side or "left"
    right, recorded = goldens.checkpoint(case), goldens.golden(case)
    tokens, mask, expected = (recorded[f"{side}_{key}"] for key in ("tokens", "mask", "logits"))
    assert goldens.error(bridge.logits(right, tokens, mask=mask), expected, mask) < 1e-5
    if name == "the future hidden":
        # No Config says so, hence in the one place where attention looks.
        causal = dataclasses.replace(right.config, masked=False)
        whole = one_layer.attend
        monkeypatch.setattr(one_layer, "attend", lambda _, *rest: whole(causal, *rest))
        with jax.disable_jit():
            found = bridge.logits(right, tokens, mask=mask)
    else:
        change = mistake or layer_norm_for_rms
        config, params = change(right.config, right.params)
        found = bridge.logits(bridge.Checkpoint(config, params), tokens, mask=mask)
    assert goldens.error(found, expected, mask) > NOTICED


def test_two_kinds_of_gelu_at_three():
    """gelu(3): 2.996363 by tanh, 2.995950 by erf (gelu_new and gelu of transformers)."""
    three = jnp.asarray([3.0])
    values = [float(model.ACTIVATIONS[name](three)[0]) for name in ("gelu_tanh", "gelu")]
    np.testing.assert_allclose(values, [2.996363, 2.995950], atol=1e-6)


def test_a_wavelength_of_the_fixture_lies_on_the_ramp():
    config = goldens.checkpoint("llama3").config
    exponents = np.arange(0, config.head_dim, 2) / config.head_dim
    waves = 2 * np.pi * config.rotary_base**exponents
    scaling = config.rope_scaling
    low, high = scaling.original / scaling.high, scaling.original / scaling.low
    assert np.any(waves < low)
    assert np.any((low < waves) & (waves < high))
    assert np.any(waves > high)


def test_one_norm_serves_both_halves_of_a_parallel_layer():
    """GPT-J and Phi have one norm, and one array for it, so an edit reaches both readers."""
    for case in ("gptj", "phi"):
        layer = goldens.checkpoint(case).params["layers"][0]
        assert "mlp_norm" not in layer
        assert set(layer["attn_norm"]) == {"scale", "bias"}
